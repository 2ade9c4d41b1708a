//! One writer at a time: a lock per log, out of every sandbox's reach.
//!
//! `flock` on the log itself would need no more than a descriptor for reading, which a command may have: it could keep
//! every writer waiting. So one byte of a file beside the key is locked, its place chosen by the log's device and inode.
//! Who writes a log holds its key, so all its writers meet here. It refuses to wait for ever: whoever holds the lock is
//! waited for [`LONGEST`] at most, and less where a deadline or a signal comes first.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::Error;
use super::keys::{self, Places};

/// The longest that another holder is waited for.
pub const LONGEST: Duration = Duration::from_secs(30);
/// Between two tries: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(5));

/// What ends a wait before its time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hurry {
    /// Not later than this.
    pub until: Option<Instant>,
    /// When something can be read here, usually a `signalfd`.
    pub signals: Option<RawFd>,
}

/// The lock of one log.
#[derive(Debug)]
pub struct LogLock {
    file: File,
    place: i64,
    /// The byte that stands for its being open.
    open: i64,
    log: PathBuf,
}

impl LogLock {
    /// Of the open `log`, whose name is for messages.
    ///
    /// # Errors
    /// When the file of locks is unsafe or cannot be opened.
    pub fn of(places: &Places, log: &File, name: &Path) -> Result<LogLock, Error> {
        let path = places.data.join("log.lock");
        let file = keys::made_private_file(&path, true)?;
        let meta = log
            .metadata()
            .map_err(|source| Error::io("looking at", name, source))?;
        let mut identity = [0; 16];
        identity[..8].copy_from_slice(&meta.dev().to_le_bytes());
        identity[8..].copy_from_slice(&meta.ino().to_le_bytes());
        Ok(LogLock {
            file,
            place: place("capsule log lock v1", &identity),
            open: place("capsule open log v1", &identity),
            log: name.to_owned(),
        })
    }

    /// Let others see that a run is being recorded, for as long as this lives: a log without its end does not say
    /// whether it goes on. Another byte of the same file, which nobody ever waits for.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn hold(&self, run: &str) -> Result<(), Error> {
        self.set(libc::F_RDLCK, place("capsule run lock v1", run.as_bytes()))
            .map_err(|source| Error::io("locking", &self.log, source))
    }

    /// Let others see that this file is being written, for as long as this lives, whatever name it is given meanwhile.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn attend(&self) -> Result<(), Error> {
        self.set(libc::F_RDLCK, self.open)
            .map_err(|source| Error::io("locking", &self.log, source))
    }

    /// Whether somebody else lets us see that.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn attended(&self) -> Result<bool, Error> {
        self.byte(libc::F_OFD_GETLK, libc::F_WRLCK, self.open)
            .map(|found| found != libc::F_UNLCK)
            .map_err(|source| Error::io("locking", &self.log, source))
    }

    /// Take it alone (`F_WRLCK`) or among readers (`F_RDLCK`); closing releases it too.
    ///
    /// # Errors
    /// [`Error::Busy`] when somebody else holds it for too long; when the system refuses.
    pub fn take(&self, kind: libc::c_int, hurry: Hurry) -> Result<(), Error> {
        patiently(&self.log, hurry, || self.set(kind, self.place))
    }

    /// Give it back.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn release(&self) -> Result<(), Error> {
        self.set(libc::F_UNLCK, self.place)
            .map_err(|source| Error::io("unlocking", &self.log, source))
    }

    fn set(&self, kind: libc::c_int, place: i64) -> io::Result<()> {
        self.byte(libc::F_OFD_SETLK, kind, place).map(drop)
    }

    /// Set a lock on a byte, or ask for one that would be in its way; its kind.
    fn byte(&self, act: libc::c_int, kind: libc::c_int, place: i64) -> io::Result<libc::c_int> {
        range(&self.file, act, kind, place, 1).map(|range| range.l_type.into())
    }
}

