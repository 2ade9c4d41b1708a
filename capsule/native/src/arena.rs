//! The memory of the first milliseconds: one range that is handed out from front to back.
//!
//! A launch makes some thousands of small values and lives for a few milliseconds. Keeping them in order costs a general
//! allocator a tenth of that time, and each page touched for the first time is a trap into the kernel: so pages are
//! asked for sixteen at a time, and what is given back is given out again to the next that fits its size, which is
//! most often one of the same kind. When the range is used up, for anything large, and where two threads meet, the C
//! library's allocator serves, so a process that lives long loses a megabyte. While a range is [lent](crate::lent),
//! values come to lie there. It refuses nothing of its own.
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

use crate::lent;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// Bytes of the range.
const SIZE: usize = 1024 * 1024;
/// Bytes that are made ready at a time.
const STEP: usize = 64 * 1024;
/// Bytes that are made ready at first: a launch copies its process before it needs more, and goes on elsewhere.
const FIRST: usize = 32 * 1024;
/// Anything larger, or aligned to more, is the C library's.
const LARGE: usize = 96 * 1024;
const PAGE: usize = 4096;
/// All sizes and places are multiples of it.
const GRAIN: usize = 16;
/// Up to here, what is given back goes to values of just its size; above, to those of at most half of it.
const EXACT: usize = 1024;
/// Lists of what was given back: one a size up to `EXACT`, then one a power of two.
const LISTS: usize = EXACT / GRAIN + 1 + 7;

/// Whether the next value lies on pages that were not made ready yet.
static TURN: AtomicBool = AtomicBool::new(false);

/// After a copy of this process was made: go on with pages that only this process has. One that both have is copied as
/// soon as either writes there.
pub fn turn() {
    TURN.store(true, Ordering::Relaxed);
}

/// An allocator; one of them is the program's.
pub struct Arena {
    /// Null while there is no range.
    begin: AtomicPtr<u8>,
    /// Held by the thread that looks at what follows.
    taken: AtomicBool,
    order: UnsafeCell<Order>,
}

struct Order {
    /// How many bytes are given out; all of them where there is no range to be had.
    given: usize,
    /// How many bytes lie on pages that were made ready.
    ready: usize,
    /// What lies before this is not given out again.
    floor: usize,
    /// What was given back: each place begins with that of the next.
    free: [*mut u8; LISTS],
}

// SAFETY: `order` is looked at only by the thread that holds `taken`; the places in it belong to nobody.
unsafe impl Sync for Arena {}
// SAFETY: as above.
unsafe impl Send for Arena {}

/// Bytes that are given out for a size.
const fn rounded(size: usize) -> usize {
    size.next_multiple_of(GRAIN)
}

/// The list that a place of this many bytes is put on.
const fn list_of(size: usize) -> usize {
    if size <= EXACT {
        size / GRAIN
    } else {
        EXACT / GRAIN + (size.ilog2() - EXACT.ilog2()) as usize
    }
}

