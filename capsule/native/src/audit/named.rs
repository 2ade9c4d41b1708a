//! Where the logs of this user lie that are not called `capsule.log`, and the policies that are not called
//! `capsule.yaml`.
//!
//! A run keeps every file of those two names from its command; one of another name it can only keep when it knows
//! of it. One file in the state directory has their paths, each with a zero byte at its end; a path is added before a
//! log is begun there, or when a run is under that policy, and runs that are going by then take note of it ([`going`]).
//! It refuses to grow: when it is long, paths that are gone are taken out.
//!
//! `capsule run --log audit/one.log -- make` → no other run in the same directory can write `audit/one.log`

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::genesis;
use super::going;
use super::heads::{self, absolute};
use super::keys::{self, Places};
use super::lock::Hurry;
use crate::plan::Pattern;

/// The name that needs no remembering.
pub const USUAL: &str = "capsule.log";
/// What comes before the path of a policy; a log has nothing there.
const POLICY: &[u8] = b"policy:";
/// Bytes after which paths that are gone are taken out.
const LONG: usize = 64 * 1024;

fn file(state: &Path) -> PathBuf {
    state.join("named-logs")
}

/// The list; it is made where there is none.
///
/// # Errors
/// When it is unsafe, or cannot be opened.
pub fn open(state: &Path, write: bool) -> Result<File, Error> {
    let path = file(state);
    let open = || {
        OpenOptions::new()
            .read(true)
            .write(write)
            .mode(0o600)
            .custom_flags(libc::O_CREAT | libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path)
    };
    let opened = match open() {
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            keys::private_dir(state)?;
            open()
        }
        other => other,
    };
    let list = opened.map_err(|source| match source.raw_os_error() {
        Some(libc::ELOOP) => keys::symlink(&path),
        _ => Error::io("opening", &path, source),
    })?;
    keys::check(&list, &path, 0o077)?;
    Ok(list)
}

/// A path on the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// A log.
    Log(PathBuf),
    /// A policy.
    Policy(PathBuf),
}

impl Named {
    /// Absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Named::Log(path) | Named::Policy(path) => path,
        }
    }

    /// Why it is kept from a command.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Named::Log(_) => "the log of another run",
            Named::Policy(_) => "the policy of another run",
        }
    }

    /// The names to be kept for its sake: its own, and of a log those of what may lie beside it.
    #[must_use]
    pub fn names(&self) -> Vec<Pattern> {
        let name = self.path().as_os_str().as_bytes();
        let mut names = vec![Pattern::literal(name)];
        if let Named::Log(_) = self {
            names.push(Pattern::beginning(&[name, b"."].concat()));
        }
        names
    }

    fn parse(entry: &[u8]) -> Named {
        let path = |bytes| PathBuf::from(OsStr::from_bytes(bytes));
        match entry.strip_prefix(POLICY) {
            Some(policy) => Named::Policy(path(policy)),
            None => Named::Log(path(entry)),
        }
    }

    fn entry(&self) -> Vec<u8> {
        let before = match self {
            Named::Log(_) => &b""[..],
            Named::Policy(_) => POLICY,
        };
        [before, self.path().as_os_str().as_bytes(), &[0]].concat()
    }
}

/// Whether a log's name needs remembering.
#[must_use]
pub fn is_named(log: &Path) -> bool {
    log.file_name() != Some(OsStr::new(USUAL))
}

/// Before a log is begun or gone on with: see to it that no run that is going can write it. Where it was begun here
/// before, all of them know of it.
///
/// # Errors
/// [`Error::Unsafe`] where one can; when that cannot be known, or the list cannot be written.
pub fn claim(places: &Places, log: &Path) -> Result<(), Error> {
    let Some(place) = absolute(log) else {
        return Ok(());
    };
    let state = &places.state;
    going::unwatched(state, &place)?;
    if !is_named(&place) {
        return Ok(());
    }
    let path = file(state);
    let failed = |source| Error::io("remembering", &path, source);
    let mut list = open(state, true)?;
    keys::flock(&list, libc::LOCK_EX, &path, Hurry::default())?;
    let mut bytes = Vec::new();
    list.read_to_end(&mut bytes).map_err(failed)?;
    let listed = Named::Log(place.clone());
    let new = entries(&bytes).all(|entry| Named::parse(entry) != listed);
    let there = place.symlink_metadata().is_ok();
    if !new && there && heads::id_at(places, &place).is_some() {
        return Ok(());
    }
    if new {
        if there {
            // What can be no log is not kept from anybody.
            genesis::look(&place)?;
        }
        add(&mut list, &bytes, &listed).map_err(failed)?;
    }
    let watched = going::watched(state)?;
    if let (Some(watched), true) = (&watched, new) {
        going::count(watched).map_err(failed)?;
    }
    // A monitor that has yet to read the list must not wait for us, who wait for it.
    drop(list);
    if let Some(watched) = &watched {
        going::settled(watched, state, &place)?;
    }
    if absolute(log).as_ref() == Some(&place) {
        Ok(())
    } else {
        Err(Error::contradiction(log, "the way to it keeps changing"))
    }
}

