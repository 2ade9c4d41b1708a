//! A log's beginning: opening its file safely, and its first entry, which names it.
//!
//! Refuses files that are links, somebody else's or writable by others, first blocks that are not one
//! `log.created`, and an emptied file where a log is remembered.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use ed25519_dalek::VerifyingKey;

use super::block::{self, Split};
use super::chain::{hex, unhex};
use super::checkpoint::{VKey, origin};
use super::error::Error;
use super::heads::{self, At, Memory};
use super::json;
use super::keys::{self, Places};
use super::lock::{Hurry, LogLock};
use super::named;
use super::recovery;
use super::value::{Entry, Value};

/// Bytes of a log that came from elsewhere which this machine need not know.
const UNKNOWN: u64 = 64 << 20;

/// What a log's first entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    /// The log's id: 32 hexadecimal digits.
    pub log: String,
    /// The vkey it says it is signed with.
    pub key: String,
}

/// Why a first entry is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// Not a `log.created` of this format.
    Malformed(&'static str),
    /// Another version or other algorithms.
    Algorithm(String),
}

impl Genesis {
    /// Reads a log's first line (without its newline), already known to be of the dialect.
    ///
    /// # Errors
    /// Which way it is unfit.
    pub fn parse(line: &[u8]) -> Result<Genesis, Unfit> {
        let entry: serde_json::Value =
            serde_json::from_slice(line).map_err(|_| Unfit::Malformed("not an entry"))?;
        let text = |name: &str| entry.get(name).and_then(serde_json::Value::as_str);
        if text("type") != Some("log.created") {
            return Err(Unfit::Malformed("the first entry is not log.created"));
        }
        let said = (
            entry.get("format").and_then(serde_json::Value::as_u64),
            text("chain"),
            text("tree"),
        );
        if said != (Some(1), Some("blake3"), Some("rfc6962-sha256")) {
            let or = |text: Option<&str>| text.unwrap_or("none").to_owned();
            let version = said.0.map_or("none".into(), |version| version.to_string());
            return Err(Unfit::Algorithm(format!(
                "format {version}, chain {}, tree {}",
                or(said.1),
                or(said.2)
            )));
        }
        let log = text("log")
            .filter(|id| unhex::<16>(id.as_bytes()).is_some())
            .ok_or(Unfit::Malformed("no log id"))?;
        let key = text("key").ok_or(Unfit::Malformed("no key"))?;
        Ok(Genesis {
            log: log.to_owned(),
            key: key.to_owned(),
        })
    }
}

/// Opens and locks the log at `path`, creating it when there is none; its genesis unless it is empty.
///
/// # Errors
/// When the file is unsafe, is no log, or has been emptied.
pub(super) fn open(
    path: &Path,
    places: &Places,
    signer: &VerifyingKey,
) -> Result<(File, LogLock, Option<Genesis>), Error> {
    for attempt in 0.. {
        let (mut file, created) = open_file(path)?;
        let mut lock = LogLock::of(places, &file, path)?;
        lock.take(libc::F_WRLCK, Hurry::default())?;
        let empty = keys::check(&file, path, 0o022)?.len() == 0;
        if empty {
            // Whose keys are elsewhere has another lock: a log is begun once. Nothing runs yet on one that is empty.
            keys::flock(&file, libc::LOCK_EX, path, Hurry::default())?;
        }
        let meta = keys::check(&file, path, 0o022)?;
        // Between opening and locking it may have been moved away: what has no name is nobody's log.
        let named = std::fs::symlink_metadata(path)
            .is_ok_and(|named| (named.dev(), named.ino()) == (meta.dev(), meta.ino()));
        if !named && attempt < 100 {
            continue;
        }
        let found = match meta.len() {
            0 => None,
            _ => read(&file, path)?,
        };
        if !created && named::is_named(path) && !is_ours(places, &file, path, found.as_ref()) {
            if lock.attended()? {
                // A run that has begun to go on with it is about to remember that.
                if attempt < 20 {
                    drop((file, lock));
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    continue;
                }
                return Err(elsewhere(path));
            }
            let length = fitting(places, path, found.as_ref(), signer, meta.len())?;
            (file, lock) = renewed(places, &file, path, length)?;
        }
        if found.is_some() {
            return Ok((file, lock, found));
        }
        if !created && remembered(places, path) {
            // Another first run may have created it and not yet come to its lock.
            if meta.len() == 0 && attempt < 20 {
                drop(file);
                std::thread::sleep(std::time::Duration::from_millis(5));
                continue;
            }
            return Err(Error::contradiction(path, "it has been emptied"));
        }
        if meta.len() > 0 {
            recovery::set_aside(&file, path, 0, meta.len())?;
        }
        return Ok((file, lock, None));
    }
    Err(Error::contradiction(path, "its name keeps changing"))
}