/// The list whose places are large enough for this many bytes.
const fn list_for(size: usize) -> usize {
    if size <= EXACT {
        size / GRAIN
    } else {
        list_of(size.next_power_of_two())
    }
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
            taken: AtomicBool::new(false),
            order: UnsafeCell::new(Order {
                given: 0,
                ready: 0,
                floor: 0,
                free: [ptr::null_mut(); LISTS],
            }),
        }
    }

    /// How far into the range a place is.
    fn offset(&self, place: *mut u8) -> Option<usize> {
        let begin = self.begin.load(Ordering::Acquire);
        let offset = place.addr().wrapping_sub(begin.addr());
        (!begin.is_null() && offset < SIZE).then_some(offset)
    }

    /// With the order in hand; `None` while another thread has it.
    fn hold<T>(&self, act: impl FnOnce(&mut Order) -> T) -> Option<T> {
        if self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        // SAFETY: this thread alone holds `taken`, and `act` does not come here again: it allocates nothing.
        let done = act(unsafe { &mut *self.order.get() });
        self.taken.store(false, Ordering::Release);
        Some(done)
    }

    /// Make the range.
    #[cold]
    fn make(&self, order: &mut Order) -> *mut u8 {
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a fresh anonymous mapping; nothing of ours is replaced.
        let range = unsafe { libc::mmap(ptr::null_mut(), SIZE, protection, flags, -1, 0) };
        if range == libc::MAP_FAILED {
            order.given = SIZE;
            return ptr::null_mut();
        }
        self.begin.store(range.cast(), Ordering::Release);
        range.cast()
    }

    /// A place for `size` bytes, a multiple of `GRAIN`; `None` when there is none.
    fn place(&self, order: &mut Order, size: usize, align: usize) -> Option<*mut u8> {
        if TURN.load(Ordering::Relaxed) && TURN.swap(false, Ordering::Relaxed) {
            order.given = order.given.max(order.ready);
            order.floor = order.given;
            order.free = [ptr::null_mut(); LISTS];
        }
        let list = list_for(size);
        let first = order.free[list];
        if !first.is_null() && align <= GRAIN {
            // SAFETY: a place on a list belongs to nobody, is large enough and begins with the next one's.
            order.free[list] = unsafe { first.cast::<*mut u8>().read() };
            return Some(first);
        }
        let mut begin = self.begin.load(Ordering::Relaxed);
        if begin.is_null() && order.given == 0 {
            begin = self.make(order);
        }
        let at = order.given.next_multiple_of(align.max(GRAIN));
        let end = at + size;
        if end > SIZE {
            return None;
        }
        order.given = end;
        order.make_ready(begin, end);
        // SAFETY: `at` is within the range.
        Some(unsafe { begin.add(at) })
    }

    fn take(&self, layout: Layout) -> Option<*mut u8> {
        if layout.size() > LARGE || layout.align() > PAGE {
            return None;
        }
        let size = rounded(layout.size());
        self.hold(|order| self.place(order, size, layout.align()))?
    }
}

impl Order {
    /// Have the kernel make the pages before `end` in one go; one before 5.14 makes each when it is touched. After a
    /// `fork` each side makes its own.
    fn make_ready(&mut self, begin: *mut u8, end: usize) {
        if end > self.ready {
            let step = if self.ready == 0 { FIRST } else { STEP };
            let until = end.next_multiple_of(step).min(SIZE);
            // SAFETY: the bytes between are of the range, and the call does not change them.
            unsafe {
                let start = begin.add(self.ready).cast();
                libc::madvise(start, until - self.ready, libc::MADV_POPULATE_WRITE);
            }
            self.ready = until;
        }
    }

    /// Take back a place at `offset`.
    fn give_back(&mut self, place: *mut u8, offset: usize, size: usize) {
        if offset < self.floor {
            return;
        }
        if offset + size == self.given {
            self.given = offset;
        } else {
            let list = list_of(size);
            // SAFETY: the place is a grain large at least, and nobody's any more.
            unsafe { place.cast::<*mut u8>().write(self.free[list]) };
            self.free[list] = place;
        }
    }

    /// Let the last place become larger where it is; up to the largest that a list takes back.
    fn grow(&mut self, begin: *mut u8, offset: usize, from: usize, to: usize) -> bool {
        let last = offset + from == self.given && to <= LARGE && offset + to <= SIZE;
        if last {
            self.given = offset + to;
            self.make_ready(begin, offset + to);
        }
        last
    }
}

