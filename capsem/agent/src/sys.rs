//! The one module that speaks to the kernel by hand: each function is one call or one step that cannot be split.
//!
//! Everything outside is safe Rust. Refuses nothing itself; errors are the kernel's.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub mod net;
pub mod notices;

fn check(result: libc::c_int) -> Result<libc::c_int> {
    if result < 0 {
        Err(Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn text(value: &str) -> Result<CString> {
    CString::new(value).map_err(|_| Error::from(ErrorKind::InvalidInput))
}

/// Waits until one of `interests` (descriptor, POLLIN | POLLOUT) is ready; gives the events in the same order.
pub fn poll(interests: &[(RawFd, i16)], wait: Option<Duration>) -> Result<Vec<i16>> {
    let mut fds: Vec<libc::pollfd> = interests
        .iter()
        .map(|&(fd, events)| libc::pollfd {
            fd,
            events,
            revents: 0,
        })
        .collect();
    let milliseconds = wait.map_or(-1, |wait| {
        i32::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
    });
    // SAFETY: the pointer and the count are of one live vector.
    match check(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, milliseconds) }) {
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(vec![0; fds.len()]),
        Err(error) => Err(error),
        Ok(_) => Ok(fds.iter().map(|fd| fd.revents).collect()),
    }
}

/// Makes calls on the descriptor return instead of waiting.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: fcntl on a live descriptor with integer arguments.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// Reads what is there; 0 is the end.
pub fn read(fd: BorrowedFd<'_>, into: &mut [u8]) -> Result<usize> {
    // SAFETY: pointer and length are of one live slice.
    let count = unsafe { libc::read(fd.as_raw_fd(), into.as_mut_ptr().cast(), into.len()) };
    usize::try_from(count).map_err(|_| Error::last_os_error())
}

/// Writes what fits.
pub fn write(fd: BorrowedFd<'_>, from: &[u8]) -> Result<usize> {
    // SAFETY: pointer and length are of one live slice.
    let count = unsafe { libc::write(fd.as_raw_fd(), from.as_ptr().cast(), from.len()) };
    usize::try_from(count).map_err(|_| Error::last_os_error())
}

/// A descriptor that is readable when one of `signals` has come; they are blocked from now on.
pub fn signals(signals: &[i32]) -> Result<OwnedFd> {
    // SAFETY: the set is plain data that sigemptyset fills before it is read; the new descriptor is owned by nobody else.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        check(libc::sigprocmask(
            libc::SIG_BLOCK,
            &raw const set,
            std::ptr::null_mut(),
        ))?;
        let fd = check(libc::signalfd(
            -1,
            &raw const set,
            libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Asks that a peer's hang-up is an error of `write`, not a signal that ends the agent.
pub fn ignore_broken_pipes() {
    // SAFETY: SIG_IGN is a valid disposition.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Processes that lose their parent become children of this one (process 1 has them anyway).
pub fn adopt_orphans() -> Result<()> {
    // SAFETY: prctl with integer arguments.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// Lets only root read this process's memory and descriptors.
pub fn hide_memory() -> Result<()> {
    // SAFETY: prctl with integer arguments.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }).map(drop)
}

/// A process that has ended: its number, how (raw wait status), and what it used.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Ended {
    pub pid: i32,
    pub status: i32,
    pub cpu: Duration,
    pub max_rss_bytes: u64,
}

impl Ended {
    /// Its exit code and the signal that ended it: one of them.
    pub fn how(&self) -> (Option<i32>, Option<i32>) {
        if libc::WIFEXITED(self.status) {
            (Some(libc::WEXITSTATUS(self.status)), None)
        } else {
            (None, Some(libc::WTERMSIG(self.status)))
        }
    }
}

/// The next child that has ended, if one has.
pub fn reap() -> Option<Ended> {
    // SAFETY: rusage is plain data; both pointers are live.
    let (pid, status, usage) = unsafe {
        let mut status = 0;
        let mut usage: libc::rusage = std::mem::zeroed();
        let pid = libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage);
        (pid, status, usage)
    };
    let time = |value: libc::timeval| {
        Duration::from_secs(value.tv_sec.unsigned_abs())
            + Duration::from_micros(value.tv_usec.unsigned_abs())
    };
    (pid > 0).then(|| Ended {
        pid,
        status,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
        max_rss_bytes: usage.ru_maxrss.unsigned_abs() * 1024,
    })
}

/// Sends a signal to a process, or with a negative number to a group.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: integers.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// A new terminal: its master and its slave.
pub fn open_terminal() -> Result<(OwnedFd, OwnedFd)> {
    let path = c"/dev/ptmx";
    // SAFETY: a constant text; new descriptors are owned by nobody else; the ioctls take what their definitions say.
    unsafe {
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        let master = OwnedFd::from_raw_fd(check(libc::open(path.as_ptr(), flags))?);
        let unlocked: libc::c_int = 0;
        check(libc::ioctl(
            master.as_raw_fd(),
            libc::TIOCSPTLCK,
            &raw const unlocked,
        ))?;
        let slave = check(libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags))?;
        Ok((master, OwnedFd::from_raw_fd(slave)))
    }
}

/// Sets a terminal's size.
pub fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the ioctl reads one winsize.
    check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

/// The program will lead a session of its own, with its standard input as the controlling terminal where `terminal`, in the
/// control group whose `entrance` this is.
pub fn lead_session(command: &mut Command, terminal: bool, entrance: Option<OwnedFd>) {
    // SAFETY: between fork and exec only these calls are made, which are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            if let Some(entrance) = &entrance {
                write(entrance.as_fd(), b"0")?;
            }
            check(libc::setsid())?;
            if terminal {
                check(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
            }
            Ok(())
        });
    }
}

