//! Going on after a crash: from what is remembered, or from the log itself, to where the log now ends.
//!
//! A torn tail is moved to `<log>.torn-pending`, recorded, and named `<log>.torn-<n>`: never dropped, and never cut off
//! without a record, whenever the writer dies. Refuses to go on where the log contradicts
//! what was signed: shorter than the signed checkpoint, or different from it.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::block::{self, MAX_CHECKPOINT};
use super::chain::{Link, hex};
use super::checkpoint::VKey;
use super::error::Error;
use super::heads::Head;
use super::merkle::Frontier;
use super::scan::{Fault, Kind, Place, Scanner, Trust};
use super::value::Entry;

/// Where torn bytes wait until the log speaks of them.
const PENDING: &str = ".torn-pending";

/// What an opening found.
pub(super) struct Due {
    /// The head of the log as it is.
    pub(super) head: Head,
    /// The `recovery` entries that are due.
    pub(super) entries: Vec<Entry>,
    /// What the torn bytes are to be called once those are written ([`settle`]).
    pub(super) name: Option<PathBuf>,
}

/// The head of the log as it is, and what is due. The locks are held.
pub(super) fn bring_up(
    file: &File,
    path: &Path,
    length: u64,
    remembered: Option<Head>,
    fresh: &Head,
    vkey: &VKey,
) -> Result<Due, Error> {
    let mut due = Vec::new();
    let mut head = match &remembered {
        Some(head) if length >= head.place.offset => head.clone(),
        _ => Head {
            generation: 0,
            place: Place::default(),
            tree: Frontier::default(),
            time: 0,
            note: String::new(),
            ..fresh.clone()
        },
    };
    check_last_block(file, path, &head)?;
    if length > head.place.offset {
        adopt_checkpoint(file, path, &mut head, vkey)?;
        walk(file, path, length, &mut head, remembered.as_ref(), vkey)?;
    }
    let torn = pending(file, path, head.place.offset)?;
    let name = torn.map(|(entry, name)| {
        due.push(entry);
        name
    });
    match &remembered {
        None => due.push(recovery("memory_lost").with("offset", head.place.offset)),
        Some(before) => {
            if head.place.size < before.sealed() {
                let why = format!(
                    "it has {} entries, and {} were signed",
                    head.place.size,
                    before.sealed()
                );
                return Err(Error::contradiction(path, why));
            }
            if head.place.offset < before.place.offset && head.place.size < before.place.size {
                let lost = before.place.size - head.place.size;
                due.push(
                    recovery("tail_lost")
                        .with("offset", head.place.offset)
                        .with("lost", lost),
                );
            }
            head.generation = before.generation;
        }
    }
    Ok(Due {
        head,
        entries: due,
        name,
    })
}

fn recovery(why: &'static str) -> Entry {
    Entry::new("recovery", None).with("why", why)
}

/// The bytes of the remembered last block must still be what they were.
fn check_last_block(file: &File, path: &Path, head: &Head) -> Result<(), Error> {
    let place = &head.place;
    if place.block == 0 {
        return Ok(());
    }
    let mut block = vec![
        0;
        usize::try_from(place.offset - place.last)
            .unwrap_or(0)
            .min(block::MAX_BLOCK)
    ];
    file.read_exact_at(&mut block, place.last)
        .map_err(|source| Error::io("reading", path, source))?;
    if Link::new().update(&block).digest() != place.chain {
        return Err(Error::contradiction(
            path,
            format!("the block at byte {} was changed", place.last),
        ));
    }
    Ok(())
}

/// Another writer may have added a checkpoint to the remembered last block and died before remembering it.
fn adopt_checkpoint(file: &File, path: &Path, head: &mut Head, vkey: &VKey) -> Result<(), Error> {
    let mut bytes = [0; MAX_CHECKPOINT];
    let length = file
        .read_at(&mut bytes, head.place.offset)
        .map_err(|source| Error::io("reading", path, source))?;
    let Some(end) = bytes[..length].iter().position(|byte| *byte == b'\n') else {
        return Ok(());
    };
    let Some(note) = block::parse_checkpoint(&bytes[..end]) else {
        return Ok(());
    };
    let place = &mut head.place;
    let fits = note.body.size == place.size
        && note.body.root == head.tree.root()
        && note.body.chain == place.chain;
    if !fits || note.verify(vkey).is_err() {
        return Err(Error::contradiction(
            path,
            "a checkpoint on it is not of this log",
        ));
    }
    let mut block = vec![
        0;
        usize::try_from(place.offset - place.last)
            .unwrap_or(0)
            .min(block::MAX_BLOCK)
    ];
    file.read_exact_at(&mut block, place.last)
        .map_err(|source| Error::io("reading", path, source))?;
    place.chain = Link::new().update(&block).update(&bytes[..=end]).digest();
    place.offset += end as u64 + 1;
    head.note = note.text().to_owned();
    Ok(())
}

