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
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
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
/// Files of the state directory that all runs wait for, each other's.
pub const SHARED: [&str; 4] = ["named-logs", "going", "going-unwatched", "heads"];
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
    keys::made_private_file(&file(state), write)
}

/// A path on the list.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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
    if log.file_name() == Some(OsStr::new(crate::plan::FILE)) {
        return Err(Error::Unsafe {
            path: log.to_owned(),
            why: "is the name of a policy, which runs here would take it for".into(),
            next: "choose another name for the log".into(),
        });
    }
    let state = &places.state;
    going::unwatched(state, log)?;
    if !is_named(log) {
        return Ok(());
    }
    let place = placed(log)?;
    let path = file(state);
    let failed = |source| Error::io("remembering", &path, source);
    let mut list = open(state, true)?;
    keys::flock(&list, libc::LOCK_EX, &path, Hurry::default())?;
    let mut bytes = Vec::new();
    list.read_to_end(&mut bytes).map_err(failed)?;
    let watched = going::watched(state)?;
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
        // First, so that what is on the list was counted: who sees the count waits for the list.
        if let Some(watched) = &watched {
            going::count(watched).map_err(failed)?;
        }
        add(&mut list, &bytes, &listed).map_err(failed)?;
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

/// Once the log is there: that no run without a monitor came where it may write it, since [`claim`] looked. One that
/// comes later finds the log there.
///
/// # Errors
/// [`Error::Unsafe`] where one did; when that cannot be known.
pub fn alone(places: &Places, log: &Path) -> Result<(), Error> {
    going::unwatched(&places.state, log)
}

/// Where a log lies.
pub(super) fn placed(log: &Path) -> Result<PathBuf, Error> {
    absolute(log).ok_or_else(|| match log.symlink_metadata() {
        Err(source) => Error::io("opening", log, source),
        Ok(_) => Error::contradiction(log, "it has no name in a directory"),
    })
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
    // As in `claim`: nothing is on the list that was not counted.
    if let Some(watched) = going::watched(state)? {
        going::count(&watched).map_err(failed)?;
    }
    for policy in policies {
        let mut bytes = Vec::new();
        list.seek(SeekFrom::Start(0)).map_err(failed)?;
        list.read_to_end(&mut bytes).map_err(failed)?;
        if entries(&bytes).all(|entry| Named::parse(entry) != *policy) {
            add(&mut list, &bytes, policy).map_err(failed)?;
        }
    }
    Ok(())
}

/// What was written whole: what has its zero byte at the end.
fn whole(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte == 0);
    &bytes[..end.map_or(0, |end| end + 1)]
}

/// Puts one more on the list, which holds `bytes`; a path that was not written whole is written over.
fn add(list: &mut File, bytes: &[u8], named: &Named) -> io::Result<()> {
    let bytes = whole(bytes);
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
        let at = bytes.len() as u64;
        list.seek(SeekFrom::Start(at))?;
        list.write_all(&line)?;
        list.set_len(at + line.len() as u64)
    }
}

fn entries(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    whole(bytes)
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
    use super::super::writer::Writer;
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
        // What was cut off in its middle is no path, and spoils none.
        let mut list = open(&root, true).unwrap();
        list.seek(SeekFrom::End(0)).unwrap();
        list.write_all(root.as_os_str().as_bytes()).unwrap();
        assert_eq!(known(), left);
        for _ in 0..2 {
            remember(&root, std::slice::from_ref(&policy)).unwrap();
        }
        let left = known();
        assert_eq!(left.iter().filter(|named| **named == policy).count(), 1);
        assert_eq!(policy.names().len() + left[0].names().len(), 3);
        let nowhere = claim(&places, &root.join("none/x.log")).unwrap_err();
        assert!(nowhere.to_string().contains("No such file"), "{nowhere}");
    }

    #[test]
    fn a_log_has_not_the_name_of_a_policy() {
        let (here, places) = own();
        let refused = claim(&places, &here.path().join(crate::plan::FILE)).unwrap_err();
        assert!(
            refused.to_string().contains("the name of a policy"),
            "{refused}"
        );
    }

    fn own() -> (tempfile::TempDir, Places) {
        let here = tempfile::tempdir().unwrap();
        let root = here.path().canonicalize().unwrap();
        let places = Places {
            data: root.join("data"),
            state: root.join("state"),
        };
        (here, places)
    }

    #[test]
    fn a_run_that_nothing_keeps_out_and_that_comes_meanwhile_is_seen() {
        let (here, places) = own();
        let work = here.path().canonicalize().unwrap().join("work");
        std::fs::create_dir(&work).unwrap();
        let list = open(&places.state, true).unwrap();
        keys::flock(&list, libc::LOCK_EX, &work, Hurry::default()).unwrap();
        std::thread::scope(|scope| {
            let begun = scope.spawn(|| Writer::open(&work.join("x.log"), &places).map(drop));
            std::thread::sleep(std::time::Duration::from_millis(200));
            // It has looked who is going, and waits for the list.
            let roots = std::iter::once(work.as_path());
            let _run = going::Going::enter(&places.state, roots, false).unwrap();
            keys::flock(&list, libc::LOCK_UN, &work, Hurry::default()).unwrap();
            let why = begun.join().unwrap().unwrap_err().to_string();
            assert!(why.contains("no layer `supervisor`"), "{why}");
        });
        Writer::open(&work.join("x.log"), &places).unwrap();
    }

    #[test]
    fn nothing_is_on_the_list_that_was_not_counted() {
        let (here, places) = own();
        let (state, work) = (&places.state, here.path().canonicalize().unwrap());
        let _run = going::Going::enter(state, std::iter::once(work.as_path()), true).unwrap();
        let (list, runs) = (file(state), File::open(state.join("going")).unwrap());
        open(state, true).unwrap();
        std::thread::scope(|scope| {
            let claims = scope.spawn(|| {
                for n in 0..200 {
                    claim(&places, &work.join(format!("{n}.log"))).unwrap();
                }
            });
            // Whoever dies at any moment leaves no name that the runs that are going do not hear of.
            while !claims.is_finished() {
                let listed = entries(&std::fs::read(&list).unwrap()).count() as u64;
                let mut counted = [0; 8];
                runs.read_exact_at(&mut counted, 0).unwrap();
                assert!(listed <= u64::from_ne_bytes(counted));
            }
        });
        assert_eq!(read(&open(state, false).unwrap()).unwrap().len(), 200);
    }

    #[test]
    fn no_list_is_begun_in_somebody_elses_directory() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_here, places) = own();
        std::fs::create_dir(&places.state).unwrap();
        let others = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(&places.state, others).unwrap();
        let why = open(&places.state, true).unwrap_err().to_string();
        assert!(why.contains("chmod 700"), "{why}");
        let root = std::iter::once(places.state.as_path());
        going::Going::enter(&places.state, root, true).unwrap_err();
        assert_eq!(std::fs::read_dir(&places.state).unwrap().count(), 0);
    }
}
