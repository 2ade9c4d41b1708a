//! The kernel's side of seccomp user notification: receive a call, ask whether it still waits, answer it.
//!
//! Structures and requests from linux/seccomp.h. What it refuses: a kernel whose structures have another size.

use super::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// One system call that waits for an answer.
#[derive(Debug, Clone, Copy)]
pub struct Notification {
    /// Names the call while it waits.
    pub id: u64,
    /// The calling thread, in our pid namespace.
    pub tid: libc::pid_t,
    /// Number of the system call.
    pub number: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
}

/// The listener of one command's filter.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP`: the caller runs on our processor as soon as we wait. Linux 6.6.
const SYNC_WAKE_UP: libc::c_ulong = 1;

impl Listener {
    /// Take over a listener.
    ///
    /// # Errors
    /// `EOVERFLOW` when the kernel's structures differ from ours.
    pub fn new(fd: OwnedFd) -> Result<Self, Errno> {
        // SAFETY: all-zero is a valid value of this plain structure.
        let mut sizes: libc::seccomp_notif_sizes = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one `seccomp_notif_sizes`, and `sizes` outlives the call.
        let asked = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_GET_NOTIF_SIZES,
                0,
                &raw mut sizes,
            )
        };
        if asked < 0 {
            return Err(Errno::last());
        }
        if usize::from(sizes.seccomp_notif) != size_of::<libc::seccomp_notif>()
            || usize::from(sizes.seccomp_notif_resp) != size_of::<libc::seccomp_notif_resp>()
        {
            return Err(Errno::EOVERFLOW);
        }
        // Older kernels do not know the flag: they are slower, not wrong.
        // SAFETY: the request takes its flags by value.
        unsafe {
            libc::ioctl(
                fd.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS as _,
                SYNC_WAKE_UP,
            )
        };
        Ok(Self(fd))
    }

    /// For `poll`.
    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// The next call that waits. Blocks when there is none.
    ///
    /// # Errors
    /// `ENOENT` when the caller died meanwhile, `EINTR`.
    pub fn receive(&self) -> Result<Notification, Errno> {
        // SAFETY: all-zero is a valid value, and the one the kernel demands.
        let mut raw: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one `seccomp_notif` of the size checked in `new`.
        if unsafe {
            libc::ioctl(
                self.raw(),
                libc::SECCOMP_IOCTL_NOTIF_RECV as _,
                &raw mut raw,
            )
        } < 0
        {
            return Err(Errno::last());
        }
        Ok(Notification {
            id: raw.id,
            tid: raw.pid as libc::pid_t,
            number: raw.data.nr as u32,
            arguments: raw.data.args,
        })
    }

    /// Whether the call still waits: then its thread is the one we know, and what we read of it was its own.
    pub fn waits(&self, id: u64) -> bool {
        // SAFETY: the kernel reads one `u64` that outlives the call.
        unsafe {
            libc::ioctl(
                self.raw(),
                libc::SECCOMP_IOCTL_NOTIF_ID_VALID as _,
                &raw const id,
            ) == 0
        }
    }

    /// The call returns `value`.
    pub fn succeed(&self, id: u64, value: i64) {
        self.send(id, value, 0, 0);
    }

    /// The call fails.
    pub fn fail(&self, id: u64, errno: Errno) {
        self.send(id, 0, -errno.0, 0);
    }

    /// The kernel performs the call. Never for anything the monitor decides.
    pub fn proceed(&self, id: u64) {
        self.send(id, 0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32);
    }

    fn send(&self, id: u64, val: i64, error: i32, flags: u32) {
        let response = libc::seccomp_notif_resp {
            id,
            val,
            error,
            flags,
        };
        // A caller that was killed meanwhile needs no answer, and nothing else can fail here.
        // SAFETY: the kernel reads one `seccomp_notif_resp` that outlives the call.
        unsafe {
            libc::ioctl(
                self.raw(),
                libc::SECCOMP_IOCTL_NOTIF_SEND as _,
                &raw const response,
            )
        };
    }

    /// Put a copy of `fd` into the caller's table and let the call return its number, in one step.
    ///
    /// # Errors
    /// As the caller's own table says (`EMFILE`); then the call still waits.
    pub fn give(&self, id: u64, fd: BorrowedFd<'_>, cloexec: bool) -> Result<(), Errno> {
        let flags = libc::SECCOMP_ADDFD_FLAG_SEND as u32;
        self.add(id, fd, flags, 0, cloexec).map(|_| ())
    }

    /// Put a copy of `fd` into the caller's table; its number there. The call still waits.
    ///
    /// # Errors
    /// As [`Listener::give`].
    pub fn install(&self, id: u64, fd: BorrowedFd<'_>, cloexec: bool) -> Result<i64, Errno> {
        self.add(id, fd, 0, 0, cloexec)
    }

    /// Put a copy of `fd` over the caller's descriptor `number`. The call still waits.
    ///
    /// # Errors
    /// As `dup3(2)` in the caller.
    pub fn replace(
        &self,
        id: u64,
        fd: BorrowedFd<'_>,
        number: u32,
        cloexec: bool,
    ) -> Result<(), Errno> {
        self.add(
            id,
            fd,
            libc::SECCOMP_ADDFD_FLAG_SETFD as u32,
            number,
            cloexec,
        )
        .map(|_| ())
    }

    fn add(
        &self,
        id: u64,
        fd: BorrowedFd<'_>,
        flags: u32,
        newfd: u32,
        cloexec: bool,
    ) -> Result<i64, Errno> {
        let request = libc::seccomp_notif_addfd {
            id,
            flags,
            srcfd: fd.as_raw_fd() as u32,
            newfd,
            newfd_flags: if cloexec { libc::O_CLOEXEC as u32 } else { 0 },
        };
        // SAFETY: the kernel reads one `seccomp_notif_addfd` that outlives the call.
        let number = unsafe {
            libc::ioctl(
                self.raw(),
                libc::SECCOMP_IOCTL_NOTIF_ADDFD as _,
                &raw const request,
            )
        };
        if number < 0 {
            return Err(Errno::last());
        }
        Ok(i64::from(number))
    }
}