/// Whether this very file is remembered as that log at that path: then its name was kept from every run since.
fn is_ours(places: &Places, file: &File, path: &Path, found: Option<&Genesis>) -> bool {
    let memory = found.and_then(|genesis| Memory::existing(places, &genesis.log).ok().flatten());
    let head = memory.and_then(|mut memory| memory.read().ok().flatten());
    head.is_some_and(|head| head.at.is_some() && head.at == At::of(file, path))
}

fn elsewhere(path: &Path) -> Error {
    Error::Unsafe {
        path: path.to_owned(),
        why: "is being written by a run that knows it under another name".into(),
        next: "wait for its end, or choose another log with --log".into(),
    }
}

/// How long a log that came from elsewhere is, where it could be gone on with: signed by this key, and not longer than
/// can have been written since it was last seen.
fn fitting(
    places: &Places,
    path: &Path,
    found: Option<&Genesis>,
    signer: &VerifyingKey,
    length: u64,
) -> Result<u64, Error> {
    let mut known = 0;
    if let Some(Genesis { log, key }) = found {
        if *key != VKey::of(&origin(log), signer).render() {
            return Err(Error::Foreign {
                path: path.to_owned(),
                key: key.clone(),
            });
        }
        if let Some(mut memory) = Memory::existing(places, log)? {
            known = memory.read()?.map_or(0, |head| head.place.offset);
        }
    }
    if length > known.saturating_add(UNKNOWN) {
        return Err(Error::Unsafe {
            path: path.to_owned(),
            why: format!("has {length} bytes, of which {known} are known here"),
            next: "look at it with `capsule verify`, and choose another log with --log".into(),
        });
    }
    Ok(length)
}

/// A file with the same content in the place of one that came from elsewhere, and its lock: somebody, a command that runs
/// in a sandbox too, may have that one open for writing.
fn renewed(
    places: &Places,
    file: &File,
    path: &Path,
    length: u64,
) -> Result<(File, LogLock), Error> {
    let new = recovery::beside(path, &format!(".new-{}", std::process::id()));
    let failed = |source| Error::io("replacing", &new, source);
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    // One that is there is no more ours than the other.
    let _ = std::fs::remove_file(&new);
    let made = OpenOptions::new()
        .read(true)
        .append(true)
        .create_new(true)
        .mode(mode)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(&new)
        .map_err(failed)?;
    let lock = LogLock::of(places, &made, path)?;
    lock.take(libc::F_WRLCK, Hurry::default())?;
    keys::flock(&made, libc::LOCK_EX, path, Hurry::default())?;
    let copied = std::io::copy(&mut file.take(length), &mut &made)
        .and_then(|_| made.sync_all())
        .and_then(|()| std::fs::rename(&new, path));
    if let Err(source) = copied {
        // Only tidying: the failure that matters is the one reported.
        let _ = std::fs::remove_file(&new);
        return Err(failed(source));
    }
    Ok((made, lock))
}

fn remembered(places: &Places, path: &Path) -> bool {
    heads::id_at(places, path).is_some()
}

/// Whether what is at `path` could be gone on with, or begun in.
///
/// # Errors
/// When the file is unsafe, or is no log.
pub(super) fn look(path: &Path) -> Result<(), Error> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(|source| keys::unopened(path, source))?;
    match keys::check(&file, path, 0o022)?.len() {
        0 => Ok(()),
        _ => read(&file, path).map(drop),
    }
}

fn open_file(path: &Path) -> Result<(File, bool), Error> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .append(true)
        .mode(0o600)
        .custom_flags(flags);
    let opened = match options.open(path) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
            match options.create_new(true).open(path) {
                Ok(file) => return Ok((file, true)),
                Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => {
                    options.create_new(false).open(path)
                }
                other => other,
            }
        }
        other => other,
    };
    opened
        .map(|file| (file, false))
        .map_err(|source| keys::unopened(path, source))
}

/// The genesis of an open log; `None` when the file ends within its first block.
///
/// # Errors
/// When it is no log of this format.
pub fn read(file: &File, path: &Path) -> Result<Option<Genesis>, Error> {
    let mut bytes = [0u8; 8192];
    let length = file
        .read_at(&mut bytes, 0)
        .map_err(|source| Error::io("reading", path, source))?;
    let no_log = |why: &str| Error::Unsafe {
        path: path.to_owned(),
        why: format!("is not a log of Capsule's: {why}"),
        next: "choose another file with --log".into(),
    };
    let bytes = &bytes[..length];
    match block::split(bytes, length < 8192) {
        Split::Torn => Ok(None),
        Split::Block(extent) if extent.header.count == 1 => {
            let line = extent.entries(bytes);
            let line = &line[..line.len() - 1];
            let sound = std::str::from_utf8(line).is_ok() && json::entry(line).is_ok();
            match Genesis::parse(line) {
                Ok(genesis) if sound => Ok(Some(genesis)),
                Err(Unfit::Algorithm(what)) => {
                    Err(no_log(&format!("it is of another version ({what})")))
                }
                Err(Unfit::Malformed(why)) => Err(no_log(why)),
                Ok(_) => Err(no_log("its first entry is malformed")),
            }
        }
        Split::Malformed { why, .. } => Err(no_log(why)),
        Split::Block(_) | Split::More => Err(no_log("its first block is not one entry")),
    }
}

