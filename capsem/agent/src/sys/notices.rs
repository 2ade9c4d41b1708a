//! The calls by which the kernel tells of processes (the process connector) and of files (inotify).
//!
//! Refuses nothing itself; errors are the kernel's.

use std::ffi::CString;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::check;

/// The connector's group of notices about processes (`CN_IDX_PROC`).
const GROUP: u32 = 1;
/// Of the scheduler's real-time priorities the lowest: before every ordinary program, behind the kernel's own.
const PRIORITY: i32 = 1;

/// A socket that is told of processes once `send` has asked for it. Root alone may have one.
pub fn connector() -> Result<OwnedFd> {
    // SAFETY: integers; the new descriptor is owned by nobody else. The address is plain data of the length that is stated.
    unsafe {
        let socket = OwnedFd::from_raw_fd(check(libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
            libc::NETLINK_CONNECTOR,
        ))?);
        let mut address: libc::sockaddr_nl = std::mem::zeroed();
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = GROUP;
        check(libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            libc::socklen_t::try_from(size_of::<libc::sockaddr_nl>()).unwrap_or(12),
        ))?;
        let room: libc::c_int = 1 << 20;
        // Where the limit is not ours to raise, the usual room does.
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const room).cast(),
            libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4),
        );
        Ok(socket)
    }
}

/// Sends one datagram to the kernel.
pub fn send(socket: BorrowedFd<'_>, datagram: &[u8]) -> Result<()> {
    // SAFETY: pointer and length are of one live slice.
    let sent = unsafe {
        libc::send(
            socket.as_raw_fd(),
            datagram.as_ptr().cast(),
            datagram.len(),
            0,
        )
    };
    if sent < 0 {
        Err(Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The next datagram, and whether the kernel sent it: a program that is root may send some, too.
pub fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> Result<(usize, bool)> {
    // SAFETY: pointers and lengths are of live data; the address is plain data that the call fills.
    unsafe {
        let mut from: libc::sockaddr_nl = std::mem::zeroed();
        let mut length = libc::socklen_t::try_from(size_of::<libc::sockaddr_nl>()).unwrap_or(12);
        let count = libc::recvfrom(
            socket.as_raw_fd(),
            into.as_mut_ptr().cast(),
            into.len(),
            0,
            (&raw mut from).cast(),
            &raw mut length,
        );
        let count = usize::try_from(count).map_err(|_| Error::last_os_error())?;
        Ok((count, from.nl_pid == 0))
    }
}

/// This process runs before every ordinary one as soon as it has something to do.
pub fn run_before_others() -> Result<()> {
    let how = libc::sched_param {
        sched_priority: PRIORITY,
    };
    // SAFETY: one live structure; 0 is this process. What it starts does not inherit it.
    check(unsafe {
        libc::sched_setscheduler(
            0,
            libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK,
            &raw const how,
        )
    })
    .map(drop)
}

/// Asks for room in a pipe; how much there is then is the kernel's to say.
pub fn pipe_room(pipe: BorrowedFd<'_>, bytes: i32) {
    // SAFETY: fcntl on a live descriptor with an integer.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, bytes) };
}

/// A descriptor that tells of changes in directories.
pub fn changes() -> Result<OwnedFd> {
    // SAFETY: an integer; the new descriptor is owned by nobody else.
    unsafe {
        Ok(OwnedFd::from_raw_fd(check(libc::inotify_init1(
            libc::IN_CLOEXEC | libc::IN_NONBLOCK,
        ))?))
    }
}

/// What is told of a directory's names.
pub const TOLD: u32 = libc::IN_CREATE
    | libc::IN_CLOSE_WRITE
    | libc::IN_DELETE
    | libc::IN_MOVED_FROM
    | libc::IN_MOVED_TO
    | libc::IN_ATTRIB;

/// Watches one directory, not what a link leads to; gives the number that it is told of under.
pub fn watch_directory(watch: BorrowedFd<'_>, path: &Path) -> Result<i32> {
    let path = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::from(ErrorKind::InvalidInput))?;
    let how = TOLD | libc::IN_ONLYDIR | libc::IN_DONT_FOLLOW | libc::IN_EXCL_UNLINK;
    // SAFETY: a live text and a live descriptor.
    check(unsafe { libc::inotify_add_watch(watch.as_raw_fd(), path.as_ptr(), how) })
}

/// Whether another file system begins at this path. Asks nobody: one that a program serves might not answer.
pub fn is_mount_point(path: &Path) -> bool {
    let device = |path: &Path| {
        let path = CString::new(path.as_os_str().as_bytes()).ok()?;
        let how = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_STATX_DONT_SYNC;
        // SAFETY: a live text, and plain data that the call fills.
        unsafe {
            let mut about: libc::statx = std::mem::zeroed();
            let done = libc::statx(libc::AT_FDCWD, path.as_ptr(), how, 0, &raw mut about);
            (done == 0).then_some((about.stx_dev_major, about.stx_dev_minor))
        }
    };
    let above = path.parent().and_then(device);
    device(path).is_some_and(|own| above.is_some_and(|above| above != own))
}

/// Watches it no more; a number that is gone is no error.
pub fn forget_directory(watch: BorrowedFd<'_>, number: i32) {
    // SAFETY: a live descriptor and an integer.
    unsafe { libc::inotify_rm_watch(watch.as_raw_fd(), number) };
}
