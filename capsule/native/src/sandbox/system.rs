//! Thin, typed wrappers around the system calls the launcher needs and `std` does not offer.
//!
//! What it refuses: policy. Each function is one system call and its error; names come from the manual pages.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `MOUNT_ATTR_RDONLY` and its neighbours (linux/mount.h).
pub const ATTR_RDONLY: u64 = 0x1;
/// Set-user-id bits and file capabilities have no effect.
pub const ATTR_NOSUID: u64 = 0x2;
/// Device files cannot be opened.
pub const ATTR_NODEV: u64 = 0x4;
/// Files cannot be executed nor mapped executable.
pub const ATTR_NOEXEC: u64 = 0x8;

/// The constant of the C library crate is too narrow.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const AT_RECURSIVE: libc::c_uint = 0x8000;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;

#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Turn a raw result into an error with the current `errno`.
///
/// # Errors
/// The `errno` of the call that returned `result`, when it is negative.
pub fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A null-terminated copy of a path.
///
/// # Errors
/// `EINVAL` where the path holds a NUL.
pub fn c_path(path: &std::path::Path) -> io::Result<std::ffi::CString> {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::CString::new(path.as_os_str().as_bytes())
        .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// The descriptor a call has returned.
///
/// # Errors
/// The `errno` of the call that returned `result`, when it is negative.
pub fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let raw = check(result)?;
    // SAFETY: the call succeeded and returned a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as RawFd) })
}

/// `open(path, flags | O_CLOEXEC)`.
///
/// # Errors
/// As `open(2)`.
pub fn open(path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: `path` is a valid C string; no other memory is passed.
    owned(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }.into())
}

/// An `O_PATH` descriptor of an absolute path none of whose parts is a symbolic link.
///
/// # Errors
/// As `openat2(2)`; `ELOOP` where a part became a symbolic link after the path was resolved.
pub fn resolve(path: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: all-zero is a valid `struct open_how`.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_NO_SYMLINKS;
    // SAFETY: `path` is a valid C string and `how` a structure of the size given.
    owned(unsafe {
        libc::syscall(
            libc::SYS_openat2,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    })
}

/// A detached copy of the mounts at `place` (`open_tree(OPEN_TREE_CLONE)`), with everything below.
///
/// # Errors
/// As `open_tree(2)`.
pub fn clone_tree(place: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE
        | AT_RECURSIVE
        | libc::O_CLOEXEC as libc::c_uint
        | libc::AT_EMPTY_PATH as libc::c_uint;
    // SAFETY: the path is a valid empty C string; the kernel reads nothing else.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, place.as_raw_fd(), c"".as_ptr(), flags) })
}

/// As [`clone_tree`], by a name whose last part is no symbolic link and whose other parts nobody else can change.
///
/// # Errors
/// As `open_tree(2)`.
pub fn clone_named(path: &CStr) -> io::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE
        | AT_RECURSIVE
        | libc::O_CLOEXEC as libc::c_uint
        | libc::AT_SYMLINK_NOFOLLOW as libc::c_uint;
    // SAFETY: a valid C string; the kernel reads nothing else.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
}

/// `mkdir(path, mode)`, without the mask of the process when that is 0.
///
/// # Errors
/// As `mkdir(2)`.
pub fn make_directory(path: &CStr, mode: libc::mode_t) -> io::Result<()> {
    // SAFETY: a valid C string.
    check(unsafe { libc::mkdir(path.as_ptr(), mode) }.into()).map(drop)
}

/// An empty file that its owner may write.
///
/// # Errors
/// As `mknod(2)`.
pub fn make_file(path: &CStr) -> io::Result<()> {
    // SAFETY: a valid C string.
    check(unsafe { libc::mknod(path.as_ptr(), libc::S_IFREG | 0o644, 0) }.into()).map(drop)
}

/// As [`attach`], by a name in a directory of the caller's own making.
///
/// # Errors
/// As `move_mount(2)`.
pub fn attach_named(tree: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    // SAFETY: both are valid C strings.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// Attach a detached mount on top of `target` (`move_mount`).
///
/// # Errors
/// As `move_mount(2)`.
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are valid empty C strings.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    })
    .map(drop)
}

