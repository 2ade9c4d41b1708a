//! The writer: appends entries as blocks, signs checkpoints, and never signs against what it signed before.
//!
//! Each call holds the log's lock from looking at its end to remembering its new end, so any number of processes may
//! write one log. A call makes one block (more when 64 KiB do not hold it) and one `write`. Refuses logs that are
//! links, somebody else's or another key's, and logs that are not what is remembered of them.
//!
//! ```no_run
//! use capsule::audit::{Entry, Places, Seal, Writer};
//! let mut writer = Writer::open("capsule.log".as_ref(), &Places::from_env()?)?;
//! let at = writer.append(&[Entry::new("run.started", Some("r-1")).with("cwd", "/tmp")], Seal::Sync)?;
//! assert_eq!(at.first, at.last);
//! # Ok::<(), capsule::audit::Error>(())
//! ```

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;

use super::block::{self, Header, MAX_ENTRIES};
use super::chain::{Digest, Link};
use super::checkpoint::{Body, VKey, origin};
use super::clock::Stamp;
use super::error::Error;
use super::genesis::{self, Genesis};
use super::heads::{self, At, Head, Memory};
use super::keys::{self, Places};
use super::line;
use super::lock::{Hurry, LogLock};
use super::merkle::{Frontier, leaf};
use super::named;
use super::recovery;
use super::redaction::Redactor;
use super::rules;
use super::scan::Place;
use super::value::Entry;

/// How firmly an append is to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// Written; covered by whichever checkpoint comes next.
    No,
    /// Written with a signed checkpoint.
    Sign,
    /// Written with a signed checkpoint, and on the disk when the call returns.
    Sync,
}

/// Where appended entries stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Positions {
    /// The seq of the first.
    pub first: u64,
    /// The seq of the last.
    pub last: u64,
}

/// Wall time may go back this far (entries of several runs interleave) before it is recorded.
const CLOCK_TOLERANCE: u64 = 1_000_000;

/// The open log.
pub struct Writer {
    path: PathBuf,
    file: File,
    lock: LogLock,
    hurry: Hurry,
    memory: Memory,
    pub(super) head: Head,
    signer: SigningKey,
    vkey: VKey,
    redactor: Redactor,
    lost: Option<Lost>,
    /// Whether entries were written since the last checkpoint; and the digest of the block they ended with.
    unsealed: Option<Link>,
}

/// Entries that could not be written.
struct Lost {
    from: Stamp,
    count: u64,
    why: String,
}

impl Writer {
    /// Opens the log at `path`, creating it, its key and its memory when there are none.
    ///
    /// # Errors
    /// Every reason for which nothing may run: see [`Error`].
    pub fn open(path: &Path, places: &Places) -> Result<Writer, Error> {
        let signer = keys::signing_key(places)?;
        let redactor = Redactor::with_salt(keys::salt(places)?);
        named::claim(places, path)?;
        let (file, lock, found) = genesis::open(path, places, &signer.verifying_key())?;
        named::alone(places, path)?;
        let id = match &found {
            Some(genesis) => genesis.log.clone(),
            None => genesis::new_id(path)?,
        };
        let vkey = VKey::of(&origin(&id), &signer.verifying_key());
        if let Some(Genesis { key, .. }) = &found
            && *key != vkey.render()
        {
            return Err(Error::Foreign {
                path: path.to_owned(),
                key: key.clone(),
            });
        }
        let memory = Memory::open(places, &id)?;
        memory.lock(libc::LOCK_EX, Hurry::default())?;
        let head = Head {
            generation: 0,
            log: id.clone(),
            place: Place::default(),
            tree: Frontier::default(),
            time: 0,
            key: vkey.render(),
            note: String::new(),
            at: None,
        };
        let mut writer = Writer {
            path: path.to_owned(),
            file,
            lock,
            hurry: Hurry::default(),
            memory,
            head,
            signer,
            vkey,
            redactor,
            lost: None,
            unsealed: None,
        };
        if found.is_some() {
            writer.catch_up(true)?;
            if named::is_named(path) && heads::id_at(places, path).as_ref() != Some(&id) {
                heads::remember_path(places, path, &id)?;
            }
        } else {
            writer.head.at = At::of(&writer.file, path);
            let begun = genesis::entry(path, places, &id, &writer.head.key);
            writer.write(&[begun], Seal::Sign, Stamp::now())?;
            let end = writer.head.place.offset;
            if let Some((entry, name)) = recovery::pending(&writer.file, path, end)? {
                writer.write(&[entry], Seal::Sign, Stamp::now())?;
                recovery::settle(path, &name)?;
            }
            heads::remember_path(places, path, &id)?;
        }
        writer.lock.attend()?;
        // Until here every early return closes the files, and with them releases the locks.
        writer.memory.lock(libc::LOCK_UN, Hurry::default())?;
        keys::flock(&writer.file, libc::LOCK_UN, path, Hurry::default())?;
        writer.lock.release()?;
        Ok(writer)
    }