/// Forks: None in the child. The agent has one thread, so the child may do whatever its parent could.
pub fn fork() -> Result<Option<i32>> {
    // SAFETY: see above; there is no other thread that could hold a lock.
    let pid = check(unsafe { libc::fork() })?;
    Ok((pid != 0).then_some(pid))
}

/// Ends this process at once.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: never returns.
    unsafe { libc::_exit(code) }
}

/// In a forked child: keeps `kept[n]` as descriptor n, closes all others, and unblocks signals.
pub fn keep_only(kept: &[BorrowedFd<'_>]) -> Result<()> {
    // Above all that will be targets, so that no target is taken before it is moved.
    let mut moved = Vec::with_capacity(kept.len());
    for fd in kept {
        // SAFETY: fcntl on a live descriptor.
        moved.push(check(unsafe {
            libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD, 64)
        })?);
    }
    for (target, fd) in (0..).zip(moved) {
        // SAFETY: both are open descriptors of this process, and nothing in the child uses the old target.
        check(unsafe { libc::dup2(fd, target) })?;
    }
    let first = libc::c_uint::try_from(kept.len()).unwrap_or(3);
    // SAFETY: closes descriptors that the child does not use; the set is plain data filled before it is read.
    unsafe {
        check(libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) as libc::c_int)?;
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        check(libc::sigprocmask(
            libc::SIG_SETMASK,
            &raw const set,
            std::ptr::null_mut(),
        ))
        .map(drop)
    }
}