/// Set and clear mount attributes of the mount at `place`, and of all below where `recursive`.
///
/// # Errors
/// As `mount_setattr(2)`.
pub fn set_attributes(
    place: BorrowedFd<'_>,
    set: u64,
    clear: u64,
    recursive: bool,
) -> io::Result<()> {
    let attributes = MountAttr {
        set,
        clear,
        ..MountAttr::default()
    };
    let flags = libc::AT_EMPTY_PATH as libc::c_uint | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `attributes` is a `struct mount_attr` of the size given; both pointers outlive the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            place.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// `mount(2)`.
///
/// # Errors
/// As `mount(2)`.
pub fn mount(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: libc::c_ulong,
    data: &CStr,
) -> io::Result<()> {
    // SAFETY: all four are valid C strings that outlive the call.
    check(
        unsafe {
            libc::mount(
                source.as_ptr(),
                target.as_ptr(),
                kind.as_ptr(),
                flags,
                data.as_ptr().cast(),
            )
        }
        .into(),
    )
    .map(drop)
}

/// What `clone3` created.
pub struct Child {
    /// Pid of the child as the parent sees it.
    pub pid: libc::pid_t,
    /// A pidfd of the child.
    pub pidfd: OwnedFd,
}

/// `clone3` without a shared address space: like `fork`, with namespaces and a pidfd.
/// Returns `None` in the child. Filters of containers often refuse `clone3` and let plain `clone` through.
///
/// # Errors
/// As `clone3(2)`; `ENOSYS` where only it can put the child into a control group.
///
/// # Safety
/// The caller must be single-threaded: the child may then call anything.
pub unsafe fn clone3(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Option<Child>> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all-zero is a valid `struct clone_args`.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = namespaces | libc::CLONE_PIDFD as u64;
    arguments.pidfd = &raw mut pidfd as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: the structure is fully initialised and of the size given; the caller is single-threaded.
    let made = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    });
    let pid = match made {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) && cgroup.is_none() => {
            let flags = arguments.flags | libc::SIGCHLD as u64;
            // SAFETY: without a stack the child goes on with a copy of ours, as after `fork`; the pidfd's place is
            // valid, and the arguments after it are not used with these flags.
            check(unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) })?
        }
        made => made?,
    };
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: the kernel stored a new descriptor, and we are its only owner.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Some(Child {
        pid: pid as libc::pid_t,
        pidfd,
    }))
}

/// Let the child `pid`, which has just begun, run on another processor than this one, if it may use more than this; what it may use
/// stays as it was. A kernel leaves a new process beside its parent when it takes the idle processors of a virtual
/// machine for ones that are slow to wake, and then both wait for one another (decision 0006). Nothing depends on this: what fails
/// leaves the child where the kernel put it.
pub fn apart(pid: libc::pid_t) {
    const BITS: usize = usize::BITS as usize;
    let mut may = [0_usize; 1024 / BITS];
    // SAFETY: a valid place for the processors of a machine with up to 1024, and of the length given; `sched_setaffinity`
    // reads as much.
    unsafe {
        let got = libc::syscall(
            libc::SYS_sched_getaffinity,
            0,
            size_of_val(&may),
            may.as_mut_ptr(),
        );
        let here = usize::try_from(libc::sched_getcpu());
        let (true, Ok(here)) = (got > 0, here) else {
            return;
        };
        let mut others = may;
        let Some(word) = others.get_mut(here / BITS) else {
            return;
        };
        *word &= !(1 << (here % BITS));
        if others.iter().any(|word| *word != 0) {
            for allowed in [&others, &may] {
                libc::syscall(libc::SYS_sched_setaffinity, pid, got, allowed.as_ptr());
            }
        }
    }
}

/// Bytes of the stack of a process that shares our memory, the page that ends it not counted.
const STACK: usize = 64 * 1024;
const PAGE: usize = 4096;

/// Begin a child that shares this process's memory, and nothing else, until it makes another program of itself or ends.
/// It runs `entry` on a stack of its own, which stays.
///
/// # Errors
/// As `mmap(2)`, `clone(2)`.
///
/// # Safety
/// `entry` does with `argument`, and with all memory, what a second thread might that the C library knows nothing of: it
/// allocates and frees nothing and uses nothing that belongs to the thread. It does not return.
pub unsafe fn clone_beside(
    entry: extern "C" fn(*mut libc::c_void) -> libc::c_int,
    argument: *mut libc::c_void,
) -> io::Result<Child> {
    let (protection, flags) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
    );
    // SAFETY: a fresh anonymous mapping, whose lowest page is made one that ends the process which reaches it; the
    // child begins at its upper end. The pidfd's place is valid.
    unsafe {
        let length = PAGE + STACK;
        let stack = libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0);
        if stack == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        check(libc::mprotect(stack, PAGE, libc::PROT_NONE).into())?;
        let mut pidfd: libc::c_int = -1;
        let flags = libc::CLONE_VM | libc::CLONE_PIDFD | libc::SIGCHLD;
        let pid = libc::clone(
            entry,
            stack.byte_add(length),
            flags,
            argument,
            &raw mut pidfd,
        );
        check(pid.into())?;
        Ok(Child {
            pid,
            pidfd: OwnedFd::from_raw_fd(pidfd),
        })
    }
}

/// A copy of descriptor `number` of the process behind `pidfd`.
///
/// # Errors
/// As `pidfd_getfd(2)`.
pub fn take_descriptor(pidfd: BorrowedFd<'_>, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: plain integers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })
}

