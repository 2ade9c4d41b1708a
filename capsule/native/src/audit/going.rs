//! The runs that are going, and whether each has taken note of a log that is begun meanwhile.
//!
//! One file in the state directory has a page for each. A page is its run's while that holds a lock on one byte of the
//! file, which the kernel takes away with the run. It says where the run may write, and whether its monitor is within a
//! call: a number that is odd then. The first page counts what was added to the list of [`named`](super::named) logs: a
//! monitor looks at that count at the beginning of every call, from mapped memory. Who begins a log counts, adds its
//! name, and waits until no monitor is still within a call that began before: from then on its name is kept from all
//! of them. It refuses to begin one where a run may write that has no monitor, or whose monitor does not come out of a
//! call.
//!
//! `capsule run -- make &` and `capsule run --log audit/two.log -- true` → `make` cannot write `audit/two.log`

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::error::Error;
use super::named::{self, Named};
use super::{keys, lock};

/// Bytes of a page of the file; a multiple of every page size in use.
const PAGE: u64 = 64 * 1024;
/// Runs at once.
const MOST: u64 = 4096;
/// The longest text of where a run may write; one that is longer may write anywhere.
const LONGEST: usize = 32 * 1024;
/// What comes before that text: whether the monitor is within a call, and how long the text is.
const HEAD: usize = 16;
/// How long a monitor may stay within a call.
const PATIENCE: Duration = Duration::from_secs(10);
/// The file of runs with a monitor, and of those without.
const NAMES: [&str; 2] = ["going", "going-unwatched"];

/// This run's page.
#[derive(Debug)]
pub struct Going {
    file: File,
    page: Page,
}

/// What a monitor needs: the number of its run's page, and the count that what it knows is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    number: u64,
    counted: u64,
}

impl Going {
    /// Take a page for a run that may write beneath `roots`; `monitored`: whether a monitor keeps names from it.
    ///
    /// # Errors
    /// When the file is unsafe or cannot be written, or as many runs are going as it has pages.
    pub fn enter<'a>(
        state: &Path,
        roots: impl Iterator<Item = &'a Path>,
        monitored: bool,
    ) -> Result<Going, Error> {
        let path = state.join(NAMES[usize::from(!monitored)]);
        let failed = |source| Error::io("writing", &path, source);
        let file = keys::made_private_file(&path, true)?;
        let number = free(&file).map_err(failed)?;
        let mut text = Vec::with_capacity(512);
        text.resize(HEAD, 0);
        for root in roots {
            text.extend_from_slice(root.as_os_str().as_bytes());
            text.push(0);
        }
        if text.len() > LONGEST {
            text.truncate(HEAD);
            text.extend_from_slice(b"/\0");
        }
        let length = (text.len() - HEAD) as u64;
        text[8..HEAD].copy_from_slice(&length.to_ne_bytes());
        file.write_all_at(&text, number * PAGE).map_err(failed)?;
        // After the page was written, and before the list is read: who adds a name sees the one, or is seen by the other.
        let counted = integer(&file, 0).map_err(failed)?;
        Ok(Going {
            file,
            page: Page { number, counted },
        })
    }

    /// For the monitor.
    #[must_use]
    pub fn page(&self) -> Page {
        self.page
    }

    /// The file, which holds the page for as long as it is open somewhere.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

