//! The command's memory, copied once.
//!
//! What it refuses: strings longer than their limit, and to read the same bytes twice: another thread of the command
//! may change them between two looks.

use super::errno::Errno;
use std::ffi::CStr;
use std::mem::MaybeUninit;

/// The longest path, with its end (`PATH_MAX`).
pub const PATH: usize = 4096;
const PAGE: u64 = 4096;
/// What is read of a string at first: most are shorter.
const SHORT: usize = 256;

/// The memory of one thread.
#[derive(Debug, Clone, Copy)]
pub struct Memory(pub libc::pid_t);

impl Memory {
    /// Fill `into` from `address`; the number of bytes that could be read.
    ///
    /// # Errors
    /// `EFAULT` when not one byte can; `EPERM` when the process may not be read.
    fn some(self, address: u64, into: &mut [MaybeUninit<u8>]) -> Result<usize, Errno> {
        let local = libc::iovec {
            iov_base: into.as_mut_ptr().cast(),
            iov_len: into.len(),
        };
        let remote = libc::iovec {
            iov_base: address as *mut libc::c_void,
            iov_len: into.len(),
        };
        // SAFETY: `local` describes `into`, which outlives the call; the remote address is the kernel's to check.
        let read =
            unsafe { libc::process_vm_readv(self.0, &raw const local, 1, &raw const remote, 1, 0) };
        if read < 0 {
            Err(Errno::last())
        } else {
            Ok(read as usize)
        }
    }

    /// Put up to `length` bytes from `address` behind `into`; how many there were.
    ///
    /// # Errors
    /// As [`Memory::some`].
    fn append(self, address: u64, length: usize, into: &mut Vec<u8>) -> Result<usize, Errno> {
        into.reserve(length);
        let before = into.len();
        let read = self.some(address, &mut into.spare_capacity_mut()[..length])?;
        // SAFETY: the kernel wrote `read` bytes, no more than `length`, right behind what was there.
        unsafe { into.set_len(before + read) };
        Ok(read)
    }

    /// Exactly `length` bytes.
    ///
    /// # Errors
    /// `EFAULT` when they are not all there.
    pub fn bytes(self, address: u64, length: usize) -> Result<Vec<u8>, Errno> {
        let mut into = Vec::new();
        if length > 0 && self.append(address, length, &mut into)? != length {
            return Err(Errno::EFAULT);
        }
        Ok(into)
    }

    /// As many bytes as are there, up to `most`.
    ///
    /// # Errors
    /// `EFAULT` when not one is.
    pub fn up_to(self, address: u64, most: usize) -> Result<Vec<u8>, Errno> {
        let mut into = Vec::new();
        self.append(address, most, &mut into)?;
        Ok(into)
    }

    /// Exactly `N` bytes.
    ///
    /// # Errors
    /// `EFAULT` when they are not all there.
    pub fn array<const N: usize>(self, address: u64) -> Result<[u8; N], Errno> {
        let mut into = [MaybeUninit::uninit(); N];
        if self.some(address, &mut into)? != N {
            return Err(Errno::EFAULT);
        }
        // SAFETY: the kernel wrote all of them.
        Ok(into.map(|byte| unsafe { byte.assume_init() }))
    }

    /// Bytes up to a zero, without it. Reads to the end of a page at most at one time: the next may not be there.
    ///
    /// # Errors
    /// `EFAULT`; `ENAMETOOLONG` when there is no zero within `limit` bytes.
    pub fn string(self, address: u64, limit: usize) -> Result<Vec<u8>, Errno> {
        let mut text = Vec::new();
        let (mut at, mut most) = (address, SHORT);
        while text.len() < limit {
            let to_page_end = (PAGE - at % PAGE) as usize;
            let (before, length) = (text.len(), to_page_end.min(limit - text.len()).min(most));
            let read = self.append(at, length, &mut text)?;
            // What searches faster asks the processor what it can at its first search, which takes as long as many paths.
            let end = CStr::from_bytes_until_nul(&text[before..]).map(CStr::count_bytes);
            if let Ok(end) = end {
                text.truncate(before + end);
                return Ok(text);
            }
            if read < length {
                return Err(Errno::EFAULT);
            }
            at = at.checked_add(read as u64).ok_or(Errno::EFAULT)?;
            most = PAGE as usize;
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// A path: at least one byte is not demanded, as some calls take an empty one.
    ///
    /// # Errors
    /// As [`Memory::string`].
    pub fn path(self, address: u64) -> Result<Vec<u8>, Errno> {
        self.string(address, PATH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Memory {
        Memory(std::process::id() as libc::pid_t)
    }

    #[test]
    fn a_string_ends_at_its_zero_and_not_later() {
        let text = b"/a/path\0rest";
        assert_eq!(own().string(text.as_ptr() as u64, 64).unwrap(), b"/a/path");
        assert_eq!(
            own().string(text.as_ptr() as u64, 7),
            Err(Errno::ENAMETOOLONG)
        );
    }

    #[test]
    fn a_string_may_cross_a_page_and_end_before_an_unmapped_one() {
        // SAFETY: a fresh private mapping of three pages; the last is made inaccessible; all are leaked on purpose.
        let base = unsafe {
            let base = libc::mmap(
                std::ptr::null_mut(),
                12288,
                3,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            libc::mprotect(base.add(8192), 4096, 0);
            std::slice::from_raw_parts_mut(base.cast::<u8>(), 8192)
        };
        base.fill(b'x');
        base[8191] = 0;
        let start = base.as_ptr() as u64;
        assert_eq!(own().string(start + 4000, 5000).unwrap().len(), 4191);
        base[8191] = b'x';
        assert_eq!(own().string(start + 4000, 5000), Err(Errno::EFAULT));
    }

    #[test]
    fn what_is_not_there_is_a_fault() {
        assert_eq!(own().path(8), Err(Errno::EFAULT));
        assert_eq!(own().bytes(8, 1), Err(Errno::EFAULT));
        assert_eq!(own().bytes(8, 0).unwrap(), b"");
    }
}