/// Whether the process behind `pidfd` has ended, or does within `patience`.
#[must_use]
pub fn ends_within(pidfd: BorrowedFd<'_>, patience: std::time::Duration) -> bool {
    let mut poll = libc::pollfd {
        fd: pidfd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let patience = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one valid structure, and its number.
    unsafe { libc::poll(&raw mut poll, 1, patience) == 1 }
}

/// Send `signal` to the process behind `pidfd`.
///
/// # Errors
/// As `pidfd_send_signal(2)`; `ESRCH` when it is gone.
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: plain integers and a null pointer, which the call permits.
    check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, 0, 0) })
        .map(drop)
}

/// A new overlay that is attached nowhere: `lower` as it is, written to `upper`, with `work` beside it.
///
/// # Errors
/// As `fsopen(2)`, `fsconfig(2)`, `fsmount(2)`.
pub fn overlay(lower: &CStr, upper: &CStr, work: &CStr) -> io::Result<OwnedFd> {
    const SET_FLAG: libc::c_uint = 0;
    const SET_STRING: libc::c_uint = 1;
    const CREATE: libc::c_uint = 6;
    const CLOSE_ON_EXEC: libc::c_uint = 1;
    // In the option that may name several directories, a colon separates them.
    let mut escaped = Vec::new();
    for &byte in lower.to_bytes() {
        if matches!(byte, b':' | b'\\') {
            escaped.push(b'\\');
        }
        escaped.push(byte);
    }
    let lower = std::ffi::CString::new(escaped)?;
    // SAFETY: a valid C string; the descriptor is new and unowned.
    let context = unsafe {
        let fd = check(libc::syscall(
            libc::SYS_fsopen,
            c"overlay".as_ptr(),
            CLOSE_ON_EXEC,
        ))?;
        OwnedFd::from_raw_fd(fd as RawFd)
    };
    let configure = |command: libc::c_uint, key: Option<&CStr>, value: Option<&CStr>| {
        let text = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: null or valid C strings that outlive the call.
        check(unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                context.as_raw_fd(),
                command,
                text(key),
                text(value),
                0,
            )
        })
    };
    configure(SET_STRING, Some(c"source"), Some(c"capsule"))?;
    // Attributes that need no privilege, as an ordinary user's overlay must have them.
    configure(SET_FLAG, Some(c"userxattr"), None)?;
    configure(SET_STRING, Some(c"lowerdir"), Some(&lower))?;
    configure(SET_STRING, Some(c"upperdir"), Some(upper))?;
    configure(SET_STRING, Some(c"workdir"), Some(work))?;
    configure(CREATE, None, None)?;
    // SAFETY: plain integers; the descriptor is new and unowned.
    unsafe {
        let fd = check(libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            CLOSE_ON_EXEC,
            0,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// A new file system of a kind that needs no options, attached nowhere.
///
/// # Errors
/// As `fsopen(2)`, `fsconfig(2)`, `fsmount(2)`.
pub fn unattached(kind: &CStr) -> io::Result<OwnedFd> {
    const CREATE: libc::c_uint = 6;
    const CLOSE_ON_EXEC: libc::c_uint = 1;
    // SAFETY: a valid C string, null pointers and plain integers; both descriptors are new and unowned.
    unsafe {
        let context = check(libc::syscall(
            libc::SYS_fsopen,
            kind.as_ptr(),
            CLOSE_ON_EXEC,
        ))?;
        let context = OwnedFd::from_raw_fd(context as RawFd);
        let nothing = std::ptr::null::<libc::c_char>();
        check(libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            CREATE,
            nothing,
            nothing,
            0,
        ))?;
        let tree = check(libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            CLOSE_ON_EXEC,
            0,
        ))?;
        Ok(OwnedFd::from_raw_fd(tree as RawFd))
    }
}

/// `prctl` with integer arguments.
///
/// # Errors
/// As `prctl(2)`.
pub fn prctl(option: i32, argument: u64) -> io::Result<()> {
    // SAFETY: only options that take integers are passed by the callers in this crate.
    check(unsafe { libc::prctl(option, argument, 0u64, 0u64, 0u64) }.into()).map(drop)
}

/// A connected pair of Unix sockets that keep message boundaries.
///
/// # Errors
/// As `socketpair(2)`.
pub fn message_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut pair = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `pair` has room for the two descriptors.
    let result = unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr()) };
    check(result.into())?;
    // SAFETY: the call succeeded; both descriptors are new and unowned.
    Ok(unsafe { (OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1])) })
}

/// A pipe: reading end, writing end.
///
/// # Errors
/// As `pipe2(2)`.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut pair = [-1; 2];
    // SAFETY: `pair` has room for the two descriptors.
    check(unsafe { libc::pipe2(pair.as_mut_ptr(), libc::O_CLOEXEC) }.into())?;
    // SAFETY: the call succeeded; both descriptors are new and unowned.
    Ok(unsafe { (OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1])) })
}

/// Close every descriptor from `first` up.
///
/// # Errors
/// As `close_range(2)`.
pub fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: plain integers; the callers own no `OwnedFd` at or above `first` that they use afterwards.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) }).map(drop)
}