/// Lock the first page that nobody has; its number.
fn free(file: &File) -> io::Result<u64> {
    for page in 1..=MOST {
        match lock::range(
            file,
            libc::F_OFD_SETLK,
            libc::F_WRLCK,
            page.cast_signed(),
            1,
        ) {
            Ok(_) => return Ok(page),
            Err(why) if matches!(why.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {}
            Err(why) => return Err(why),
        }
    }
    Err(io::Error::other(format!("{MOST} runs are going")))
}

/// The number at an offset.
fn integer(file: &File, offset: u64) -> io::Result<u64> {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// The first of `length` bytes from `from` on that somebody has locked, and how many from there.
fn held(file: &File, from: u64, length: u64) -> io::Result<Option<(u64, u64)>> {
    let (from, length) = (from.cast_signed(), length.cast_signed());
    let found = lock::range(file, libc::F_OFD_GETLK, libc::F_WRLCK, from, length)?;
    let taken = i32::from(found.l_type) != libc::F_UNLCK;
    Ok(taken.then(|| (found.l_start.cast_unsigned(), found.l_len.cast_unsigned())))
}

/// The pages from `from` on, `length` of them, that runs have.
fn taken(file: &File, from: u64, length: u64, found: &mut Vec<u64>) -> io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    let Some((first, count)) = held(file, from, length)? else {
        return Ok(());
    };
    let (first, end) = (first.max(from), (first + count).min(from + length));
    found.extend(first..end);
    taken(file, from, first - from, found)?;
    taken(file, end, from + length - end, found)
}

/// The pages of runs that may write at `log`, or move it.
fn reaching(file: &File, log: &Path) -> io::Result<Vec<u64>> {
    let mut pages = Vec::new();
    taken(file, 1, MOST, &mut pages)?;
    let mut reaching = Vec::new();
    for page in pages {
        if reaches(file, page, log)? {
            reaching.push(page);
        }
    }
    Ok(reaching)
}

fn reaches(file: &File, page: u64, log: &Path) -> io::Result<bool> {
    // A page that is only being written is of a run that has yet to read the list.
    let length = match integer(file, page * PAGE + 8) {
        Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        length => usize::try_from(length?).unwrap_or(usize::MAX).min(LONGEST),
    };
    let mut text = vec![0; length];
    file.read_exact_at(&mut text, page * PAGE + HEAD as u64)?;
    let mut roots = text
        .split(|byte| *byte == 0)
        .filter(|root| !root.is_empty());
    Ok(roots.any(|root| log.starts_with(OsStr::from_bytes(root))))
}

fn within_reach(log: &Path, why: &str, next: &str) -> Error {
    Error::Unsafe {
        path: log.to_owned(),
        why: format!("lies where a run that is going may write, {why}"),
        next: format!("{next}, or choose another place with --log"),
    }
}

/// Refuse where a run that has no monitor may write at `log`: nothing would keep it from that run.
///
/// # Errors
/// [`Error::Unsafe`] then; when it cannot be known.
pub fn unwatched(state: &Path, log: &Path) -> Result<(), Error> {
    let path = state.join(NAMES[1]);
    let Some(file) = keys::private_file(&path, true)? else {
        return Ok(());
    };
    let log = &named::placed(log)?;
    let pages = reaching(&file, log).map_err(|source| Error::io("reading", &path, source))?;
    if pages.is_empty() {
        return Ok(());
    }
    let why = "and which has no layer `supervisor` to keep it";
    Err(within_reach(log, why, "wait for its end"))
}

/// The file of runs with a monitor, for [`count`] and [`settled`]; none where no run ever was.
///
/// # Errors
/// When the file is unsafe or cannot be opened.
pub fn watched(state: &Path) -> Result<Option<File>, Error> {
    keys::private_file(&state.join(NAMES[0]), true)
}

/// Count that a name is about to be added to the list, whose lock is held: a monitor that sees it waits for the name.
///
/// # Errors
/// When the file cannot be written.
pub fn count(file: &File) -> io::Result<()> {
    let before = match integer(file, 0) {
        // Who made it has yet to write its page.
        Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => 0,
        before => before?,
    };
    // With what stands there, so that there is room for it before it is written through memory.
    file.write_all_at(&before.to_ne_bytes(), 0)?;
    Mapped::new(file, 0, true)?
        .number()
        .fetch_add(1, Ordering::SeqCst);
    Ok(())
}

/// Wait until no monitor whose run may write at `log` is still within a call that began before.
///
/// # Errors
/// [`Error::Unsafe`] when one does not come out of its call; when that cannot be known.
pub fn settled(file: &File, state: &Path, log: &Path) -> Result<(), Error> {
    let failed = |source| Error::io("reading", &state.join(NAMES[0]), source);
    let until = Instant::now() + PATIENCE;
    for page in reaching(file, log).map_err(failed)? {
        let turn = Mapped::new(file, page, false).map_err(failed)?;
        let before = turn.number().load(Ordering::SeqCst);
        while before % 2 == 1 && turn.number().load(Ordering::SeqCst) == before {
            if held(file, page, 1).map_err(failed)?.is_none() {
                break;
            }
            if Instant::now() > until {
                let why = "and which takes no note of it";
                return Err(within_reach(log, why, "let it go on"));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    Ok(())
}

/// The beginning of one page of the file, in memory.
#[derive(Debug)]
struct Mapped(NonNull<libc::c_void>);

/// Bytes of it that are mapped.
const SEEN: usize = 4096;

// SAFETY: the mapping belongs to the process; what is done with it is atomic.
unsafe impl Send for Mapped {}

impl Mapped {
    fn new(file: &File, page: u64, write: bool) -> io::Result<Mapped> {
        let protection = if write {
            libc::PROT_READ | libc::PROT_WRITE
        } else {
            libc::PROT_READ
        };
        let offset = (page * PAGE).cast_signed();
        // SAFETY: a new mapping, at a place of the kernel's choice.
        let place = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SEEN,
                protection,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                offset,
            )
        };
        match NonNull::new(place) {
            Some(place) if place.as_ptr() != libc::MAP_FAILED => Ok(Mapped(place)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn number(&self) -> &AtomicU64 {
        // SAFETY: the mapping is there as long as `self`, begins on a page, and the file never shrinks.
        unsafe { self.0.cast::<AtomicU64>().as_ref() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `new`, and nothing points into it.
        unsafe { libc::munmap(self.0.as_ptr(), SEEN) };
    }
}

/// A monitor's side: says when it is within a call, and sees that the list has grown.
#[derive(Debug)]
pub struct Noting {
    head: Mapped,
    turn: Mapped,
    counted: u64,
    /// Holds the page for as long as this process lives, which may be a moment longer than its supervisor.
    _going: File,
    list: File,
}

impl Noting {
    /// With the file of [`Going`] and the list of named logs.
    ///
    /// # Errors
    /// As `mmap(2)`.
    pub fn new(going: OwnedFd, list: OwnedFd, page: Page) -> io::Result<Noting> {
        let going = File::from(going);
        Ok(Noting {
            head: Mapped::new(&going, 0, false)?,
            turn: Mapped::new(&going, page.number, true)?,
            counted: page.counted,
            _going: going,
            list: File::from(list),
        })
    }

    /// A call begins; whether there is something on the list that was not seen.
    #[inline]
    pub fn begin(&self) -> bool {
        self.turn.number().fetch_add(1, Ordering::SeqCst);
        self.head.number().load(Ordering::SeqCst) != self.counted
    }

    /// What is on the list now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn list(&mut self) -> Result<Vec<Named>, Error> {
        // What is added after this is seen at the next call.
        self.counted = self.head.number().load(Ordering::SeqCst);
        named::read(&self.list)
    }

    /// The call was performed.
    #[inline]
    pub fn end(&self) {
        self.turn.number().fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(state: &Path, root: &str, monitored: bool) -> Going {
        Going::enter(state, [Path::new(root)].into_iter(), monitored).unwrap()
    }

    #[test]
    fn who_is_going_is_known_by_where_it_may_write_until_it_ends() {
        let here = tempfile::tempdir().unwrap();
        let state = here.path().join("state");
        assert!(watched(&state).unwrap().is_none());
        // Made by somebody who died before it wrote its page.
        let empty = keys::made_private_file(&state.join(NAMES[0]), true).unwrap();
        count(&empty).unwrap();
        assert_eq!(integer(&empty, 0).unwrap(), 1);
        let runs = [
            enter(&state, "/a", true),
            enter(&state, "/b", true),
            enter(&state, "/a/deep", true),
        ];
        let file = watched(&state).unwrap().unwrap();
        let reaching = |log: &str| {
            let mut pages = reaching(&file, Path::new(log)).unwrap();
            pages.sort_unstable();
            pages
        };
        assert_eq!(reaching("/a/deep/x.log"), [1, 3]);
        assert_eq!(reaching("/b"), [2]);
        assert!(reaching("/bb/x.log").is_empty());
        let [_first, second, _third] = runs;
        drop(second);
        assert!(reaching("/b").is_empty());
        // Its page is the next one's, and says nothing of it any more.
        let _fourth = enter(&state, "/c", true);
        assert_eq!((reaching("/b"), reaching("/c/x")), (vec![], vec![2]));
        let long = format!("/{}", "x".repeat(LONGEST));
        let _fifth = enter(&state, &long, true);
        assert_eq!(reaching("/elsewhere"), [4]);
    }

    #[test]
    fn where_nothing_keeps_a_log_it_is_refused() {
        let here = tempfile::tempdir().unwrap();
        let root = here.path().canonicalize().unwrap();
        let state = root.join("state");
        let [log, other] = ["a", "b"].map(|name| root.join(name).join("x.log"));
        for log in [&log, &other] {
            std::fs::create_dir(log.parent().unwrap()).unwrap();
        }
        unwatched(&state, &log).unwrap();
        let run = enter(&state, root.join("a").to_str().unwrap(), false);
        let why = unwatched(&state, &log).unwrap_err();
        assert!(why.to_string().contains("no layer `supervisor`"), "{why}");
        unwatched(&state, &other).unwrap();
        drop(run);
        unwatched(&state, &log).unwrap();
    }

    #[test]
    fn who_begins_a_log_waits_for_a_call_that_began_before() {
        let here = tempfile::tempdir().unwrap();
        let state = here.path();
        let run = enter(state, "/a", true);
        let list = named::open(state, false).unwrap();
        let own = |file: &File| file.try_clone().unwrap().into();
        let mut noting = Noting::new(own(run.file()), own(&list), run.page()).unwrap();
        let file = watched(state).unwrap().unwrap();
        let log = Path::new("/a/x.log");
        assert!(!noting.begin());
        count(&file).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| settled(&file, state, log));
            std::thread::sleep(Duration::from_millis(30));
            assert!(!waiting.is_finished());
            // Nobody waits for who may not write there.
            settled(&file, state, Path::new("/b/x.log")).unwrap();
            noting.end();
            waiting.join().unwrap().unwrap();
        });
        assert!(noting.begin());
        assert!(noting.list().unwrap().is_empty());
        noting.end();
        assert!(!noting.begin());
        // One that is killed within a call performs no more of it.
        drop((noting, run));
        settled(&file, state, log).unwrap();
    }
}