    /// Take this very value out of everything that is written from now on: a secret that is known.
    pub fn know(&mut self, secret: &str) {
        self.redactor.know(secret.as_bytes());
    }

    /// Let others see, for as long as this lives, that a run is being recorded.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn hold(&self, run: &str) -> Result<(), Error> {
        self.lock.hold(run)
    }

    /// Wait for other writers no longer than this says, from now on.
    pub fn hurry(&mut self, hurry: Hurry) {
        self.hurry = hurry;
    }

    /// The line of an entry as it is on the log at place `seq`; nothing when it cannot be written.
    pub fn line(&self, entry: &Entry, seq: u64) -> Vec<u8> {
        let mut line = Vec::new();
        let stamp = entry.stamp.unwrap_or_else(Stamp::now);
        match line::render(&mut line, entry, seq, stamp, &self.redactor) {
            Ok(()) => line,
            Err(_) => Vec::new(),
        }
    }

    /// A commitment to bytes that are not written themselves: who lacks the operator's salt cannot test guesses.
    pub fn commitment(&self, bytes: &[u8]) -> String {
        self.redactor.commitment(bytes)
    }

    /// The log's id: 32 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.head.log
    }

    /// The public key, as C2SP vkey.
    pub fn key(&self) -> &str {
        &self.head.key
    }

    /// The newest checkpoint, a signed note.
    pub fn checkpoint(&self) -> &str {
        &self.head.note
    }

    /// Appends `entries` in the order given. What could not be recorded before is recorded first, as a `gap`;
    /// a wall clock that went back, as `clock`.
    ///
    /// # Errors
    /// When nothing was written; unless an entry was invalid, or the wait for another writer was cut short by
    /// [`Writer::hurry`], the entries are counted for the next `gap`.
    pub fn append(&mut self, entries: &[Entry], seal: Seal) -> Result<Positions, Error> {
        let now = Stamp::now();
        if entries.iter().any(|entry| entry.kind == "log.created") {
            return Err(Error::Entry {
                why: "only a new log begins with log.created".into(),
            });
        }
        let result = self.locked(|writer| {
            let (mut before, count) = (Vec::new(), entries.len() as u64);
            if now.wall + CLOCK_TOLERANCE < writer.head.time {
                let back = writer.head.time - now.wall;
                before.push(Entry::new("clock", None).with("back_us", back).at(now));
            }
            if let Some(lost) = &writer.lost {
                before.push(lost.gap(now));
            }
            let first = writer.head.place.size + before.len() as u64;
            if before.is_empty() {
                writer.write(entries, seal, now)?;
            } else {
                before.extend_from_slice(entries);
                writer.write(&before, seal, now)?;
            }
            Ok(Positions {
                first,
                last: first + count.max(1) - 1,
            })
        });
        match &result {
            Ok(_) => self.lost = None,
            Err(
                Error::Entry { .. }
                | Error::Busy {
                    interrupted: true, ..
                },
            ) => {}
            Err(why) => {
                let why = why.to_string();
                let lost = self.lost.get_or_insert(Lost {
                    from: now,
                    count: 0,
                    why,
                });
                lost.count += entries.len() as u64;
            }
        }
        result
    }

    /// Whether `entry` can be written at all.
    pub fn writable(&self, entry: &Entry) -> bool {
        line::render(
            &mut Vec::new(),
            entry,
            0,
            Stamp { wall: 0, mono: 0 },
            &self.redactor,
        )
        .is_ok()
    }

    /// Says that `count` events happened since `from` that were never handed over; the next append records a `gap`.
    pub fn lose(&mut self, from: Stamp, count: u64, why: &str) {
        let lost = self.lost.get_or_insert(Lost {
            from,
            count: 0,
            why: why.to_owned(),
        });
        lost.count += count;
    }

    /// Says that `count` entries of appends that failed are handed over again: they are not lost yet.
    pub fn keep(&mut self, count: u64) {
        self.lost = self.lost.take().and_then(|lost| {
            let count = lost.count.saturating_sub(count);
            (count > 0).then_some(Lost { count, ..lost })
        });
    }

    /// Signs a checkpoint over everything on the log, unless the newest covers it; with `sync`, brings it to the disk.
    ///
    /// # Errors
    /// When the checkpoint was not written.
    pub fn seal(&mut self, sync: bool) -> Result<(), Error> {
        self.locked(|writer| {
            if writer.head.sealed() < writer.head.place.size {
                let last = match writer.unsealed.take() {
                    Some(link) => link,
                    None => writer.last_block()?,
                };
                writer.seal_last(last)?;
            }
            if sync { writer.sync() } else { Ok(()) }
        })
    }

    fn locked<T>(&mut self, act: impl FnOnce(&mut Writer) -> Result<T, Error>) -> Result<T, Error> {
        let hurry = self.hurry;
        self.lock.take(libc::F_WRLCK, hurry)?;
        let result = self.memory.lock(libc::LOCK_EX, hurry).and_then(|()| {
            let result = self.catch_up(false).and_then(|()| act(self));
            self.memory
                .lock(libc::LOCK_UN, Hurry::default())
                .and(result)
        });
        self.lock.release().and(result)
    }

    /// Makes `self.head` what the log now ends with.
    fn catch_up(&mut self, first: bool) -> Result<(), Error> {
        let meta = self
            .file
            .metadata()
            .map_err(|source| Error::io("looking at", &self.path, source))?;
        if meta.nlink() != 1 {
            let why = if meta.nlink() == 0 {
                "it was removed while it was being written"
            } else {
                "it was given a second name"
            };
            return Err(Error::contradiction(&self.path, why));
        }
        if !first
            && meta.len() == self.head.place.offset
            && self.memory.holds(self.head.generation)?
        {
            return Ok(());
        }
        let remembered = self.memory.read()?;
        self.unsealed = None;
        let at = remembered.as_ref().and_then(|head| head.at.clone());
        let signed = remembered.as_ref().map_or(0, Head::sealed);
        let due = recovery::bring_up(
            &self.file,
            &self.path,
            meta.len(),
            remembered,
            &self.head,
            &self.vkey,
        );
        let here = At::of(&self.file, &self.path);
        // Under a name that is not kept by itself, others take it for this file only where that is remembered.
        let moved = first && here.is_some() && here != at && named::is_named(&self.path);
        let due = due.map_err(|why| match (why, at) {
            // What was signed was signed in another file of another name: both began as this log.
            (Error::Contradiction { path, .. }, Some(at))
                if here.as_ref().is_some_and(|here| {
                    here.path != at.path && (here.dev, here.ino) != (at.dev, at.ino)
                }) =>
            {
                Error::Copied {
                    path,
                    other: at.path.into(),
                    signed,
                }
            }
            (why, _) => why,
        })?;
        self.head = due.head;
        self.head.at = here;
        if !due.entries.is_empty() {
            self.write(&due.entries, Seal::Sign, Stamp::now())?;
        } else if moved {
            self.head.generation += 1;
            self.memory.write(&self.head)?;
        }
        due.name
            .map_or(Ok(()), |name| recovery::settle(&self.path, &name))
    }

    /// Writes entries as blocks with one `write`, and remembers. The locks are held.
    fn write(&mut self, entries: &[Entry], seal: Seal, now: Stamp) -> Result<(), Error> {
        let mut next = self.head.clone();
        let (mut out, mut open) = (Vec::with_capacity(4096), None);
        let (mut lines, mut count) = (Vec::with_capacity(4096), 0);
        for entry in entries {
            let stamp = entry.stamp.unwrap_or(now);
            let seq = next.tree.size();
            let mut from = lines.len();
            if entry.kind == "run.started" {
                let entry = entry.clone().with("redaction", rules::digest());
                line::render(&mut lines, &entry, seq, stamp, &self.redactor)?;
            } else {
                line::render(&mut lines, entry, seq, stamp, &self.redactor)?;
            }
            if lines.len() > MAX_ENTRIES {
                let rest = lines.split_off(from);
                open = Some(close(&mut out, &mut next, &lines, count));
                (lines, count, from) = (rest, 0, 0);
            }
            next.tree.push(leaf(&lines[from..lines.len() - 1]));
            next.time = next.time.max(stamp.wall);
            count += 1;
        }
        if count > 0 {
            open = Some(close(&mut out, &mut next, &lines, count));
        }
        let Some(mut link) = open else { return Ok(()) };
        if entries.iter().any(|entry| entry.kind == "clock") {
            next.time = now.wall;
        }
        let seal_line = (seal != Seal::No).then(|| self.sign(&mut next, &mut link));
        if let Some(line) = &seal_line {
            out.extend_from_slice(line.as_bytes());
        }
        next.generation += 1;
        self.put(&out)?;
        self.head = next;
        self.unsealed = seal_line.is_none().then_some(link);
        if seal == Seal::Sync {
            self.sync()?;
        }
        self.memory.write(&self.head)
    }

    /// Signs a checkpoint for everything in `next`, whose last block is `link`; the line to be appended.
    fn sign(&self, next: &mut Head, link: &mut Link) -> String {
        let body = Body {
            origin: self.vkey.name.clone(),
            size: next.tree.size(),
            root: next.tree.root(),
            chain: link.digest(),
        };
        next.note = body.sign(&self.signer, &self.vkey);
        let line = block::checkpoint_line(&next.note);
        next.place.chain = link.update(line.as_bytes()).digest();
        next.place.offset += line.len() as u64;
        line
    }

    fn seal_last(&mut self, mut link: Link) -> Result<(), Error> {
        let mut next = self.head.clone();
        let line = self.sign(&mut next, &mut link);
        next.generation += 1;
        self.put(line.as_bytes())?;
        self.head = next;
        self.memory.write(&self.head)
    }

    /// The digest of the last block, which has no checkpoint.
    fn last_block(&self) -> Result<Link, Error> {
        let place = &self.head.place;
        let mut block = vec![0; usize::try_from(place.offset - place.last).unwrap_or(0)];
        self.file
            .read_exact_at(&mut block, place.last)
            .map_err(|source| Error::io("reading", &self.path, source))?;
        let mut link = Link::new();
        let digest: Digest = link.update(&block).digest();
        if digest != place.chain {
            return Err(Error::contradiction(
                &self.path,
                "its last block was changed",
            ));
        }
        Ok(link)
    }

    /// One `write`; what could not be written whole is taken back.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let failed = match self.file.write(bytes) {
            Ok(count) if count == bytes.len() => return Ok(()),
            Ok(0) => std::io::Error::from_raw_os_error(libc::ENOSPC),
            Ok(count) => match self.file.write_all(&bytes[count..]) {
                Ok(()) => return Ok(()),
                Err(why) => why,
            },
            Err(why) => why,
        };
        let end = self.head.place.offset;
        // Nobody else writes while we hold the lock.
        self.file
            .set_len(end)
            .map_err(|source| Error::io("taking back half a block from", &self.path, source))?;
        Err(Error::io("appending to", &self.path, failed))
    }

    fn sync(&self) -> Result<(), Error> {
        self.file
            .sync_data()
            .map_err(|source| Error::io("bringing to the disk", &self.path, source))
    }
}

impl Lost {
    fn gap(&self, to: Stamp) -> Entry {
        use super::clock::render;
        let time = |stamp: Stamp| String::from_utf8_lossy(&render(stamp.wall)).into_owned();
        Entry::new("gap", None)
            .with("from", time(self.from))
            .with("to", time(to))
            .with("lost", self.count)
            .with("why", self.why.as_str())
            .at(to)
    }
}

/// Ends the block of `lines`: its bytes go to `out`, `next` goes on to after it. Its digest, still open for a checkpoint.
fn close(out: &mut Vec<u8>, next: &mut Head, lines: &[u8], count: u64) -> Link {
    let place = &mut next.place;
    let first = place.size;
    place.size += count;
    let header = Header {
        block: place.block,
        prev: place.chain,
        first,
        count,
        bytes: lines.len(),
    }
    .render();
    let mut link = Link::new();
    place.chain = link.update(header.as_bytes()).update(lines).digest();
    place.last = place.offset;
    place.offset += (header.len() + lines.len()) as u64;
    place.block += 1;
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(lines);
    link
}