/// A descriptor of this process by its number, for a child after `keep_only`.
///
/// Errors when no such descriptor is open.
pub fn inherited(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: fcntl only asks whether it is open.
    check(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: it is open, and after `keep_only` nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes the writing half of a socket; one that is gone already is no error.
pub fn shutdown_write(socket: BorrowedFd<'_>) {
    // SAFETY: an open descriptor.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) };
}

/// Gives a file or terminal to a user.
pub fn give(fd: BorrowedFd<'_>, uid: u32) -> Result<()> {
    // SAFETY: an open descriptor and integers; the group stays.
    check(unsafe { libc::fchown(fd.as_raw_fd(), uid, libc::gid_t::MAX) }).map(drop)
}

/// Gives an open file that has no name one.
pub fn name_file(file: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let from = text(&format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let to = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::from(ErrorKind::InvalidInput))?;
    let (here, follow) = (libc::AT_FDCWD, libc::AT_SYMLINK_FOLLOW);
    // SAFETY: two texts that live over the call.
    check(unsafe { libc::linkat(here, from.as_ptr(), here, to.as_ptr(), follow) }).map(drop)
}

/// Lets a pipe hold more, where the kernel allows it: fewer turns for the same bytes.
pub fn widen(pipe: BorrowedFd<'_>) {
    // SAFETY: an open descriptor and an integer; a refusal changes nothing.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, 1 << 20) };
}

/// Leads a session and a process group of its own.
pub fn new_session() -> Result<()> {
    // SAFETY: takes nothing.
    check(unsafe { libc::setsid() }).map(drop)
}

/// Who this process is; 0 is root.
pub fn effective_uid() -> u32 {
    // SAFETY: cannot fail.
    unsafe { libc::geteuid() }
}

/// Becomes another user for good, without further groups. An ordinary user can only stay who they are.
pub fn become_user(uid: u32, gid: u32) -> Result<()> {
    // SAFETY: integers, and an empty list of groups.
    unsafe {
        if libc::geteuid() == 0 {
            check(libc::setgroups(0, std::ptr::null()))?;
        }
        check(libc::setresgid(gid, gid, gid))?;
        check(libc::setresuid(uid, uid, uid)).map(drop)
    }
}

/// Mounts.
pub fn mount(
    source: &str,
    target: &str,
    kind: &str,
    flags: libc::c_ulong,
    data: &str,
) -> Result<()> {
    let (source, target, kind, data) = (text(source)?, text(target)?, text(kind)?, text(data)?);
    // SAFETY: four texts that live over the call.
    check(unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr().cast(),
        )
    })
    .map(drop)
}

/// Makes a directory the root of this process and all that it starts.
pub fn change_root(path: &str) -> Result<()> {
    let path = text(path)?;
    // SAFETY: one live text.
    check(unsafe { libc::chroot(path.as_ptr()) }).map(drop)
}

/// Loads a kernel module from an open file.
pub fn load_module(file: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: an open descriptor, an empty text, no flags.
    check(
        unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) }
            as libc::c_int,
    )
    .map(drop)
}

/// The machine's name.
pub fn set_host_name(name: &str) -> Result<()> {
    // SAFETY: pointer and length of one live text.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// The wall clock, in nanoseconds since 1970.
pub fn set_clock(nanoseconds: i64) -> Result<()> {
    let time = libc::timespec {
        tv_sec: nanoseconds / 1_000_000_000,
        tv_nsec: nanoseconds % 1_000_000_000,
    };
    // SAFETY: one live timespec.
    check(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) }).map(drop)
}

/// Credits bytes to the kernel's random numbers and makes it use them from now on (random(4)).
pub fn add_entropy(entropy: &[u8]) -> Result<()> {
    const RNDADDENTROPY: libc::c_ulong = 0x4008_5203;
    const RNDRESEEDCRNG: libc::c_ulong = 0x5207;
    let size = i32::try_from(entropy.len()).map_err(|_| Error::from(ErrorKind::InvalidInput))?;
    // struct rand_pool_info: bits, bytes, the bytes; in words, so that it is aligned.
    let mut pool = Vec::with_capacity(8 + entropy.len());
    pool.extend_from_slice(&(size * 8).to_ne_bytes());
    pool.extend_from_slice(&size.to_ne_bytes());
    pool.extend_from_slice(entropy);
    pool.resize(pool.len().next_multiple_of(4), 0);
    let words: Vec<u32> = pool
        .chunks_exact(4)
        .map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]))
        .collect();
    let device = std::fs::File::options().write(true).open("/dev/urandom")?;
    // SAFETY: the first ioctl reads the structure above, whose length it states; the second takes nothing.
    unsafe {
        check(libc::ioctl(
            device.as_raw_fd(),
            RNDADDENTROPY as _,
            words.as_ptr(),
        ))?;
        check(libc::ioctl(device.as_raw_fd(), RNDRESEEDCRNG as _)).map(drop)
    }
}

