//! Remembered heads: what this machine last knew of a log, kept outside the log.
//!
//! One file a log, 0600, two slots of 4096 bytes written in turn, each `<blake3 hex> <json>` and spaces: a crash
//! in the middle of writing one leaves the other. The writer goes on from it without reading the log; the verifier
//! finds cut and rolled-back logs by it. Refuses damaged memory rather than forgetting.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::chain::{hex, unhex};
use super::checkpoint::Note;
use super::error::Error;
use super::keys::{self, Places};
use super::lock::Hurry;
use super::merkle::Frontier;
use super::pass::fill;
use super::scan::Place;

const SLOT: usize = 4096;
/// Their directory in the state directory.
pub(super) const HEADS: &str = "heads";

/// What is remembered of one log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Counts the writings; the slot with the higher one is the present.
    pub generation: u64,
    /// The log's id.
    pub log: String,
    /// Where the log ended.
    pub place: Place,
    /// The tree over the entries.
    pub tree: Frontier,
    /// Wall time of the newest entry, microseconds since 1970.
    pub time: u64,
    /// The vkey the log is signed with.
    pub key: String,
    /// The newest checkpoint; empty when there was none.
    pub note: String,
    /// The file that it was last written to, where that is known.
    pub at: Option<At>,
}

/// A file by its name and by what it is: a copy has another device or inode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct At {
    /// Absolute.
    pub path: String,
    /// Its file system.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
}