/// Set a lock on `length` bytes from `from` on (`F_OFD_SETLK`), or ask for one that would be in its way
/// (`F_OFD_GETLK`): that one, as fcntl(2) tells it.
pub(super) fn range(
    file: &File,
    act: libc::c_int,
    kind: libc::c_int,
    from: i64,
    length: i64,
) -> io::Result<libc::flock> {
    // SAFETY: all-zero is a valid structure.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = kind as libc::c_short;
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = from;
    range.l_len = length;
    // SAFETY: the descriptor is open for as long as `file` lives, and `range` outlives the call.
    match unsafe { libc::fcntl(file.as_raw_fd(), act, &raw mut range) } {
        0 => Ok(range),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The byte of the file of locks that stands for something.
fn place(context: &str, of: &[u8]) -> i64 {
    let mut place = [0; 8];
    place.copy_from_slice(&blake3::derive_key(context, of)[..8]);
    i64::from_le_bytes(place) & (i64::MAX >> 1)
}

/// Tries until `attempt`, which must not wait, is not refused for somebody else's sake.
///
/// # Errors
/// [`Error::Busy`] when that takes too long; what `attempt` fails with otherwise.
pub fn patiently(
    path: &Path,
    hurry: Hurry,
    mut attempt: impl FnMut() -> io::Result<()>,
) -> Result<(), Error> {
    let begun = Instant::now();
    let mut pause = PAUSE.0;
    loop {
        let source = match attempt() {
            Ok(()) => return Ok(()),
            Err(source) => source,
        };
        match source.raw_os_error() {
            Some(libc::EINTR) => continue,
            Some(libc::EAGAIN | libc::EACCES) => {}
            _ => return Err(Error::io("locking", path, source)),
        }
        let waited = begun.elapsed();
        let late = hurry.until.is_some_and(|until| until <= Instant::now());
        if late || waited >= LONGEST || rested(pause, hurry.signals) {
            return Err(Error::Busy {
                path: path.to_owned(),
                interrupted: waited < LONGEST,
            });
        }
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Waits; whether something can be read at `signals` meanwhile.
fn rested(pause: Duration, signals: Option<RawFd>) -> bool {
    let mut watched = libc::pollfd {
        fd: signals.unwrap_or(-1),
        events: libc::POLLIN,
        revents: 0,
    };
    let time = libc::timespec {
        tv_sec: 0,
        tv_nsec: i64::from(pause.subsec_nanos()),
    };
    // SAFETY: one valid entry and a valid time, which outlive the call; no mask is given.
    let ready = unsafe { libc::ppoll(&raw mut watched, 1, &raw const time, std::ptr::null()) };
    ready > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locks() -> (tempfile::TempDir, Places, File) {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            data: dir.path().join("data/capsule"),
            state: dir.path().join("state/capsule"),
        };
        keys::signing_key(&places).unwrap();
        let log = File::create(dir.path().join("capsule.log")).unwrap();
        (dir, places, log)
    }

    fn soon() -> Hurry {
        Hurry {
            until: Some(Instant::now()),
            signals: None,
        }
    }

    #[test]
    fn one_log_has_one_lock_and_another_log_another() {
        let (dir, places, log) = locks();
        let name = Path::new("capsule.log");
        let of = |log: &File| LogLock::of(&places, log, name).unwrap();
        let (first, second) = (of(&log), of(&log));
        first.take(libc::F_WRLCK, Hurry::default()).unwrap();
        assert!(matches!(
            second.take(libc::F_WRLCK, soon()),
            Err(Error::Busy {
                interrupted: true,
                ..
            })
        ));
        let other = File::create(dir.path().join("other.log")).unwrap();
        of(&other).take(libc::F_WRLCK, soon()).unwrap();
        first.release().unwrap();
        second.take(libc::F_RDLCK, soon()).unwrap();
        first.take(libc::F_RDLCK, soon()).unwrap();
        drop(first);
        second.take(libc::F_WRLCK, soon()).unwrap();
    }

    #[test]
    fn a_run_is_held_until_its_writer_is_gone() {
        let (_dir, places, log) = locks();
        let of = || LogLock::of(&places, &log, Path::new("capsule.log")).unwrap();
        let (writer, other) = (of(), of());
        writer.hold("r-1").unwrap();
        writer.take(libc::F_WRLCK, soon()).unwrap();
        writer.release().unwrap();
        let free = |run: &str| {
            let place = place("capsule run lock v1", run.as_bytes());
            let free = other.set(libc::F_WRLCK, place).is_ok();
            other.set(libc::F_UNLCK, place).unwrap();
            free
        };
        assert!(!free("r-1") && free("r-2"));
        drop(writer);
        assert!(free("r-1"));
    }

    #[test]
    fn a_lock_on_the_log_itself_keeps_nobody_waiting() {
        let (dir, places, log) = locks();
        let reader = File::open(dir.path().join("capsule.log")).unwrap();
        // SAFETY: plain integers; the descriptor is open.
        assert_eq!(unsafe { libc::flock(reader.as_raw_fd(), libc::LOCK_EX) }, 0);
        let lock = LogLock::of(&places, &log, Path::new("capsule.log")).unwrap();
        lock.take(libc::F_WRLCK, soon()).unwrap();
    }

    #[test]
    fn a_wait_ends_when_there_is_something_to_read() {
        let (_dir, places, log) = locks();
        let of = || LogLock::of(&places, &log, Path::new("capsule.log")).unwrap();
        let (holder, waiter) = (of(), of());
        holder.take(libc::F_WRLCK, Hurry::default()).unwrap();
        let (reader, mut writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut writer, b"x").unwrap();
        let hurry = Hurry {
            until: None,
            signals: Some(reader.as_raw_fd()),
        };
        assert!(matches!(
            waiter.take(libc::F_WRLCK, hurry),
            Err(Error::Busy { .. })
        ));
    }
}