/// `PIDFD_THREAD` (Linux 6.9): a pidfd of one thread, not of its process.
const PIDFD_THREAD: libc::c_uint = libc::O_EXCL as libc::c_uint;

/// Whether `tid` is the first thread of a process: only such a one has a pidfd without `PIDFD_THREAD`.
pub fn is_process(tid: libc::pid_t) -> bool {
    // SAFETY: plain integers.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, tid, 0) };
    if pidfd >= 0 {
        // SAFETY: the call succeeded and returned a new descriptor that nothing else owns.
        drop(unsafe { OwnedFd::from_raw_fd(pidfd as RawFd) });
    }
    pidfd >= 0
}

/// `struct pidfd_info` as it was at first (linux/pidfd.h, Linux 6.13).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    pid: u32,
    process: u32,
    parent: u32,
    owners: [u32; 8],
    exit_code: i32,
}

/// `PIDFD_INFO_PID`: the numbers of the process and its parent.
const PIDFD_INFO_PID: u64 = 1;
/// `PIDFD_GET_INFO`, `_IOWR(0xff, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::Ioctl = 0xc040_ff0b_u32 as libc::Ioctl;

/// The process that `process` is a child of, as a kernel says it that can be asked without a look into `/proc`.
pub fn parent_of(process: libc::pid_t) -> Option<libc::pid_t> {
    // SAFETY: plain integers.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
    if pidfd < 0 {
        return None;
    }
    // SAFETY: the call succeeded and returned a new descriptor that nothing else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd as RawFd) };
    let mut info = PidfdInfo {
        mask: PIDFD_INFO_PID,
        ..PidfdInfo::default()
    };
    // SAFETY: the kernel reads and writes as many bytes as the request names, and `info` outlives the call.
    let told = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (told >= 0 && info.mask & PIDFD_INFO_PID != 0)
        .then(|| libc::pid_t::try_from(info.parent).ok())
        .flatten()
}

/// A copy of descriptor `number` of thread `tid`, whose process is `process`.
///
/// # Errors
/// `EBADF` when it has no such descriptor; as `pidfd_getfd(2)`.
pub fn take(tid: libc::pid_t, process: libc::pid_t, number: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: plain integers.
    let mut pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, tid, PIDFD_THREAD) };
    if pidfd < 0 && Errno::last() == Errno::EINVAL {
        // SAFETY: plain integers.
        pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, process, 0) };
    }
    if pidfd < 0 {
        return Err(Errno::last());
    }
    // SAFETY: the call succeeded and returned a new descriptor that nothing else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd as RawFd) };
    // SAFETY: plain integers.
    let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
    if copy < 0 {
        return Err(Errno::last());
    }
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(copy as RawFd) })
}