impl At {
    /// Of an open log; `None` where its name is no text or too long to remember.
    pub fn of(file: &File, log: &Path) -> Option<At> {
        let (meta, path) = (file.metadata().ok()?, absolute(log)?);
        let path = path.to_str().filter(|path| path.len() <= 1024)?.to_owned();
        Some(At {
            path,
            dev: meta.dev(),
            ino: meta.ino(),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    head: u8,
    generation: u64,
    log: String,
    block: u64,
    size: u64,
    peaks: String,
    chain: String,
    offset: u64,
    last: u64,
    time: u64,
    key: String,
    note: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<At>,
}

impl Head {
    /// The newest checkpoint, read.
    pub fn checkpoint(&self) -> Option<Note> {
        Note::parse(&self.note)
    }

    /// How many entries the newest checkpoint covers.
    pub fn sealed(&self) -> u64 {
        self.checkpoint().map_or(0, |note| note.body.size)
    }

    fn render(&self) -> Option<Vec<u8>> {
        let stored = Stored {
            head: 1,
            generation: self.generation,
            log: self.log.clone(),
            block: self.place.block,
            size: self.place.size,
            peaks: hex(self.tree.peaks().as_flattened()),
            chain: hex(&self.place.chain),
            offset: self.place.offset,
            last: self.place.last,
            time: self.time,
            key: self.key.clone(),
            note: self.note.clone(),
            at: self.at.clone(),
        };
        let json = serde_json::to_string(&stored).ok()?;
        let mut slot = format!("{} {json}", blake3::hash(json.as_bytes()).to_hex()).into_bytes();
        if slot.len() >= SLOT {
            return None;
        }
        slot.resize(SLOT - 1, b' ');
        slot.push(b'\n');
        Some(slot)
    }

    fn parse(slot: &[u8]) -> Option<Head> {
        let text = std::str::from_utf8(slot).ok()?.trim_end();
        let (sum, json) = text.split_once(' ')?;
        if blake3::hash(json.as_bytes()).to_hex().as_str() != sum {
            return None;
        }
        let stored: Stored = serde_json::from_str(json)
            .ok()
            .filter(|stored: &Stored| stored.head == 1)?;
        let peaks = stored
            .peaks
            .as_bytes()
            .chunks(64)
            .map(unhex::<32>)
            .collect::<Option<Vec<_>>>()?;
        Some(Head {
            generation: stored.generation,
            log: stored.log,
            tree: Frontier::from_parts(stored.size, peaks)?,
            place: Place {
                block: stored.block,
                size: stored.size,
                chain: unhex(stored.chain.as_bytes())?,
                offset: stored.offset,
                last: stored.last,
            },
            time: stored.time,
            key: stored.key,
            note: stored.note,
            at: stored.at,
        })
    }
}

/// The open file that remembers one log.
#[derive(Debug)]
pub struct Memory {
    file: File,
    path: PathBuf,
    /// What both slots held when it was last read or written, and the newest generation in them.
    seen: Option<(u64, Vec<u8>)>,
}

impl Memory {
    /// Opens the memory of log `id`, creating an empty one.
    ///
    /// # Errors
    /// When the file is unsafe or cannot be opened.
    pub fn open(places: &Places, id: &str) -> Result<Memory, Error> {
        let path = places.heads().join(id);
        keys::made_private_file(&path, true).map(|file| Memory::new(file, path))
    }

    /// Opens the memory of log `id` if there is one.
    ///
    /// # Errors
    /// When the file is there and is unsafe or cannot be opened.
    pub fn existing(places: &Places, id: &str) -> Result<Option<Memory>, Error> {
        let path = places.heads().join(id);
        Ok(keys::private_file(&path, true)?.map(|file| Memory::new(file, path)))
    }

    fn new(file: File, path: PathBuf) -> Memory {
        Memory {
            file,
            path,
            seen: None,
        }
    }

    /// Locks (`LOCK_EX`) or unlocks (`LOCK_UN`) the memory.
    ///
    /// # Errors
    /// When somebody holds it for too long, or the system refuses.
    pub fn lock(&self, operation: libc::c_int, hurry: Hurry) -> Result<(), Error> {
        keys::flock(&self.file, operation, &self.path, hurry)
    }

    fn slots(&self) -> Result<Vec<u8>, Error> {
        let mut slots = vec![0u8; 2 * SLOT];
        let length = fill(&self.file, &mut slots, 0)
            .map_err(|source| Error::io("reading", &self.path, source))?;
        slots.truncate(length);
        Ok(slots)
    }

    /// Whether it holds, byte for byte, what was read or written last, and that was of `generation`. Who appends
    /// often asks this, and reads only when it is not so.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn holds(&self, generation: u64) -> Result<bool, Error> {
        match &self.seen {
            Some((newest, slots)) if *newest == generation => Ok(self.slots()? == *slots),
            _ => Ok(false),
        }
    }

    /// What is remembered; `None` when nothing ever was.
    ///
    /// # Errors
    /// When neither slot can be read.
    pub fn read(&mut self) -> Result<Option<Head>, Error> {
        self.seen = None;
        let slots = self.slots()?;
        if slots.is_empty() {
            return Ok(None);
        }
        let newest = slots
            .chunks(SLOT)
            .filter_map(Head::parse)
            .max_by_key(|head| head.generation);
        let head = newest.ok_or_else(|| Error::Unsafe {
            path: self.path.clone(),
            why: "is damaged: what was remembered of the log cannot be read".into(),
            next: "check the log with `capsule verify --key`, then move this file away".into(),
        })?;
        self.seen = Some((head.generation, slots));
        Ok(Some(head))
    }

    /// Remembers `head`, in the slot that does not hold the present one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, head: &Head) -> Result<(), Error> {
        let slot = head
            .render()
            .ok_or_else(|| Error::contradiction(&self.path, "a head too long to remember"))?;
        let at = usize::try_from(head.generation % 2).unwrap_or(0) * SLOT;
        let before = self.seen.take();
        self.file
            .write_all_at(&slot, at as u64)
            .map_err(|source| Error::io("remembering", &self.path, source))?;
        if let Some((_, mut slots)) = before {
            slots.resize(slots.len().max(at + SLOT), 0);
            slots[at..at + SLOT].copy_from_slice(&slot);
            self.seen = Some((head.generation, slots));
        }
        Ok(())
    }
}

/// Where every log lay that is remembered, when it was last written.
///
/// # Errors
/// When it cannot be read.
pub fn logs(state: &Path) -> Result<Vec<PathBuf>, Error> {
    let dir = state.join(HEADS);
    let failed = |source| Error::io("reading", &dir, source);
    let names = match fs::read_dir(&dir) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names.map_err(failed)?,
    };
    let mut logs = Vec::new();
    for name in names {
        let path = name.map_err(failed)?.path();
        let Some(file) = keys::private_file(&path, false)? else {
            continue;
        };
        // What is damaged names no log, and no run goes on with that one either.
        let head = Memory::new(file, path).read().ok().flatten();
        logs.extend(
            head.and_then(|head| head.at)
                .map(|at| PathBuf::from(at.path)),
        );
    }
    Ok(logs)
}

