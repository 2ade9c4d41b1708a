//! A child takes over what was lent to it, and from then on shares nothing with its parent.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

use capsule::arena::Arena;
use capsule::lent::{self, Filled, Lent};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};

#[global_allocator]
static MEMORY: Arena = Arena::new();

/// A value with places of many sizes.
#[derive(Clone, Debug, PartialEq)]
struct Tree {
    names: BTreeMap<String, Vec<Option<Box<[u8]>>>>,
    large: Vec<u64>,
    word: usize,
}

fn tree(seed: u8) -> Tree {
    let leaf = |n: usize| (!n.is_multiple_of(3)).then(|| vec![seed; n].into_boxed_slice());
    Tree {
        names: (0..200)
            .map(|n| (format!("name {seed} {n}"), (0..n % 17).map(leaf).collect()))
            .collect(),
        large: vec![u64::from(seed); 300_000],
        word: usize::from(seed),
    }
}

fn receive(stream: &mut UnixStream) -> Filled {
    let mut bytes = [0; 16];
    stream.read_exact(&mut bytes).unwrap();
    Filled::from_bytes(&bytes).unwrap()
}

/// Mappings of this process that others may share, of more than one page.
fn shared() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .filter(|line| line.split(' ').nth(1).is_some_and(|how| how.ends_with('s')))
        .filter(|line| {
            let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let number = |text| usize::from_str_radix(text, 16).unwrap();
            number(to) - number(from) > 4096
        })
        .count()
}

/// What the child does; its exit code says which step went wrong.
fn child(mut stream: UnixStream, first: &Tree, second: &Tree) -> i32 {
    // SAFETY: the parent fills the range with these types after this process was begun.
    unsafe {
        let mut apart = lent::part().unwrap();
        let filled = receive(&mut stream);
        let outside = Filled::from_bytes(&[0xff; 16]).unwrap();
        if apart.take::<Tree>(outside).is_ok() {
            return 1;
        }
        let mut one: Tree = apart.take(filled).unwrap();
        if apart.take::<Tree>(filled).is_ok() {
            return 2;
        }
        if one != *first {
            return 3;
        }
        // It is this process's own to write, and to give back.
        one.large.iter_mut().for_each(|word| *word = 0);
        one.names.clear();
        let two: Tree = apart.take(receive(&mut stream)).unwrap();
        if two != *second || one.large.iter().any(|word| *word != 0) {
            return 4;
        }
        apart.end().unwrap();
        if shared() != 0 {
            return 5;
        }
        drop((one, two));
    }
    stream.write_all(b"!").unwrap();
    0
}

/// One test: a process has one range.
#[test]
fn a_child_takes_what_was_lent_and_shares_nothing_afterwards() {
    let (first, second) = (tree(1), tree(2));
    let mut lent = Lent::new().unwrap();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    // SAFETY: the child does what may be done after a fork of a process whose other threads only wait: its allocator
    // is the arena, which serves without a lock that another thread could hold.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let done = std::panic::catch_unwind(|| child(theirs, &first, &second));
        let code = done.unwrap_or(9);
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(code) }
    }
    drop(theirs);
    // Where the parent's copies lie: the child's writes must not reach them.
    let place = AtomicUsize::new(0);
    // SAFETY: no other thread of this test program allocates meanwhile what is used afterwards.
    let filled = unsafe {
        lent.fill(|| {
            let copy = first.clone();
            place.store(copy.large.as_ptr().expose_provenance(), Ordering::Relaxed);
            copy
        })
    };
    ours.write_all(&filled.unwrap().to_bytes()).unwrap();
    // SAFETY: as above.
    let filled = unsafe { lent.fill(|| second.clone()) };
    ours.write_all(&filled.unwrap().to_bytes()).unwrap();
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(
        (libc::WIFEXITED(status), libc::WEXITSTATUS(status)),
        (true, 0)
    );
    // The positive control: the parent's own mapping is shared, and still holds what it wrote.
    assert!(shared() > 0);
    let words: *const u64 = std::ptr::with_exposed_provenance(place.load(Ordering::Relaxed));
    // SAFETY: the copy of the first value still lies in the range.
    let written = unsafe { std::slice::from_raw_parts(words, 300_000) };
    assert!(written.iter().all(|word| *word == 1));
    // What does not fit is refused.
    // SAFETY: as above.
    let refused = unsafe { lent.fill(|| vec![0u8; 65 << 20]) }.unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ENOMEM));
    // What was lent is let go of, and there can be another range.
    lent.end().unwrap();
    assert_eq!(shared(), 0);
    Lent::new().unwrap().end().unwrap();
}
