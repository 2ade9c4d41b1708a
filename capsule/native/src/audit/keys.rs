//! Where the log's secrets and memory are kept, and the secrets themselves.
//!
//! The signing key and the redaction salt are created on first use: 32 random bytes each, 0600, in a 0700
//! directory. Refuses files that are links, somebody else's, or readable by others: such a key proves nothing.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;

use super::error::Error;
use super::lock::{Hurry, patiently};

/// The directories of this user.
#[derive(Debug, Clone)]
pub struct Places {
    /// `$XDG_DATA_HOME/capsule`: the key and the salt.
    pub data: PathBuf,
    /// `$XDG_STATE_HOME/capsule`: the remembered heads.
    pub state: PathBuf,
}

impl Places {
    /// As the environment says; relative values are ignored, as the XDG specification demands.
    ///
    /// # Errors
    /// [`Error::Environment`] when neither HOME nor both XDG variables are set.
    pub fn from_env() -> Result<Places, Error> {
        let absolute = |name| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let place = |name, fallback: &str| {
            absolute(name).or_else(|| Some(absolute("HOME")?.join(fallback))).ok_or_else(|| Error::Environment {
                why: format!("nothing says where the log's key and memory are kept ({name} and HOME are not set)"),
            })
        };
        Ok(Places {
            data: place("XDG_DATA_HOME", ".local/share")?.join("capsule"),
            state: place("XDG_STATE_HOME", ".local/state")?.join("capsule"),
        })
    }

    /// The signing key's file.
    pub fn key(&self) -> PathBuf {
        self.data.join("log.key")
    }

    /// The redaction salt's file.
    pub fn salt(&self) -> PathBuf {
        self.data.join("redaction.salt")
    }

    /// The directory of remembered heads.
    pub fn heads(&self) -> PathBuf {
        self.state.join(super::heads::HEADS)
    }
}

/// The signing key, created when there is none.
///
/// # Errors
/// When the file is unsafe, damaged, or cannot be created.
pub fn signing_key(places: &Places) -> Result<SigningKey, Error> {
    secret(&places.data, &places.key(), "capsule-log-key-1")
        .map(|seed| SigningKey::from_bytes(&seed))
}

/// The signing key, if there is one.
///
/// # Errors
/// When the file is there and is unsafe or damaged.
pub fn existing_key(places: &Places) -> Result<Option<SigningKey>, Error> {
    Ok(read(&places.key(), "capsule-log-key-1")?.map(|seed| SigningKey::from_bytes(&seed)))
}

/// The redaction salt, created when there is none.
///
/// # Errors
/// When the file is unsafe, damaged, or cannot be created.
pub fn salt(places: &Places) -> Result<[u8; 32], Error> {
    secret(&places.data, &places.salt(), "capsule-redaction-salt-1")
}

fn secret(dir: &Path, path: &Path, label: &'static str) -> Result<[u8; 32], Error> {
    if let Some(secret) = read(path, label)? {
        return Ok(secret);
    }
    private_dir(dir)?;
    // One creator at a time, or two first runs would each sign with a key the other replaces.
    let lock = File::open(dir).map_err(|source| Error::io("opening", dir, source))?;
    flock(&lock, libc::LOCK_EX, dir, Hurry::default())?;
    if let Some(secret) = read(path, label)? {
        return Ok(secret);
    }
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|why| {
        Error::io(
            "making a key for",
            path,
            std::io::Error::other(why.to_string()),
        )
    })?;
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    // Under the lock nobody else is making it: one that is there was left by a crash.
    let _ = fs::remove_file(&temporary);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(format!("{label} {}\n", STANDARD.encode(secret)).as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| lock.sync_all());
    if let Err(source) = written {
        // Only tidying: the failure that matters is the one reported.
        let _ = fs::remove_file(&temporary);
        return Err(Error::io("creating", path, source));
    }
    Ok(secret)
}

fn read(path: &Path, label: &'static str) -> Result<Option<[u8; 32]>, Error> {
    let Some(mut file) = private_file(path, false)? else {
        return Ok(None);
    };
    let mut text = [0u8; 128];
    let length = file
        .read(&mut text)
        .map_err(|source| Error::io("reading", path, source))?;
    let damaged = || {
        Error::Unsafe {
        path: path.to_owned(),
        why: "is damaged: it does not hold a key".into(),
        next: "restore it from a backup, or move it away and a new one will be made (old logs keep their old key)".into(),
    }
    };
    let text = std::str::from_utf8(&text[..length]).map_err(|_| damaged())?;
    let encoded = text
        .strip_prefix(label)
        .and_then(|rest| rest.strip_prefix(' ')?.strip_suffix('\n'))
        .ok_or_else(damaged)?;
    let secret = STANDARD
        .decode(encoded)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(damaged)?;
    Ok(Some(secret))
}