// SAFETY: every byte of the range is given out once at a time: from the front, or from a list onto which it came when
// it was taken back; the lists hold places that are at least as large as what they are for. Everything else is the C
// library's. A place is told by where it lies.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: what the caller promises is what the other allocator asks for.
        lent::divert(layout)
            .or_else(|| self.take(layout))
            .unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match lent::divert(layout).or_else(|| self.take(layout)) {
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
            _ if lent::holds(place) => {}
            // Where another thread is at it, the place is lost.
            Some(offset) => {
                self.hold(|order| order.give_back(place, offset, rounded(layout.size())));
            }
            // SAFETY: the place came from there.
            None => unsafe { System.dealloc(place, layout) },
        }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (old, wanted) = (rounded(layout.size()), rounded(size));
        match self.offset(place) {
            _ if lent::holds(place) => {
                if size <= layout.size() {
                    return place;
                }
            }
            // SAFETY: the place came from there.
            None => return unsafe { System.realloc(place, layout, size) },
            Some(_) if wanted <= old => return place,
            Some(offset) => {
                let begin = self.begin.load(Ordering::Relaxed);
                if self.hold(|order| order.grow(begin, offset, old, wanted)) == Some(true) {
                    return place;
                }
            }
        }
        // SAFETY: the caller promises that the size, rounded up to the alignment, is a size; the old place is given back
        // with the layout it has.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                ptr::copy_nonoverlapping(place, new, layout.size().min(size));
                self.dealloc(place, layout);
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

    /// What lies there is what was written, and the place goes back.
    fn give_back(arena: &Arena, place: *mut u8, layout: Layout, byte: u8) {
        // SAFETY: the place has this size and was filled.
        unsafe {
            let bytes = std::slice::from_raw_parts(place, layout.size());
            assert!(bytes.iter().all(|b| *b == byte));
            arena.dealloc(place, layout);
        }
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
            give_back(&arena, place, layout, byte);
        }
    }

    #[test]
    fn what_is_given_back_is_given_out_again_and_never_twice() {
        let arena = Arena::new();
        let mut places: Vec<(*mut u8, Layout, u8)> = Vec::new();
        let mut seed = 7u32;
        for n in 0..40_000u32 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if seed >> 31 == 0 && places.len() > 40 {
                let (place, layout, byte) = places.swap_remove((seed >> 8) as usize % places.len());
                give_back(&arena, place, layout, byte);
            } else if places.len() < 400 {
                let largest = if seed & 15 == 0 { 20_000 } else { 300 };
                let layout = layout(1 + (seed >> 8) as usize % largest, 1 << (n % 6));
                // SAFETY: the layout has a size, and the place has it.
                unsafe {
                    let place = arena.alloc(layout);
                    assert_eq!(place.addr() % layout.align(), 0);
                    place.write_bytes(n as u8, layout.size());
                    places.push((place, layout, n as u8));
                }
            }
        }
        for (place, layout, byte) in places {
            give_back(&arena, place, layout, byte);
        }
    }

    #[test]
    fn every_list_holds_what_is_large_enough() {
        for wanted in (GRAIN..=LARGE).step_by(GRAIN) {
            assert!(list_for(wanted) < LISTS && list_of(wanted) < LISTS);
            let smallest = (GRAIN..=LARGE)
                .step_by(GRAIN)
                .find(|size| list_of(*size) == list_for(wanted));
            // None: nothing is ever put on that list.
            assert!(
                smallest.is_none_or(|smallest| smallest >= wanted),
                "{wanted}"
            );
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
            assert_eq!(arena.alloc(small), second);
        }
    }

    #[test]
    fn what_grows_large_moves_to_the_c_library() {
        let arena = Arena::new();
        let small = layout(100, 8);
        // SAFETY: sizes and layouts are those the places have at the time.
        unsafe {
            let first = arena.alloc(layout(LARGE / 2, 1));
            first.write_bytes(7, LARGE / 2);
            let grown = arena.realloc(first, layout(LARGE / 2, 1), LARGE);
            assert_eq!(grown, first);
            let large = arena.realloc(grown, layout(LARGE, 1), 6 * LARGE);
            assert!(arena.offset(large).is_none() && *large.add(LARGE / 2 - 1) == 7);
            // What was left is given out again, and what went is taken back though it is not the last.
            assert_eq!(arena.alloc(small), first);
            arena.dealloc(large, layout(6 * LARGE, 1));
            arena.dealloc(first, small);
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
