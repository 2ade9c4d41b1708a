//! The files a plan was compiled from: who may have written them, and what they say now.
//!
//! It refuses a source that is not a regular file of at most 1 MiB, that belongs to somebody else than this user or
//! root, or that everybody may write.

use super::load::LoadError;
use super::model::Plan;
use super::presets;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The longest source, in bytes.
pub const MAX_SOURCE: u64 = 1 << 20;

/// `blake3:` and 64 hex digits.
pub fn digest(bytes: &[u8]) -> String {
    format!("blake3:{}", blake3::hash(bytes).to_hex())
}

/// Whether every source says now what it said when the plan was compiled. An error when one may not be trusted.
pub fn unchanged(plan: &Plan) -> Result<bool, LoadError> {
    for source in &plan.policy.sources {
        let now = match source.path.strip_prefix("preset:") {
            Some(name) => presets::named(name).map(|preset| preset.source.to_owned()),
            None => match read(Path::new(&source.path)) {
                Ok(bytes) => Some(digest(&bytes)),
                Err(LoadError::File(_, error)) if error.kind() == std::io::ErrorKind::NotFound => {
                    None
                }
                Err(error) => return Err(error),
            },
        };
        if now.as_deref() != Some(source.digest.as_str()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The bytes of a source that may be trusted.
pub fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let failed = |error| LoadError::File(path.to_owned(), error);
    let file = open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    // SAFETY: geteuid cannot fail and touches no memory.
    trusted(path, &found, unsafe { libc::geteuid() })?;
    let mut bytes = Vec::new();
    file.take(MAX_SOURCE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_SOURCE {
        return Err(LoadError::Untrusted(
            path.to_owned(),
            "is longer than 1 MiB".to_owned(),
        ));
    }
    Ok(bytes)
}

/// Without waiting for a writer, should it be a FIFO.
fn open(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

fn trusted(path: &Path, found: &Metadata, user: u32) -> Result<(), LoadError> {
    let refuse = |why: String| Err(LoadError::Untrusted(path.to_owned(), why));
    if !found.is_file() {
        return refuse("is not a regular file".to_owned());
    }
    if found.uid() != user && found.uid() != 0 {
        return refuse(format!(
            "belongs to user {}, neither to you nor to root: whoever owns the policy decides what your commands may do",
            found.uid()
        ));
    }
    if found.mode() & 0o002 != 0 {
        return refuse("may be written by everybody; take that away with: chmod o-w".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_files_of_this_user_or_root_that_few_may_write() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("p.yaml");
        fs::write(&path, "version: 1\n").unwrap();
        assert_eq!(read(&path).unwrap(), b"version: 1\n");
        let found = fs::metadata(&path).unwrap();
        assert!(trusted(&path, &found, found.uid()).is_ok());
        if found.uid() != 0 {
            assert!(matches!(
                trusted(&path, &found, found.uid() + 1),
                Err(LoadError::Untrusted(_, _))
            ));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o646)).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("written by everybody"), "{error}");
        assert!(matches!(read(here.path()), Err(LoadError::Untrusted(_, _))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, vec![b' '; (1 << 20) + 1]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("1 MiB"));
    }

    #[test]
    fn a_fifo_does_not_hold_the_run_up() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("fifo");
        let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: the name is a valid C string.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        assert!(matches!(read(&path), Err(LoadError::Untrusted(_, _))));
    }
}
