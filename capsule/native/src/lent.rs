//! Memory that this process writes once and a child that was begun before takes over.
//!
//! The first process of a sandbox is begun while the supervisor still decides; what was decided reaches it here, as the
//! values they are. The range is shared from before the child is begun. [`Lent::fill`] has the program's allocator make
//! a value, and all it owns, in the range; the child has memory of its own at the same place ([`part`]), copies there
//! what was written ([`Apart::take`]) and lets go of the range: from then on nothing is shared, and what becomes of the
//! child is nothing to the supervisor, which never reads what it lent. It refuses: a second range in one process, a
//! value that does not fit, an allocator that is not [`Arena`](crate::arena::Arena), and a place outside the range.

use std::alloc::Layout;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Addresses of the range; pages are made only where something is written.
const SIZE: usize = 64 << 20;
/// Bytes that the child has at the same place before it knows how many it takes.
const OWN: usize = 1 << 20;
/// Bytes that are made ready at a time.
const STEP: usize = 32 * 1024;
const PAGE: usize = 4096;

/// Where the range begins; 0 before there is one.
static BEGIN: AtomicUsize = AtomicUsize::new(0);
/// How long it is.
static LENGTH: AtomicUsize = AtomicUsize::new(0);
/// How many bytes are given out.
static GIVEN: AtomicUsize = AtomicUsize::new(0);
/// How many lie on pages that were made ready.
static READY: AtomicUsize = AtomicUsize::new(0);
/// Whether the allocator gives out places of the range.
static FILLING: AtomicBool = AtomicBool::new(false);
/// Whether something that was asked for meanwhile did not fit.
static MISSED: AtomicBool = AtomicBool::new(false);

/// For the allocator: the next place of the range, while it is filled and as long as there is room.
#[inline]
pub(crate) fn divert(layout: Layout) -> Option<*mut u8> {
    if FILLING.load(Ordering::Relaxed) {
        place(layout)
    } else {
        None
    }
}

/// For the allocator: whether a place is in the range, whose places are not taken back.
#[inline]
pub(crate) fn holds(place: *mut u8) -> bool {
    let begin = BEGIN.load(Ordering::Relaxed);
    begin != 0 && place.addr().wrapping_sub(begin) < LENGTH.load(Ordering::Relaxed)
}

#[cold]
fn place(layout: Layout) -> Option<*mut u8> {
    let begin = BEGIN.load(Ordering::Relaxed);
    let at = GIVEN
        .load(Ordering::Relaxed)
        .next_multiple_of(layout.align());
    let end = at.saturating_add(layout.size());
    if layout.align() > PAGE || end > SIZE {
        MISSED.store(true, Ordering::Relaxed);
        return None;
    }
    GIVEN.store(end, Ordering::Relaxed);
    let ready = READY.load(Ordering::Relaxed);
    if end > ready {
        let until = end.next_multiple_of(STEP).min(SIZE);
        READY.store(until, Ordering::Relaxed);
        // SAFETY: the bytes between are of the range, and the call does not change them. Where it does nothing (before
        // Linux 5.14) each page is made when it is touched.
        unsafe {
            let start = ptr::with_exposed_provenance_mut(begin + ready);
            libc::madvise(start, until - ready, libc::MADV_POPULATE_WRITE);
        }
    }
    Some(ptr::with_exposed_provenance_mut(begin + at))
}

/// A range to fill, shared with every child that is begun from now on.
#[derive(Debug)]
pub struct Lent(());

/// Where a value was put: a message to the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    place: usize,
    length: usize,
}

impl Lent {
    /// Make the range.
    ///
    /// # Errors
    /// As `mmap(2)`; `EBUSY` where this process has one already.
    pub fn new() -> io::Result<Lent> {
        if BEGIN.load(Ordering::Relaxed) != 0 {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        );
        // SAFETY: a fresh anonymous mapping; nothing of ours is replaced.
        let range = unsafe { libc::mmap(ptr::null_mut(), SIZE, protection, flags, -1, 0) };
        if range == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        LENGTH.store(SIZE, Ordering::Relaxed);
        BEGIN.store(range.expose_provenance(), Ordering::Relaxed);
        Ok(Lent(()))
    }