fn path_file(places: &Places, log: &Path) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    let name = blake3::derive_key("capsule remembered path v1", log.as_os_str().as_bytes());
    places.state.join("paths").join(hex(&name[..16]))
}

/// The absolute form of `log`, links in its directory resolved.
pub fn absolute(log: &Path) -> Option<PathBuf> {
    let parent = log
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    Some(parent.canonicalize().ok()?.join(log.file_name()?))
}

/// The id of the log that was last begun at this path.
pub fn id_at(places: &Places, log: &Path) -> Option<String> {
    let text = fs::read_to_string(path_file(places, &absolute(log)?)).ok()?;
    let id = text.lines().next()?;
    unhex::<16>(id.as_bytes()).map(|_| id.to_owned())
}

/// Remembers that log `id` was begun at this path.
///
/// # Errors
/// When it cannot be written.
pub fn remember_path(places: &Places, log: &Path, id: &str) -> Result<(), Error> {
    let Some(log) = absolute(log) else {
        return Ok(());
    };
    let path = path_file(places, &log);
    keys::private_dir(&places.state.join("paths"))?;
    let temporary = path.with_extension(format!("{id}.new"));
    let text = format!("{id}\n{}\n", log.to_string_lossy().escape_debug());
    fs::write(&temporary, text)
        .and_then(|()| fs::rename(&temporary, &path))
        .map_err(|source| Error::io("remembering", &path, source))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::merkle::leaf;

    fn head(generation: u64) -> Head {
        let mut tree = Frontier::default();
        (0..generation + 5).for_each(|n| tree.push(leaf(&n.to_le_bytes())));
        let place = Place {
            size: tree.size(),
            ..Place::default()
        };
        Head {
            generation,
            log: "00".repeat(16),
            place,
            tree,
            time: 7,
            key: "k".into(),
            note: String::new(),
            at: None,
        }
    }

    fn memory() -> (tempfile::TempDir, Memory) {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            data: dir.path().join("d"),
            state: dir.path().join("s"),
        };
        let memory = Memory::open(&places, "x").unwrap();
        (dir, memory)
    }

    #[test]
    fn the_newest_head_is_remembered() {
        let (_dir, mut memory) = memory();
        assert_eq!(memory.read().unwrap(), None);
        for generation in 0..5 {
            memory.write(&head(generation)).unwrap();
            assert_eq!(memory.read().unwrap(), Some(head(generation)));
        }
    }

    #[test]
    fn a_torn_writing_leaves_the_head_before() {
        let (_dir, mut memory) = memory();
        memory.write(&head(0)).unwrap();
        memory.write(&head(1)).unwrap();
        for cut in [0, 1, 70, 300] {
            let mut slot = head(2).render().unwrap();
            slot.truncate(cut);
            memory.file.write_all_at(&slot, 0).unwrap();
            assert_eq!(memory.read().unwrap().map(|head| head.generation), Some(1));
        }
    }

    #[test]
    fn damaged_memory_is_an_error_not_forgotten() {
        let (_dir, mut memory) = memory();
        memory.write(&head(0)).unwrap();
        memory.file.write_all_at(b"x", 100).unwrap();
        assert!(memory.read().unwrap_err().to_string().contains("damaged"));
    }

    #[test]
    fn what_another_wrote_is_not_held() {
        let (_dir, mut memory) = memory();
        memory.write(&head(0)).unwrap();
        assert!(!memory.holds(0).unwrap(), "it was never read");
        memory.read().unwrap();
        for generation in 1..5 {
            memory.write(&head(generation)).unwrap();
            assert!(memory.holds(generation).unwrap());
            assert!(!memory.holds(generation - 1).unwrap());
        }
        let slot = head(7).render().unwrap();
        memory.file.write_all_at(&slot, SLOT as u64).unwrap();
        assert!(!memory.holds(4).unwrap());
        assert_eq!(memory.read().unwrap(), Some(head(7)));
        assert!(memory.holds(7).unwrap());
    }

    #[test]
    fn a_path_is_remembered_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            data: dir.path().join("d"),
            state: dir.path().join("s"),
        };
        let log = dir.path().join("capsule.log");
        assert_eq!(id_at(&places, &log), None);
        remember_path(&places, &log, &"ab".repeat(16)).unwrap();
        assert_eq!(id_at(&places, &log), Some("ab".repeat(16)));
    }
}