/// Refuses a file that is not regular, not ours, has several names, or grants any of `forbidden` mode bits.
pub fn check(file: &File, path: &Path, forbidden: u32) -> Result<fs::Metadata, Error> {
    let meta = file
        .metadata()
        .map_err(|source| Error::io("looking at", path, source))?;
    // SAFETY: geteuid has no preconditions and cannot fail.
    let me = unsafe { libc::geteuid() };
    if !meta.is_file() {
        return Err(not_ours(path, "is not a regular file"));
    }
    if meta.uid() != me {
        return Err(not_ours(
            path,
            &format!("belongs to user {}, not to user {me}", meta.uid()),
        ));
    }
    if meta.nlink() > 1 {
        return Err(not_ours(
            path,
            &format!("has {} names (hard links)", meta.nlink()),
        ));
    }
    if meta.mode() & forbidden != 0 {
        return Err(Error::Unsafe {
            path: path.to_owned(),
            why: format!(
                "has mode {:04o}, which lets others at it",
                meta.mode() & 0o7777
            ),
            next: format!("look at it, then `chmod 600 {}`", path.display()),
        });
    }
    Ok(meta)
}

fn not_ours(path: &Path, why: &str) -> Error {
    Error::Unsafe {
        path: path.to_owned(),
        why: why.into(),
        next: "move it away, or choose another place".into(),
    }
}

/// Why a path was not opened with `O_NOFOLLOW`.
pub(super) fn unopened(path: &Path, source: std::io::Error) -> Error {
    match source.raw_os_error() {
        Some(libc::ELOOP) => not_ours(path, "is a symbolic link"),
        _ => Error::io("opening", path, source),
    }
}

/// A file of ours that nobody else may open; `None` where there is none.
///
/// # Errors
/// When it is unsafe or cannot be opened.
pub(super) fn private_file(path: &Path, write: bool) -> Result<Option<File>, Error> {
    opened(path, write, 0)
}

/// As [`private_file`]; where there is none it is made, and its directory.
///
/// # Errors
/// When it or its directory is unsafe, or it cannot be opened.
pub(super) fn made_private_file(path: &Path, write: bool) -> Result<File, Error> {
    if let Some(file) = private_file(path, write)? {
        return Ok(file);
    }
    // In nobody else's directory: there it would keep its owner out.
    path.parent().map_or(Ok(()), private_dir)?;
    opened(path, write, libc::O_CREAT)?
        .ok_or_else(|| unopened(path, std::io::ErrorKind::NotFound.into()))
}

fn opened(path: &Path, write: bool, make: libc::c_int) -> Result<Option<File>, Error> {
    let opened = OpenOptions::new()
        .read(true)
        .write(write)
        .mode(0o600)
        .custom_flags(make | libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    match opened {
        Ok(file) => check(&file, path, 0o077).map(|_| Some(file)),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(unopened(path, why)),
    }
}

/// Makes `dir` and what is above it, all new ones 0700; an existing `dir` must not be writable by others.
pub fn private_dir(dir: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| Error::io("creating", dir, source))?;
    let meta = fs::metadata(dir).map_err(|source| Error::io("looking at", dir, source))?;
    // SAFETY: geteuid has no preconditions and cannot fail.
    let me = unsafe { libc::geteuid() };
    if meta.uid() != me || meta.mode() & 0o022 != 0 {
        return Err(Error::Unsafe {
            path: dir.to_owned(),
            why: format!(
                "can be written by others (owner {}, mode {:04o})",
                meta.uid(),
                meta.mode() & 0o7777
            ),
            next: format!("make it yours alone: `chmod 700 {}`", dir.display()),
        });
    }
    Ok(())
}

/// Takes or releases a whole-file lock, waiting for it no longer than [`patiently`] does.
pub fn flock(file: &File, operation: libc::c_int, path: &Path, hurry: Hurry) -> Result<(), Error> {
    patiently(path, hurry, || {
        // SAFETY: the descriptor is open for as long as `file` lives.
        if unsafe { libc::flock(file.as_raw_fd(), operation | libc::LOCK_NB) } == 0 {
            Ok(())
        } else {
            Err(std::io::Error::last_os_error())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn places() -> (tempfile::TempDir, Places) {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            data: dir.path().join("data/capsule"),
            state: dir.path().join("state/capsule"),
        };
        (dir, places)
    }

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let (_dir, places) = places();
        assert!(existing_key(&places).unwrap().is_none());
        let key = signing_key(&places).unwrap();
        assert_eq!(signing_key(&places).unwrap().to_bytes(), key.to_bytes());
        assert_ne!(salt(&places).unwrap(), key.to_bytes());
        assert_eq!(fs::metadata(places.key()).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(&places.data).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn many_first_runs_make_one_key() {
        let (_dir, places) = places();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| signing_key(&places).unwrap().to_bytes()))
                .collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| key == &keys[0]));
        assert_eq!(fs::read_dir(&places.data).unwrap().count(), 1);
    }

    #[test]
    fn unsafe_or_damaged_keys_are_refused() {
        let (_dir, places) = places();
        signing_key(&places).unwrap();
        let path = places.key();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(
            signing_key(&places)
                .unwrap_err()
                .to_string()
                .contains("chmod 600")
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::hard_link(&path, places.data.join("second")).unwrap();
        assert!(
            signing_key(&places)
                .unwrap_err()
                .to_string()
                .contains("hard links")
        );
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(places.data.join("second"), &path).unwrap();
        assert!(
            signing_key(&places)
                .unwrap_err()
                .to_string()
                .contains("symbolic link")
        );
        fs::remove_file(&path).unwrap();
        for damage in [
            "",
            "capsule-log-key-1 AAAA\n",
            "other AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        ] {
            fs::write(&path, damage).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(
                signing_key(&places)
                    .unwrap_err()
                    .to_string()
                    .contains("damaged")
            );
        }
    }
}