/// Writes all file systems.
pub fn sync() {
    // SAFETY: takes nothing, cannot fail.
    unsafe { libc::sync() };
}

/// Ends the machine, or starts it again. Returns only with an error.
pub fn end_machine(again: bool) -> Error {
    let how = if again {
        libc::RB_AUTOBOOT
    } else {
        libc::RB_POWER_OFF
    };
    // SAFETY: an integer.
    match check(unsafe { libc::reboot(how) }) {
        Err(error) => error,
        Ok(_) => Error::from(ErrorKind::Other),
    }
}

/// System calls that a hardened machine is built without.
pub const UNWANTED_CALLS: &[(&str, libc::c_long)] = &[
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("io_uring_enter", libc::SYS_io_uring_enter),
    ("io_uring_register", libc::SYS_io_uring_register),
    ("bpf", libc::SYS_bpf),
    ("kexec_load", libc::SYS_kexec_load),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("init_module", libc::SYS_init_module),
    ("finit_module", libc::SYS_finit_module),
    ("delete_module", libc::SYS_delete_module),
    ("swapon", libc::SYS_swapon),
    ("swapoff", libc::SYS_swapoff),
    ("acct", libc::SYS_acct),
    ("lookup_dcookie", libc::SYS_lookup_dcookie),
    ("quotactl", libc::SYS_quotactl),
    ("kcmp", libc::SYS_kcmp),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    #[cfg(target_arch = "x86_64")]
    ("kexec_file_load", libc::SYS_kexec_file_load),
    #[cfg(target_arch = "x86_64")]
    ("modify_ldt", libc::SYS_modify_ldt),
    #[cfg(target_arch = "x86_64")]
    ("uselib", libc::SYS_uselib),
];

fn number_of_error() -> i32 {
    Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// The error of a system call of `UNWANTED_CALLS` with nothing as its arguments; 0 when it succeeded.
pub fn probe(call: libc::c_long) -> i32 {
    // SAFETY: none of these calls writes through a null pointer; they refuse it, or do nothing with nothing.
    if unsafe { libc::syscall(call, 0, 0, 0, 0, 0, 0) } < 0 {
        number_of_error()
    } else {
        0
    }
}

/// The error of asking for the hardware's ports.
pub fn probe_ports() -> i32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: an integer; where it succeeds, this process could use ports, and does not.
    return if unsafe { libc::syscall(libc::SYS_iopl, 3) } < 0 {
        number_of_error()
    } else {
        0
    };
    #[cfg(not(target_arch = "x86_64"))]
    return libc::ENOSYS;
}

/// The error of making a socket of a family; 0 when there are such sockets.
pub fn probe_socket(family: i32) -> i32 {
    for kind in [
        libc::SOCK_STREAM,
        libc::SOCK_DGRAM,
        libc::SOCK_RAW,
        libc::SOCK_SEQPACKET,
    ] {
        // SAFETY: integers; a new descriptor is closed at once.
        unsafe {
            let socket = libc::socket(family, kind | libc::SOCK_CLOEXEC, 0);
            if socket >= 0 {
                libc::close(socket);
                return 0;
            }
            let error = number_of_error();
            if error == libc::EAFNOSUPPORT {
                return error;
            }
        }
    }
    number_of_error()
}

/// A soft limit of this process.
pub fn limit(resource: libc::__rlimit_resource_t) -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the call fills one live structure.
    (unsafe { libc::getrlimit(resource, &raw mut limit) } == 0).then_some(limit.rlim_cur)
}

/// Bytes that the file system at a path can hold.
pub fn file_system_size(path: &str) -> Option<u64> {
    let path = text(path).ok()?;
    // SAFETY: a live text, and plain data that the call fills.
    unsafe {
        let mut about: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &raw mut about) == 0)
            .then(|| about.f_blocks.saturating_mul(about.f_frsize))
    }
}
