//! Compiled plans kept in `$XDG_CACHE_HOME/capsule/plans/`, so that a run starts no interpreter.
//!
//! A plan is found by what it was compiled from (version, presets, architecture, policy, tool) and used only while
//! every source still has the digest that the plan names. What lies in the cache is as hostile as any file: it is
//! parsed anew each time. It refuses a directory or file that is not this user's own or that others may write, and
//! symbolic links; an unusable cache is an error to be shown, never a silent slow path.

use super::find::Chosen;
use super::presets;
use super::read::MAX_BYTES;
use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file name for one policy and tool.
pub fn key(chosen: &Chosen, tool: Option<&str>) -> String {
    // What a linked policy extends lies beside the file it leads to: leading elsewhere, it is another policy.
    let leads = match chosen {
        Chosen::File(path) if path.is_symlink() => path.canonicalize().unwrap_or_default(),
        _ => PathBuf::new(),
    };
    let (kind, name) = match chosen {
        Chosen::File(path) => ("file", path.as_os_str().as_bytes()),
        Chosen::Preset(name) => ("preset", name.as_bytes()),
    };
    let mut hasher = blake3::Hasher::new_derive_key("capsule plan cache v1");
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let tool_given: &[u8] = if tool.is_some() { b"tool" } else { b"" };
    let parts: [&[u8]; 8] = [
        version,
        presets::DIGEST.as_bytes(),
        std::env::consts::ARCH.as_bytes(),
        kind.as_bytes(),
        name,
        tool_given,
        tool.unwrap_or_default().as_bytes(),
        leads.as_os_str().as_bytes(),
    ];
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    format!("{}.json", hasher.finalize().to_hex())
}

/// The cache's directory, opened.
#[derive(Debug)]
pub struct Cache {
    directory: File,
}

impl Cache {
    /// Open the cache beneath capsule's cache directory; `None` when there is none yet.
    pub fn open(own: &Path) -> io::Result<Option<Self>> {
        let path = own.join("plans");
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let directory = match File::options().read(true).custom_flags(flags).open(&path) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        ours(&directory)?;
        Ok(Some(Self { directory }))
    }

    /// Open it, making it (0700) when it is not there.
    pub fn create(own: &Path) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(own.join("plans"))?;
        Self::open(own)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// The bytes kept under a key.
    pub fn get(&self, key: &str) -> io::Result<Option<Vec<u8>>> {
        let file = match self.at(key, libc::O_RDONLY | libc::O_NONBLOCK) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if !file.metadata()?.is_file() {
            return Err(refused("is not a regular file"));
        }
        ours(&file)?;
        let mut bytes = Vec::with_capacity(64 << 10);
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Keep bytes under a key; readers see the old or the new, never a part.
    pub fn put(&self, key: &str, bytes: &[u8]) -> io::Result<()> {
        let mut random = [0u8; 8];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let temporary = format!(".{:016x}", u64::from_le_bytes(random));
        let mut file = self.at(&temporary, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| self.rename(&temporary, key));
        if written.is_err() {
            let name = c_name(&temporary)?;
            // SAFETY: a valid descriptor and C string.
            unsafe { libc::unlinkat(self.directory.as_raw_fd(), name.as_ptr(), 0) };
        }
        written
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to, fd) = (c_name(from)?, c_name(to)?, self.directory.as_raw_fd());
        // SAFETY: valid descriptors and C strings.
        match unsafe { libc::renameat(fd, from.as_ptr(), fd, to.as_ptr()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn at(&self, name: &str, flags: i32) -> io::Result<File> {
        let name = c_name(name)?;
        let flags = flags | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        // SAFETY: a valid descriptor and C string.
        let fd = unsafe { libc::openat(self.directory.as_raw_fd(), name.as_ptr(), flags, 0o600) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        Ok(unsafe { File::from_raw_fd(fd) })
    }
}

fn c_name(name: &str) -> io::Result<std::ffi::CString> {
    std::ffi::CString::new(OsStr::new(name).as_bytes()).map_err(io::Error::other)
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// Ours, and nobody else's to write.
fn ours(file: &File) -> io::Result<()> {
    let found = file.metadata()?;
    // SAFETY: geteuid cannot fail and touches no memory.
    if found.uid() != unsafe { libc::geteuid() } {
        return Err(refused("belongs to another user; remove it"));
    }
    if found.mode() & 0o022 != 0 {
        return Err(refused(
            "may be written by others; remove it or take that away with: chmod go-w",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn keeps_and_finds() {
        let here = tempfile::tempdir().unwrap();
        let own = here.path().join("capsule");
        assert!(Cache::open(&own).unwrap().is_none());
        let cache = Cache::create(&own).unwrap();
        let plans = own.join("plans");
        assert_eq!(
            fs::metadata(&plans).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert_eq!(cache.get("k").unwrap(), None);
        cache.put("k", b"one").unwrap();
        cache.put("k", b"two").unwrap();
        assert_eq!(cache.get("k").unwrap().unwrap(), b"two");
        assert_eq!(fs::read_dir(&plans).unwrap().count(), 1);
    }

    #[test]
    fn what_others_could_have_put_there_is_refused() {
        let here = tempfile::tempdir().unwrap();
        let cache = Cache::create(here.path()).unwrap();
        let inside = here.path().join("plans");
        fs::write(here.path().join("elsewhere"), "x").unwrap();
        symlink("../elsewhere", inside.join("link")).unwrap();
        assert!(cache.get("link").is_err());
        cache.put("open", b"x").unwrap();
        fs::set_permissions(inside.join("open"), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(cache.get("open").is_err());
        fs::create_dir(inside.join("directory")).unwrap();
        assert!(cache.get("directory").is_err());
        fs::set_permissions(&inside, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Cache::open(here.path()).is_err());
        fs::rename(&inside, here.path().join("moved")).unwrap();
        symlink("moved", &inside).unwrap();
        assert!(Cache::open(here.path()).is_err());
    }

    #[test]
    fn the_key_tells_everything_apart() {
        let file = |name: &str| Chosen::File(name.into());
        let preset = |name: &str| Chosen::Preset(name.into());
        let keys = [
            key(&file("a"), None),
            key(&file("b"), None),
            key(&preset("a"), None),
            key(&file("a"), Some("")),
            key(&file("a"), Some("t")),
        ];
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn a_link_that_leads_elsewhere_is_another_policy() {
        let here = tempfile::tempdir().unwrap();
        let link = here.path().join("p.yaml");
        let keys: Vec<String> = ["one", "two"]
            .iter()
            .map(|name| {
                fs::write(here.path().join(name), "version: 1\n").unwrap();
                let _ = fs::remove_file(&link);
                symlink(name, &link).unwrap();
                key(&Chosen::File(link.clone()), None)
            })
            .collect();
        assert_ne!(keys[0], keys[1]);
    }
}