/// A new random log id.
pub(super) fn new_id(path: &Path) -> Result<String, Error> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|why| Error::io("naming", path, std::io::Error::other(why.to_string())))?;
    Ok(hex(&id))
}

/// The first entry of log `id`. Where another log was remembered at this path, it names that one.
pub(super) fn entry(path: &Path, places: &Places, id: &str, key: &str) -> Entry {
    let entry = Entry::new("log.created", None)
        .with("format", 1u8)
        .with("log", id)
        .with("chain", "blake3")
        .with("tree", "rfc6962-sha256")
        .with("key", key);
    let Some(before) = heads::id_at(places, path) else {
        return entry;
    };
    // That log's memory is only named here; if it cannot be read, its id still is.
    let head = Memory::existing(places, &before)
        .ok()
        .flatten()
        .and_then(|mut memory| memory.read().ok().flatten());
    let (size, root) = match head {
        Some(head) => (
            Value::from(head.place.size),
            Value::from(hex(&head.tree.root())),
        ),
        None => (Value::Null, Value::Null),
    };
    entry.with(
        "replaces",
        Value::map([("log", Value::from(before)), ("size", size), ("root", root)]),
    )
}

#[cfg(test)]
mod tests {
    use super::super::writer::{Seal, Writer};
    use super::*;

    fn own(root: &Path) -> Places {
        Places {
            data: root.join("data"),
            state: root.join("state"),
        }
    }

    #[test]
    fn a_log_is_not_replaced_under_a_run_that_writes_it() {
        let here = tempfile::tempdir().unwrap();
        let places = own(here.path());
        let [first, second] = ["a.log", "b.log"].map(|name| here.path().join(name));
        let mut writer = Writer::open(&first, &places).unwrap();
        std::fs::rename(&first, &second).unwrap();
        let why = Writer::open(&second, &places).err().unwrap().to_string();
        assert!(why.contains("another name; wait for its end"), "{why}");
        let event = Entry::new("event", Some("r-1"));
        writer.append(&[event], Seal::Sync).unwrap();
        drop(writer);
        let mut writer = Writer::open(&second, &places).unwrap();
        assert_eq!(writer.append(&[], Seal::No).unwrap().first, 2);
        // Under its own name any number go on with it.
        Writer::open(&second, &places).unwrap();
    }

    #[test]
    fn what_came_from_elsewhere_is_looked_at_before_it_is_copied() {
        let here = tempfile::tempdir().unwrap();
        let (places, others) = (own(here.path()), own(&here.path().join("other")));
        let [log, copy] = ["a.log", "b.log"].map(|name| here.path().join(name));
        drop(Writer::open(&log, &others).unwrap());
        std::fs::copy(&log, &copy).unwrap();
        let file = OpenOptions::new().write(true).open(&copy).unwrap();
        file.set_len(1 << 40).unwrap();
        let why = |places| Writer::open(&copy, places).err().unwrap();
        let foreign = why(&places);
        assert!(matches!(foreign, Error::Foreign { .. }), "{foreign}");
        let long = why(&others).to_string();
        assert!(long.contains("1099511627776 bytes, of which"), "{long}");
        assert_eq!(file.metadata().unwrap().nlink(), 1);
    }

    #[test]
    fn other_versions_and_algorithms_are_named() {
        let line = |format: &str, chain: &str| {
            format!(
                r#"{{"type":"log.created","format":{format},"log":"{}","chain":"{chain}","tree":"rfc6962-sha256","key":"k"}}"#,
                "00".repeat(16)
            )
        };
        assert!(Genesis::parse(line("1", "blake3").as_bytes()).is_ok());
        for (format, chain) in [("2", "blake3"), ("1", "md5"), ("null", "blake3")] {
            assert!(matches!(
                Genesis::parse(line(format, chain).as_bytes()),
                Err(Unfit::Algorithm(_))
            ));
        }
        assert!(matches!(
            Genesis::parse(br#"{"type":"exec"}"#),
            Err(Unfit::Malformed(_))
        ));
    }
}