    /// Put there what `make` gives, with everything that was allocated for it. It is given away: what lies there is the
    /// child's.
    ///
    /// # Errors
    /// `ENOMEM` where it does not fit, or where the program's allocator knows nothing of the range.
    ///
    /// # Safety
    /// The process has one thread. `make` allocates all that its value owns, as a deep copy does, and the value points
    /// to nothing else but constants: what lay elsewhere before would be another's in the child.
    pub unsafe fn fill<T>(&mut self, make: impl FnOnce() -> T) -> io::Result<Filled> {
        FILLING.store(true, Ordering::Relaxed);
        let value = Box::into_raw(Box::new(make()));
        FILLING.store(false, Ordering::Relaxed);
        if MISSED.load(Ordering::Relaxed) || !holds(value.cast()) {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        Ok(Filled {
            place: value.expose_provenance(),
            length: GIVEN.load(Ordering::Relaxed),
        })
    }
}

impl Lent {
    /// Let go of the range, once the child has [taken](Apart::take) all that was put there.
    ///
    /// # Errors
    /// As `munmap(2)`: it is still there then.
    pub fn end(self) -> io::Result<()> {
        let range = ptr::with_exposed_provenance_mut(BEGIN.load(Ordering::Relaxed));
        // SAFETY: the mapping was made in `new`; what lies there was given away, and nothing here points to it.
        if unsafe { libc::munmap(range, SIZE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        for of_range in [&BEGIN, &LENGTH, &GIVEN, &READY] {
            of_range.store(0, Ordering::Relaxed);
        }
        MISSED.store(false, Ordering::Relaxed);
        Ok(())
    }
}

impl Filled {
    /// As bytes of a message.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(self.place as u64).to_ne_bytes());
        bytes[8..].copy_from_slice(&(self.length as u64).to_ne_bytes());
        bytes
    }

    /// From the bytes of a message; `None` where they are no such message.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Filled> {
        let (place, length) = bytes.split_at_checked(8)?;
        let number =
            |bytes: &[u8]| usize::try_from(u64::from_ne_bytes(bytes.try_into().ok()?)).ok();
        Some(Filled {
            place: number(place)?,
            length: number(length)?,
        })
    }
}

/// In the child: the range, seen elsewhere, and memory of its own where it was.
#[derive(Debug)]
pub struct Apart {
    shared: *mut u8,
    /// Bytes at the place of the range that are this process's own.
    own: usize,
    /// How many were copied.
    taken: usize,
}

const PROTECTION: i32 = libc::PROT_READ | libc::PROT_WRITE;
const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// In the child, before it takes anything: put memory of its own in the place of the range.
///
/// # Errors
/// As `mmap(2)`; `EFAULT` where there is no range.
///
/// # Safety
/// The process is a copy of the one that made the range, and nothing of it was filled yet.
pub unsafe fn part() -> io::Result<Apart> {
    let begin = BEGIN.load(Ordering::Relaxed);
    if begin == 0 {
        return Err(io::Error::from_raw_os_error(libc::EFAULT));
    }
    let range: *mut libc::c_void = ptr::with_exposed_provenance_mut(begin);
    // SAFETY: of no bytes of a shared mapping, this makes a second one of the same pages (mremap(2)). Then the first is
    // replaced; nothing lies there.
    unsafe {
        let shared = libc::mremap(range, 0, SIZE, libc::MREMAP_MAYMOVE);
        if shared == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let own = libc::mmap(range, OWN, PROTECTION, PRIVATE | libc::MAP_FIXED, -1, 0);
        if own != range || libc::munmap(range.byte_add(OWN), SIZE - OWN) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Apart {
            shared: shared.cast(),
            own: OWN,
            taken: 0,
        })
    }
}

impl Apart {
    /// What was put there, in memory of this process's own.
    ///
    /// # Errors
    /// As `mmap(2)`; `EFAULT` for a place outside the range, or one that was taken.
    ///
    /// # Safety
    /// `filled` came from [`Lent::fill`] with this type, in the process that this one was copied from.
    pub unsafe fn take<T>(&mut self, filled: Filled) -> io::Result<T> {
        let begin = BEGIN.load(Ordering::Relaxed);
        let Filled { place, length } = filled;
        let within = length <= SIZE
            && place.is_multiple_of(align_of::<T>())
            && place >= begin + self.taken
            && place
                .checked_add(size_of::<T>())
                .is_some_and(|end| end <= begin + length);
        if !within {
            return Err(io::Error::from_raw_os_error(libc::EFAULT));
        }
        let range: *mut u8 = ptr::with_exposed_provenance_mut(begin);
        // SAFETY: what lay behind this process's own memory was let go in `part`. Both processes have the range at the
        // same addresses, so what the value points to is where it was; the caller promises that there is such a value.
        unsafe {
            if length > self.own {
                let (end, more) = (range.add(self.own).cast(), SIZE - self.own);
                let flags = PRIVATE | libc::MAP_FIXED_NOREPLACE | libc::MAP_NORESERVE;
                if libc::mmap(end, more, PROTECTION, flags, -1, 0) != end {
                    return Err(io::Error::last_os_error());
                }
                self.own = SIZE;
            }
            // In one go; where this does nothing (before Linux 5.14) each page is made when it is touched.
            let (first, end) = (
                self.taken.next_multiple_of(PAGE),
                length.next_multiple_of(PAGE),
            );
            if end > first {
                let pages = range.add(first).cast();
                libc::madvise(pages, end - first, libc::MADV_POPULATE_WRITE);
            }
            let new = length - self.taken;
            let (from, to) = (self.shared.add(self.taken), range.add(self.taken));
            ptr::copy_nonoverlapping(from, to, new);
            self.taken = length;
            Ok(ptr::with_exposed_provenance::<T>(place).read())
        }
    }

    /// Let go of the range.
    ///
    /// # Errors
    /// As `munmap(2)`: it is still shared then.
    pub fn end(self) -> io::Result<()> {
        // SAFETY: this mapping was made in `part`, and nothing points into it.
        if unsafe { libc::munmap(self.shared.cast(), SIZE) } != 0 {
            return Err(io::Error::last_os_error());
        }
        LENGTH.store(self.own, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let filled = Filled {
            place: 0x7f00_1234_5678,
            length: 4711,
        };
        assert_eq!(Filled::from_bytes(&filled.to_bytes()), Some(filled));
        for bytes in [&b""[..], &[0; 15], &[0; 17]] {
            assert_eq!(Filled::from_bytes(bytes), None);
        }
    }

    #[test]
    fn there_is_one_range_and_an_allocator_that_knows_of_it() {
        // SAFETY: there is no range yet, and so nothing that is replaced.
        let refused = unsafe { part() }.unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EFAULT));
        let mut lent = Lent::new().unwrap();
        assert_eq!(Lent::new().unwrap_err().raw_os_error(), Some(libc::EBUSY));
        // The tests' allocator is not the program's.
        // SAFETY: nothing that was allocated meanwhile lies in the range.
        let refused = unsafe { lent.fill(|| 7u64) }.unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOMEM));
    }
}
