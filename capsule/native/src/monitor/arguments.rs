//! The arguments of a program that is about to start, as far as they are recorded.
//!
//! The addresses lie side by side and so do, as a rule, the strings: one reading of the caller's memory serves many of
//! them. What it refuses: more than 64 arguments or 4 KiB of them; it says that there were more.

use super::errno::Errno;
use super::memory::Memory;
use std::ffi::CStr;

/// Arguments of a program that are recorded.
pub const MOST_ARGUMENTS: usize = 64;
/// Their bytes together.
const MOST_BYTES: usize = 4096;
const PAGE: u64 = 4096;

/// As many arguments as are recorded, and whether there are more. `at` is the address of their addresses.
pub fn arguments(memory: Memory, mut at: u64) -> (Vec<Vec<u8>>, bool) {
    let (mut out, mut room) = (Vec::new(), MOST_BYTES);
    if at == 0 {
        return (out, false);
    }
    let (mut pointers, mut strings) = (Window::of(memory), Window::of(memory));
    loop {
        let Ok(pointer) = pointers.pointer(at) else {
            return (out, true);
        };
        if pointer == 0 {
            return (out, false);
        }
        if out.len() == MOST_ARGUMENTS || room == 0 {
            return (out, true);
        }
        match strings.string(pointer, room) {
            Ok(argument) => {
                room = room.saturating_sub(argument.len() + 1);
                out.push(argument);
            }
            Err(Errno::ENAMETOOLONG) => {
                out.push(memory.bytes(pointer, room).unwrap_or_default());
                return (out, true);
            }
            Err(_) => return (out, true),
        }
        let Some(next) = at.checked_add(8) else {
            return (out, true);
        };
        at = next;
    }
}

/// A part of the caller's memory, copied once.
struct Window {
    memory: Memory,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    fn of(memory: Memory) -> Self {
        Self {
            memory,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// What is known from an address on.
    fn known(&self, at: u64) -> &[u8] {
        at.checked_sub(self.start)
            .and_then(|offset| self.bytes.get(usize::try_from(offset).ok()?..))
            .unwrap_or_default()
    }

    /// Look at the page from an address on, `most` bytes of it.
    fn fill(&mut self, at: u64, most: usize) -> Result<(), Errno> {
        let to_page_end = (PAGE - at % PAGE) as usize;
        self.bytes = self.memory.up_to(at, to_page_end.min(most))?;
        self.start = at;
        Ok(())
    }

    fn pointer(&mut self, at: u64) -> Result<u64, Errno> {
        if self.known(at).len() < 8 {
            self.fill(at, 8 * (MOST_ARGUMENTS + 1))?;
        }
        let bytes = match self.known(at).first_chunk::<8>() {
            Some(bytes) => *bytes,
            // It crosses the end of the page.
            None => self.memory.array(at)?,
        };
        Ok(u64::from_ne_bytes(bytes))
    }

    /// Bytes up to a zero, which is among the first `limit`.
    fn string(&mut self, at: u64, limit: usize) -> Result<Vec<u8>, Errno> {
        let whole = |known: &[u8]| {
            let known = &known[..known.len().min(limit)];
            let whole = CStr::from_bytes_until_nul(known).ok()?;
            Some(whole.to_bytes().to_vec())
        };
        if let Some(text) = whole(self.known(at)) {
            return Ok(text);
        }
        self.fill(at, MOST_BYTES)?;
        match whole(self.known(at)) {
            Some(text) => Ok(text),
            None => self.memory.string(at, limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&[u8]]) -> (Vec<Vec<u8>>, bool) {
        let texts: Vec<Vec<u8>> = texts
            .iter()
            .map(|t| [t, b"\0".as_slice()].concat())
            .collect();
        let pointers: Vec<*const u8> = texts
            .iter()
            .map(|text| text.as_ptr())
            .chain([std::ptr::null()])
            .collect();
        let own = Memory(std::process::id() as libc::pid_t);
        arguments(own, pointers.as_ptr() as u64)
    }

    #[test]
    fn arguments_are_as_they_were_given() {
        let long = vec![b'x'; 3000];
        let given: [&[u8]; 4] = [b"prog", b"", b"-o", &long];
        let (found, more) = of(&given);
        assert_eq!((found, more), (given.map(<[u8]>::to_vec).to_vec(), false));
        let own = Memory(std::process::id() as libc::pid_t);
        assert_eq!(arguments(own, 0), (Vec::new(), false));
        assert_eq!(arguments(own, 8), (Vec::new(), true));
        assert_eq!(arguments(own, u64::MAX - 3), (Vec::new(), true));
    }

    #[test]
    fn beyond_the_bounds_it_says_that_there_were_more() {
        let (found, more) = of(&[b"a".as_slice(); 65]);
        assert_eq!((found.len(), more), (MOST_ARGUMENTS, true));
        let (found, more) = of(&[b"a".as_slice(); 64]);
        assert_eq!((found.len(), more), (MOST_ARGUMENTS, false));
        let (found, more) = of(&[b"ab", &vec![b'y'; 5000]]);
        assert_eq!((found[1].len(), more), (MOST_BYTES - 3, true));
    }

    #[test]
    fn they_may_lie_across_pages_and_one_may_not_be_there() {
        // SAFETY: a fresh private mapping of four pages, the last made inaccessible; leaked on purpose.
        let base = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let base = libc::mmap(std::ptr::null_mut(), 16384, 3, flags, -1, 0);
            libc::mprotect(base.add(12288), 4096, 0);
            std::slice::from_raw_parts_mut(base.cast::<u8>(), 12288)
        };
        let start = base.as_ptr() as u64;
        let own = Memory(std::process::id() as libc::pid_t);
        base[4090..4098].copy_from_slice(b"crossed\0");
        // An array whose second address crosses the end of a page, and whose third lies in no memory.
        for (at, pointer) in [
            (8180, start + 4090),
            (8188, start + 4092),
            (8196, start + 12288),
        ] {
            base[at..at + 8].copy_from_slice(&pointer.to_ne_bytes());
        }
        let (found, more) = arguments(own, start + 8180);
        assert_eq!(
            (found, more),
            (vec![b"crossed".to_vec(), b"ossed".to_vec()], true)
        );
        // The last string ends where memory does.
        base[12285..].copy_from_slice(b"in\0");
        base[8196..8204].copy_from_slice(&(start + 12285).to_ne_bytes());
        base[8204..8212].fill(0);
        let (found, more) = arguments(own, start + 8180);
        assert_eq!((found[2].as_slice(), more), (b"in".as_slice(), false));
    }
}
