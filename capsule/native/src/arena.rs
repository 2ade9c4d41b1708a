//! The memory of the first milliseconds: one range that is handed out from front to back and not taken back.
//!
//! A launch makes some thousands of small values and lives for a few milliseconds. Keeping order for their reuse costs
//! a general allocator a tenth of that time, and each page touched for the first time is a trap into the kernel: so
//! pages are asked for sixteen at a time. When the range is used up, and for anything large, the C library's
//! allocator serves, so a process that lives long loses half a megabyte. It refuses nothing of its own.
//!
//! ```
//! use capsule::arena::Arena;
//! use std::alloc::{GlobalAlloc, Layout};
//! let (arena, layout) = (Arena::new(), Layout::new::<u64>());
//! // SAFETY: the layout has a size; the place goes back to where it came from.
//! unsafe {
//!     let place = arena.alloc(layout);
//!     assert!(!place.is_null() && place.cast::<u64>().is_aligned());
//!     arena.dealloc(place, layout);
//! }
//! ```

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Bytes of the range.
const SIZE: usize = 512 * 1024;
/// Bytes that are made ready at a time.
const STEP: usize = 64 * 1024;
/// Anything larger, or aligned to more, is the C library's.
const LARGE: usize = 32 * 1024;
const PAGE: usize = 4096;

/// An allocator; one of them is the program's.
pub struct Arena {
    /// Null while there is no range.
    begin: AtomicPtr<u8>,
    /// How many bytes are given out; all of them where there is no range to be had.
    given: AtomicUsize,
    /// How many bytes lie on pages that were made ready.
    ready: AtomicUsize,
}

impl Default for Arena {
    fn default() -> Arena {
        Arena::new()
    }
}

impl Arena {
    /// Without a range: the first value makes it.
    #[must_use]
    pub const fn new() -> Arena {
        Arena {
            begin: AtomicPtr::new(ptr::null_mut()),
            given: AtomicUsize::new(0),
            ready: AtomicUsize::new(0),
        }
    }

    /// How far into the range a place is.
    fn offset(&self, place: *mut u8) -> Option<usize> {
        let begin = self.begin.load(Ordering::Acquire);
        let offset = place.addr().wrapping_sub(begin.addr());
        (!begin.is_null() && offset < SIZE).then_some(offset)
    }

    /// Where the range begins; makes it when there is none.
    fn begin(&self) -> *mut u8 {
        let begin = self.begin.load(Ordering::Acquire);
        if begin.is_null() { self.make() } else { begin }
    }