fn walk(
    file: &File,
    path: &Path,
    length: u64,
    head: &mut Head,
    remembered: Option<&Head>,
    vkey: &VKey,
) -> Result<(), Error> {
    let signed = remembered.and_then(Head::checkpoint);
    let trust = Trust {
        origin: vkey.name.clone(),
        key: vkey.clone(),
    };
    let mut scanner = Scanner::new(file, (head.place, head.tree.clone()), Some(trust));
    let fault: Option<Fault> = loop {
        match scanner
            .advance()
            .map_err(|source| Error::io("reading", path, source))?
        {
            Ok(None) => break None,
            Ok(Some(sound)) => {
                let note = sound.note;
                let entries = sound.extent.entries(sound.bytes);
                head.time = head.time.max(last_time(entries));
                if let Some(note) = note {
                    head.note = note.text().to_owned();
                }
            }
            Err(fault) => break Some(fault),
        }
        if let Some(signed) = &signed {
            let tree = &scanner.tree;
            if tree.size() == signed.body.size && tree.root() != signed.body.root {
                return Err(Error::contradiction(
                    path,
                    format!("its first {} entries differ from those signed", tree.size()),
                ));
            }
        }
    };
    (head.place, head.tree) = (scanner.place, scanner.tree);
    match fault {
        None => Ok(()),
        Some(Fault {
            kind: Kind::Torn,
            offset,
            ..
        }) => {
            if head.place.size < signed.map_or(0, |note| note.body.size) {
                return Err(Error::contradiction(
                    path,
                    format!("it was cut at byte {offset}, within what was signed"),
                ));
            }
            set_aside(file, path, offset, length)
        }
        Some(fault) => Err(Error::contradiction(
            path,
            format!("{} at byte {}", fault.why, fault.offset),
        )),
    }
}

/// The time of the last line, for noticing a clock that went back.
fn last_time(entries: &[u8]) -> u64 {
    let line = entries[..entries.len() - 1]
        .rsplit(|byte| *byte == b'\n')
        .next()
        .unwrap_or(entries);
    super::json::entry(line)
        .ok()
        .and_then(|view| super::clock::parse(view.time))
        .unwrap_or(0)
}

/// A name beside the log.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// Moves the bytes from `offset` on to `<log>.torn-pending`, where they wait for being recorded: who dies here leaves
/// either the torn log or that file, and the next opening goes on from either.
pub(super) fn set_aside(file: &File, path: &Path, offset: u64, length: u64) -> Result<(), Error> {
    let aside = beside(path, PENDING);
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let mut torn = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(&aside)
        .map_err(|source| Error::io("creating", &aside, source))?;
    let mut chunk = vec![0; 256 * 1024];
    let mut at = offset;
    let copied = loop {
        let want = usize::try_from(length - at)
            .unwrap_or(usize::MAX)
            .min(chunk.len());
        if want == 0 {
            break torn.sync_all();
        }
        let step = file
            .read_at(&mut chunk[..want], at)
            .and_then(|count| torn.write_all(&chunk[..count]).map(|()| count));
        match step {
            Ok(0) => break torn.sync_all(),
            Ok(count) => at += count as u64,
            Err(why) => break Err(why),
        }
    };
    if let Err(source) = copied {
        // Half a copy is worth nothing: the original is still in place.
        let _ = std::fs::remove_file(&aside);
        return Err(Error::io("setting aside the torn tail in", &aside, source));
    }
    // Nobody else writes while we hold the lock.
    file.set_len(offset)
        .map_err(|source| Error::io("cutting the torn tail off", path, source))
}

/// What waits for being recorded: its entry, and the name it gets once the entry is on the log.
pub(super) fn pending(
    file: &File,
    path: &Path,
    end: u64,
) -> Result<Option<(Entry, PathBuf)>, Error> {
    let aside = beside(path, PENDING);
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    let torn = match options.open(&aside) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|source| Error::io("opening", &aside, source))?,
    };
    let told = |source| Error::io("reading", &aside, source);
    let bytes = torn.metadata().map_err(told)?.len();
    let digest = digest(&torn).map_err(told)?;
    let name = (1u32..)
        .map(|n| beside(path, &format!(".torn-{n}")))
        .find(|name| name.symlink_metadata().is_err())
        .ok_or_else(|| Error::contradiction(path, "it has too many torn tails"))?;
    if recorded(file, path, &digest)? {
        // Its writer died after recording it, before it had its name.
        settle(path, &name)?;
        return Ok(None);
    }
    let entry = recovery("torn")
        .with("offset", end)
        .with("bytes", bytes)
        .with("digest", digest)
        .with("file", &name);
    Ok(Some((entry, name)))
}

/// Apart from its caller, which seldom gets here: reading takes 64 KiB of the stack.
#[inline(never)]
fn digest(torn: &File) -> std::io::Result<String> {
    let mut hash = blake3::Hasher::new();
    hash.update_reader(torn)?;
    Ok(format!("blake3:{}", hex(hash.finalize().as_bytes())))
}

/// Whether the last entries of the log speak of these bytes.
fn recorded(file: &File, path: &Path, digest: &str) -> Result<bool, Error> {
    let told = |source| Error::io("reading", path, source);
    let end = file.metadata().map_err(told)?.len();
    let from = end.saturating_sub(block::MAX_BLOCK as u64);
    let mut last = vec![0; usize::try_from(end - from).unwrap_or(0)];
    file.read_exact_at(&mut last, from).map_err(told)?;
    Ok(memchr::memmem::find(&last, digest.as_bytes()).is_some())
}

/// The entry is on the log: the bytes get the name it says.
pub(super) fn settle(path: &Path, name: &Path) -> Result<(), Error> {
    std::fs::rename(beside(path, PENDING), name)
        .map_err(|source| Error::io("naming the torn tail", name, source))
}
