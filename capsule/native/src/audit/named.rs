//! Where the logs of this user lie that are not called `capsule.log`.
//!
//! A run keeps every `capsule.log` from its command by that name; a log of another name it can only keep when it knows
//! of it. One file in the state directory has their paths, each with a zero byte at its end; a path is added when a log
//! is begun there. It refuses to grow: when it is long, paths that are gone are taken out.
//!
//! `capsule run --log audit/one.log -- make` → a later run in the same directory cannot write `audit/one.log`

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::heads::absolute;
use super::keys::{self, Places};
use super::lock::Hurry;

/// The name that needs no remembering.
pub const USUAL: &str = "capsule.log";
/// Bytes after which paths that are gone are taken out.
const LONG: usize = 64 * 1024;

fn file(state: &Path) -> PathBuf {
    state.join("named-logs")
}

/// Remembers that a log was begun at this path.
///
/// # Errors
/// When it cannot be written.
pub fn remember(places: &Places, log: &Path) -> Result<(), Error> {
    let Some(log) = absolute(log).filter(|log| log.file_name() != Some(OsStr::new(USUAL))) else {
        return Ok(());
    };
    let path = file(&places.state);
    let failed = |source| Error::io("remembering", &path, source);
    let mut list = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
        .map_err(failed)?;
    keys::flock(&list, libc::LOCK_EX, &path, Hurry::default())?;
    add(&mut list, &log).map_err(failed)
}

fn add(list: &mut File, log: &Path) -> io::Result<()> {
    let mut bytes = Vec::new();
    list.read_to_end(&mut bytes)?;
    let known = paths(&bytes);
    if known.iter().any(|path| path == log) {
        return Ok(());
    }
    let mut line = log.as_os_str().as_bytes().to_vec();
    line.push(0);
    if bytes.len() >= LONG {
        let there = known
            .iter()
            .filter(|path| path.symlink_metadata().is_ok())
            .flat_map(|path| path.as_os_str().as_bytes().iter().chain(&[0]));
        let kept: Vec<u8> = there.copied().chain(line).collect();
        list.seek(SeekFrom::Start(0))?;
        list.set_len(0)?;
        return list.write_all(&kept);
    }
    list.write_all(&line)
}

fn paths(bytes: &[u8]) -> Vec<PathBuf> {
    bytes
        .split(|byte| *byte == 0)
        .filter(|path| !path.is_empty())
        .map(|path| PathBuf::from(OsStr::from_bytes(path)))
        .collect()
}

/// Where they lie.
///
/// # Errors
/// When what is remembered cannot be read.
pub fn known(state: &Path) -> Result<Vec<PathBuf>, Error> {
    let path = file(state);
    let failed = |source| Error::io("reading", &path, source);
    let mut list = match File::open(&path) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    // Nobody shortens it meanwhile.
    keys::flock(&list, libc::LOCK_SH, &path, Hurry::default())?;
    let mut bytes = Vec::new();
    list.read_to_end(&mut bytes).map_err(failed)?;
    Ok(paths(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_remembered_once_and_forgotten_when_they_are_gone() {
        let here = tempfile::tempdir().unwrap();
        let root = here.path().canonicalize().unwrap();
        let places = Places {
            data: root.join("data"),
            state: root.clone(),
        };
        assert!(known(&root).unwrap().is_empty());
        let there = root.join("there.log");
        File::create(&there).unwrap();
        for log in [&there, &there, &root.join(USUAL), &root.join("gone\n.log")] {
            remember(&places, log).unwrap();
        }
        let both = vec![there.clone(), root.join("gone\n.log")];
        assert_eq!(known(&root).unwrap(), both);
        let many: Vec<PathBuf> = (0..1000)
            .map(|n| root.join(format!("{n:0>100}.log")))
            .collect();
        many.iter().for_each(|log| remember(&places, log).unwrap());
        let left = known(&root).unwrap();
        assert!(left.len() < 1000 && left.contains(&there), "{}", left.len());
        assert_eq!(left.last(), many.last());
    }
}