    #[cold]
    fn make(&self) -> *mut u8 {
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a fresh anonymous mapping; nothing of ours is replaced.
        let range = unsafe { libc::mmap(ptr::null_mut(), SIZE, protection, flags, -1, 0) };
        if range == libc::MAP_FAILED {
            self.given.store(SIZE, Ordering::Relaxed);
            return ptr::null_mut();
        }
        let set = self.begin.compare_exchange(
            ptr::null_mut(),
            range.cast(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        set.map_or_else(
            |other| {
                // SAFETY: another thread was first; nobody has seen this range.
                unsafe { libc::munmap(range, SIZE) };
                other
            },
            |_| range.cast(),
        )
    }

    /// The next `size` bytes, aligned; `None` when they do not fit.
    fn take(&self, layout: Layout) -> Option<*mut u8> {
        if layout.size() > LARGE || layout.align() > PAGE {
            return None;
        }
        let begin = self.begin();
        let mut given = self.given.load(Ordering::Acquire);
        loop {
            let place = given.next_multiple_of(layout.align());
            let end = place + layout.size();
            if end > SIZE {
                return None;
            }
            match self.advance(given, end) {
                Ok(()) => {
                    self.make_ready(begin, end);
                    // SAFETY: `place` is within the range.
                    return Some(unsafe { begin.add(place) });
                }
                Err(now) => given = now,
            }
        }
    }

    /// What was written to a place before it was taken back is done before it is given out again.
    fn advance(&self, from: usize, to: usize) -> Result<(), usize> {
        self.given
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
    }

    /// Have the kernel make the pages before `end` in one go; one before 5.14 makes each when it is touched. After a
    /// `fork` each side makes its own.
    fn make_ready(&self, begin: *mut u8, end: usize) {
        let ready = self.ready.load(Ordering::Relaxed);
        if end > ready {
            let until = end.next_multiple_of(STEP).min(SIZE);
            self.ready.store(until, Ordering::Relaxed);
            // SAFETY: the bytes between are of the range, and the call does not change them.
            unsafe {
                let start = begin.add(ready).cast();
                libc::madvise(start, until - ready, libc::MADV_POPULATE_WRITE);
            }
        }
    }
}

// SAFETY: every byte of the range is given out at most once, but for the last place given out, which may be taken back
// or grow in a single exchange; everything else is the C library's. A place is told by where it lies.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: what the caller promises is what the other allocator asks for.
        self.take(layout)
            .unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match self.take(layout) {
            Some(place) => {
                // It may have been another's before. SAFETY: the place has this size.
                unsafe { place.write_bytes(0, layout.size()) };
                place
            }
            // SAFETY: as above. Large zeroed memory is not touched here.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        match self.offset(place) {
            Some(offset) => {
                // Only the last one is taken back.
                let _ = self.advance(offset + layout.size(), offset);
            }
            // SAFETY: the place came from there.
            None => unsafe { System.dealloc(place, layout) },
        }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(offset) = self.offset(place) else {
            // SAFETY: the place came from there.
            return unsafe { System.realloc(place, layout, size) };
        };
        let (end, wanted) = (offset + layout.size(), offset + size);
        if size <= layout.size() || (wanted <= SIZE && self.advance(end, wanted).is_ok()) {
            self.make_ready(self.begin(), wanted);
            return place;
        }
        // SAFETY: the caller promises that the size, rounded up to the alignment, is a size.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                ptr::copy_nonoverlapping(place, new, layout.size());
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn places_are_aligned_apart_and_keep_their_bytes() {
        let arena = Arena::new();
        let mut places = Vec::new();
        for n in 0..10_000usize {
            let layout = layout(1 + n % 300, 1 << (n % 8));
            // SAFETY: the layout has a size.
            let place = unsafe { arena.alloc(layout) };
            assert_eq!(place.addr() % layout.align(), 0);
            // SAFETY: the place has this size.
            unsafe { place.write_bytes(n as u8, layout.size()) };
            places.push((place, layout, n as u8));
        }
        // More than the range holds: the rest came from elsewhere.
        assert!(arena.offset(places[0].0).is_some() && arena.offset(places[9_999].0).is_none());
        for (place, layout, byte) in places {
            // SAFETY: the place has this size and was filled.
            unsafe {
                let bytes = std::slice::from_raw_parts(place, layout.size());
                assert!(bytes.iter().all(|b| *b == byte));
                arena.dealloc(place, layout);
            }
        }
    }

    #[test]
    fn the_last_place_grows_where_it_is_and_is_taken_back() {
        let arena = Arena::new();
        let (small, large) = (layout(100, 8), layout(300, 8));
        // SAFETY: sizes and layouts are those the places have at the time.
        unsafe {
            let first = arena.alloc(small);
            first.write_bytes(7, 100);
            let grown = arena.realloc(first, small, 300);
            assert_eq!(grown, first);
            let second = arena.alloc(small);
            let moved = arena.realloc(grown, large, 400);
            assert!(moved != grown && *moved == 7 && *moved.add(99) == 7);
            let last = arena.alloc(small);
            arena.dealloc(last, small);
            assert_eq!(arena.alloc_zeroed(small), last);
            assert_eq!(*last, 0);
            arena.dealloc(second, small);
            assert_ne!(arena.alloc(small), second);
        }
    }

    #[test]
    fn many_threads_are_served() {
        let arena = Arena::new();
        std::thread::scope(|scope| {
            for n in 0..4u8 {
                let arena = &arena;
                scope.spawn(move || {
                    for _ in 0..2000 {
                        let layout = layout(64, 8);
                        // SAFETY: the layout has a size, the place is this thread's alone.
                        unsafe {
                            let place = arena.alloc(layout);
                            place.write_bytes(n, 64);
                            std::thread::yield_now();
                            assert!((0..64).all(|at| *place.add(at) == n));
                            arena.dealloc(place, layout);
                        }
                    }
                });
            }
        });
    }
}
