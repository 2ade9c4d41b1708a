//! System calls that touch nothing but what they are given: for a process that shares its memory with another.
//!
//! The C library's wrappers write `errno` to memory of the thread, which such a process has from the one that it was
//! begun by, and which goes on beside it. Here the number of an error is part of the answer. It refuses nothing.
//!
//! ```
//! use capsule::sandbox::raw;
//! // SAFETY: takes nothing.
//! let pid = unsafe { raw::call(libc::SYS_getpid, [0; 6]) };
//! assert_eq!(pid, std::process::id() as isize);
//! // SAFETY: plain integers.
//! let closed = raw::check(unsafe { raw::call(libc::SYS_close, [usize::MAX, 0, 0, 0, 0, 0]) });
//! assert_eq!(closed.unwrap_err().raw_os_error(), Some(libc::EBADF));
//! ```

use std::arch::asm;
use std::io;

/// The highest number of an error (`MAX_ERRNO` of linux/err.h).
const MOST: isize = 4095;

/// System call `number`; a negative result is the number of an error.
///
/// # Safety
/// As the call itself: pointers among the arguments must be good for what the kernel does with them.
#[cfg(target_arch = "x86_64")]
#[inline]
#[must_use]
pub unsafe fn call(number: libc::c_long, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: the convention of the architecture (syscall(2)); what the kernel overwrites is named.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// System call `number`; a negative result is the number of an error.
///
/// # Safety
/// As the call itself: pointers among the arguments must be good for what the kernel does with them.
#[cfg(target_arch = "aarch64")]
#[inline]
#[must_use]
pub unsafe fn call(number: libc::c_long, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: the convention of the architecture (syscall(2)).
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    result
}

/// A result of [`call`] as an error, where it is one. Nothing is allocated.
///
/// # Errors
/// The one that `result` says.
pub fn check(result: isize) -> io::Result<usize> {
    if (-MOST..0).contains(&result) {
        Err(io::Error::from_raw_os_error(-result as i32))
    } else {
        Ok(result as usize)
    }
}

/// A descriptor or another small integer as an argument.
#[must_use]
pub const fn int(value: i32) -> usize {
    value as isize as usize
}

/// A place as an argument.
#[must_use]
pub fn place<T: ?Sized>(place: *const T) -> usize {
    place.cast::<u8>().expose_provenance()
}

/// End this process at once.
pub fn exit(code: i32) -> ! {
    loop {
        // SAFETY: takes a plain integer and does not return.
        let _ = unsafe { call(libc::SYS_exit_group, [int(code), 0, 0, 0, 0, 0]) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_six_arguments_arrive() {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let (protection, length) = (libc::PROT_READ | libc::PROT_WRITE, 8192);
        // SAFETY: a fresh anonymous mapping, given back.
        unsafe {
            let none = int(-1);
            let made = check(call(
                libc::SYS_mmap,
                [0, length, int(protection), int(flags), none, 0],
            ));
            let made = made.unwrap();
            *std::ptr::with_exposed_provenance_mut::<u8>(made + 4096) = 7;
            check(call(libc::SYS_munmap, [made, length, 0, 0, 0, 0])).unwrap();
            // Without a descriptor there is nothing to map privately: the fifth argument is looked at.
            let refused = call(
                libc::SYS_mmap,
                [0, length, int(protection), int(libc::MAP_PRIVATE), none, 0],
            );
            assert_eq!(refused, -libc::EBADF as isize);
            // An offset that is no page: so is the sixth.
            let refused = call(
                libc::SYS_mmap,
                [0, length, int(protection), int(flags), none, 1],
            );
            assert_eq!(refused, -libc::EINVAL as isize);
        }
    }

    #[test]
    fn errno_is_not_touched() {
        // SAFETY: plain integers; the place of `errno` is this thread's.
        unsafe {
            *libc::__errno_location() = 77;
            let refused = check(call(libc::SYS_close, [int(-1), 0, 0, 0, 0, 0]));
            assert_eq!(refused.unwrap_err().raw_os_error(), Some(libc::EBADF));
            assert_eq!(*libc::__errno_location(), 77);
        }
    }
}