/// Remembers policies that a run is under.
///
/// # Errors
/// When the list cannot be read or written.
pub fn remember(state: &Path, policies: &[Named]) -> Result<(), Error> {
    let path = file(state);
    let failed = |source| Error::io("remembering", &path, source);
    let mut list = open(state, true)?;
    keys::flock(&list, libc::LOCK_EX, &path, Hurry::default())?;
    for policy in policies {
        let mut bytes = Vec::new();
        list.seek(SeekFrom::Start(0)).map_err(failed)?;
        list.read_to_end(&mut bytes).map_err(failed)?;
        if entries(&bytes).all(|entry| Named::parse(entry) != *policy) {
            add(&mut list, &bytes, policy).map_err(failed)?;
        }
    }
    match going::watched(state)? {
        Some(watched) => going::count(&watched).map_err(failed),
        None => Ok(()),
    }
}

/// Puts one more on the list, which holds `bytes` and was read to its end.
fn add(list: &mut File, bytes: &[u8], named: &Named) -> io::Result<()> {
    let line = named.entry();
    if bytes.len() >= LONG {
        // Of the newest some may be logs that are only being begun.
        let newest = bytes.len() - LONG / 4;
        let at = |entry: &[u8]| entry.as_ptr().addr() - bytes.as_ptr().addr();
        let there = |entry: &[u8]| Named::parse(entry).path().symlink_metadata().is_ok();
        let kept = entries(bytes)
            .filter(|entry| at(entry) >= newest || there(entry))
            .flat_map(|entry| entry.iter().chain(&[0]));
        let mut kept: Vec<u8> = kept.copied().chain(line).collect();
        let length = kept.len();
        // In one go, with nothing behind it: whoever is killed here loses no path.
        kept.resize(length.max(bytes.len()), 0);
        list.seek(SeekFrom::Start(0))?;
        list.write_all(&kept)?;
        list.set_len(length as u64)
    } else {
        list.write_all(&line)
    }
}

fn entries(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes
        .split(|byte| *byte == 0)
        .filter(|entry| !entry.is_empty())
}

/// What is on the list.
///
/// # Errors
/// When it cannot be read.
pub fn read(list: &File) -> Result<Vec<Named>, Error> {
    let path = Path::new("named-logs");
    let failed = |source| Error::io("reading", path, source);
    // Nobody shortens it meanwhile.
    keys::flock(list, libc::LOCK_SH, path, Hurry::default())?;
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    let read = loop {
        match list.read_at(&mut part, bytes.len() as u64) {
            Ok(0) => break Ok(()),
            Ok(count) => bytes.extend_from_slice(&part[..count]),
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => break Err(failed(why)),
        }
    };
    keys::flock(list, libc::LOCK_UN, path, Hurry::default())?;
    read.map(|()| entries(&bytes).map(Named::parse).collect())
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
        let known = || read(&open(&root, false).unwrap()).unwrap();
        assert!(known().is_empty());
        let there = root.join("there.log");
        File::create(&there).unwrap();
        for log in [&there, &there, &root.join(USUAL), &root.join("gone\n.log")] {
            claim(&places, log).unwrap();
        }
        let both = vec![
            Named::Log(there.clone()),
            Named::Log(root.join("gone\n.log")),
        ];
        assert_eq!(known(), both);
        let many: Vec<PathBuf> = (0..1000)
            .map(|n| root.join(format!("{n:0>100}.log")))
            .collect();
        many.iter().for_each(|log| claim(&places, log).unwrap());
        let left = known();
        assert!(
            left.len() < 1000 && left.contains(&both[0]),
            "{}",
            left.len()
        );
        assert_eq!(
            left.last().map(Named::path),
            many.last().map(PathBuf::as_path)
        );
        let policy = Named::Policy(root.join("p.yaml"));
        for _ in 0..2 {
            remember(&root, std::slice::from_ref(&policy)).unwrap();
        }
        let left = known();
        assert_eq!(left.iter().filter(|named| **named == policy).count(), 1);
        assert_eq!(policy.names().len() + left[0].names().len(), 3);
    }
}
