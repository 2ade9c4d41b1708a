//! The system calls the monitor makes, one function each, with [`Errno`] instead of `-1`.
//!
//! What it refuses: policy. Descriptors it returns are close-on-exec.

use super::errno::Errno;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `PROC_SUPER_MAGIC` (linux/magic.h).
const PROC: libc::c_long = 0x9fa0;

fn check(result: libc::c_long) -> Result<libc::c_long, Errno> {
    if result < 0 {
        Err(Errno::last())
    } else {
        Ok(result)
    }
}

fn owned(result: libc::c_long) -> Result<OwnedFd, Errno> {
    let raw = check(result)?;
    // SAFETY: the call succeeded and returned a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as RawFd) })
}

/// A null-terminated copy.
///
/// # Errors
/// `EINVAL` when it holds a zero.
pub fn c_string(bytes: &[u8]) -> Result<CString, Errno> {
    CString::new(bytes).map_err(|_| Errno::EINVAL)
}

/// `/proc/self/fd/N`: the way to a descriptor's object by name.
pub fn link(fd: BorrowedFd<'_>) -> CString {
    link_to(fd, b"")
}

/// `/proc/self/fd/N/NAME`: a name in a directory that is pinned by its descriptor.
pub fn link_to(dir: BorrowedFd<'_>, name: &[u8]) -> CString {
    let mut text = format!("/proc/self/fd/{}", dir.as_raw_fd()).into_bytes();
    if !name.is_empty() {
        text.push(b'/');
        text.extend(name.iter().take_while(|b| **b != 0));
    }
    // A zero cannot be in it: the name ends before one.
    CString::new(text).unwrap_or_default()
}

/// `openat(dir, name, flags | O_CLOEXEC, mode)`.
///
/// # Errors
/// As `open(2)`.
pub fn open_at(dir: BorrowedFd<'_>, name: &CStr, flags: i32, mode: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: `name` is a valid C string that outlives the call.
    owned(unsafe {
        libc::syscall(
            libc::SYS_openat,
            dir.as_raw_fd(),
            name.as_ptr(),
            flags | libc::O_CLOEXEC,
            mode,
        )
    })
}

/// `open(name, flags | O_CLOEXEC)`.
///
/// # Errors
/// As `open(2)`.
pub fn open(name: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: `name` is a valid C string that outlives the call.
    owned(unsafe {
        libc::syscall(
            libc::SYS_openat,
            libc::AT_FDCWD,
            name.as_ptr(),
            flags | libc::O_CLOEXEC,
            0,
        )
    })
}

/// `openat2(dir, name, {flags | O_CLOEXEC, 0, resolve})`.
///
/// # Errors
/// As `openat2(2)`.
pub fn open_resolved(
    dir: BorrowedFd<'_>,
    name: &CStr,
    flags: i32,
    resolve: u64,
) -> Result<OwnedFd, Errno> {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = resolve;
    // SAFETY: `name` and `how` outlive the call, and the size is that of `how`.
    owned(unsafe {
        libc::syscall(
            libc::SYS_openat2,
            dir.as_raw_fd(),
            name.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    })
}

/// What is behind a descriptor.
///
/// # Errors
/// As `fstat(2)`.
pub fn stat(fd: BorrowedFd<'_>) -> Result<libc::stat, Errno> {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `stat` that outlives the call.
    check(unsafe { libc::fstat(fd.as_raw_fd(), &raw mut stat) }.into())?;
    Ok(stat)
}

/// What a name is, itself: a link is not followed.
///
/// # Errors
/// As `fstatat(2)`.
pub fn stat_at(dir: BorrowedFd<'_>, name: &CStr) -> Result<libc::stat, Errno> {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    let (at, flags) = (dir.as_raw_fd(), libc::AT_SYMLINK_NOFOLLOW);
    // SAFETY: `name` is a valid C string; the kernel writes one `stat`; both outlive the call.
    check(unsafe { libc::fstatat(at, name.as_ptr(), &raw mut stat, flags) }.into())?;
    Ok(stat)
}

/// The type bits of a mode.
pub fn kind(stat: &libc::stat) -> u32 {
    stat.st_mode & libc::S_IFMT
}

/// Where a symbolic link points.
///
/// # Errors
/// As `readlinkat(2)`; `ENAMETOOLONG` when it is longer than a path can be.
pub fn read_link_at(dir: RawFd, name: &CStr) -> Result<Vec<u8>, Errno> {
    let mut buffer = [const { MaybeUninit::<u8>::uninit() }; 4352];
    // SAFETY: `name` is a valid C string; `buffer` has the length given; both outlive the call.
    let length = check(unsafe {
        libc::readlinkat(dir, name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len())
    } as i64)? as usize;
    if length == buffer.len() {
        return Err(Errno::ENAMETOOLONG);
    }
    // SAFETY: the kernel wrote `length` bytes, and a byte needs no alignment.
    Ok(unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), length) }.to_vec())
}

/// The first kilobyte of a file of `/proc`, as one reading gives it.
///
/// # Errors
/// As `open(2)`, `read(2)`.
pub fn read_head(name: &CStr) -> Result<Vec<u8>, Errno> {
    let file = open(name, libc::O_RDONLY)?;
    let mut head: Vec<u8> = Vec::with_capacity(1024);
    // SAFETY: the place has room for as many bytes, and outlives the call.
    let read =
        check(
            unsafe { libc::read(file.as_raw_fd(), head.as_mut_ptr().cast(), head.capacity()) }
                as i64,
        )?;
    // SAFETY: the kernel wrote that many.
    unsafe { head.set_len(read as usize) };
    Ok(head)
}

/// The name the kernel has for a descriptor's object: a path in our root, or `pipe:[1]` and the like.
///
/// # Errors
/// As `readlink(2)`.
pub fn name_of(fd: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    use std::io::Write;
    let mut path = [0u8; 32];
    let mut room = &mut path[..31];
    // 31 bytes hold the prefix and any number.
    let _ = write!(room, "/proc/self/fd/{}", fd.as_raw_fd());
    let path = CStr::from_bytes_until_nul(&path).map_err(|_| Errno::EINVAL)?;
    read_link_at(libc::AT_FDCWD, path)
}

/// Whether a descriptor is in a `/proc`.
///
/// # Errors
/// As `fstatfs(2)`.
pub fn in_proc(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut stat: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `statfs` that outlives the call.
    check(unsafe { libc::fstatfs(fd.as_raw_fd(), &raw mut stat) }.into())?;
    Ok(stat.f_type == PROC)
}

/// Any call with integers and pointers that the caller vouches for; its result or error.
///
/// # Errors
/// The call's.
///
/// # Safety
/// As for `libc::syscall` with these arguments.
pub unsafe fn raw(number: libc::c_long, arguments: [u64; 6]) -> Result<i64, Errno> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: passed on to the caller.
    check(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

/// The bits of a mode that a file mode creation mask has (`umask(2)`).
pub const PERMISSIONS: u64 = 0o777;

/// The file mode creation mask of this process, which is set for a moment: no other thread may be there.
pub fn mask() -> u32 {
    // SAFETY: takes an integer, cannot fail.
    let mask = unsafe { libc::umask(0o777) };
    set_umask(mask);
    mask
}

/// Set the file mode creation mask of this process.
pub fn set_umask(mask: u32) {
    // SAFETY: takes an integer, cannot fail.
    unsafe { libc::umask(mask) };
}
