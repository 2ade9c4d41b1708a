//! Going on after a crash: from what is remembered, or from the log itself, to where the log now ends.
//!
//! A torn tail is moved to `<log>.torn-<n>` and recorded, never dropped. Refuses to go on where the log contradicts
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

/// The head of the log as it is, and the `recovery` entries that are due. The locks are held.
pub(super) fn bring_up(
    file: &File,
    path: &Path,
    length: u64,
    remembered: Option<Head>,
    fresh: &Head,
    vkey: &VKey,
) -> Result<(Head, Vec<Entry>), Error> {
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
        walk(
            file,
            path,
            length,
            &mut head,
            remembered.as_ref(),
            vkey,
            &mut due,
        )?;
    }
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
    Ok((head, due))
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
    due: &mut Vec<Entry>,
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
            let (name, digest) = set_aside(file, path, offset, length)?;
            let bytes = length - offset;
            due.push(
                recovery("torn")
                    .with("offset", offset)
                    .with("bytes", bytes)
                    .with("digest", digest)
                    .with("file", &name),
            );
            Ok(())
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

/// Moves the bytes from `offset` on to the next free `<log>.torn-<n>`; its path and the digest of the bytes.
pub(super) fn set_aside(
    file: &File,
    path: &Path,
    offset: u64,
    length: u64,
) -> Result<(PathBuf, String), Error> {
    let (aside, mut torn) = (1u32..)
        .map(|n| {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".torn-{n}"));
            let name = PathBuf::from(name);
            (OpenOptions::new().write(true).create_new(true).mode(0o600).open(&name), name)
        })
        .find(|(opened, _)| !matches!(opened, Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists))
        .map(|(opened, name)| Ok((opened.map_err(|source| Error::io("creating", &name, source))?, name)))
        .map_or_else(|| Err(Error::contradiction(path, "it has too many torn tails")), |opened| opened.map(|(file, name)| (name, file)))?;
    let mut hash = blake3::Hasher::new();
    let mut chunk = vec![0; 256 * 1024];
    let mut at = offset;
    let copied = loop {
        let want = usize::try_from(length - at)
            .unwrap_or(usize::MAX)
            .min(chunk.len());
        if want == 0 {
            break torn.sync_all();
        }
        let step = file.read_at(&mut chunk[..want], at).and_then(|count| {
            hash.update(&chunk[..count]);
            torn.write_all(&chunk[..count]).map(|()| count)
        });
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
        .map_err(|source| Error::io("cutting the torn tail off", path, source))?;
    Ok((aside, format!("blake3:{}", hex(hash.finalize().as_bytes()))))
}
