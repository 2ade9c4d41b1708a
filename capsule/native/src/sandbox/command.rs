//! The command's process between `fork` and `exec`: its terminal, its limits, its last two layers.
//!
//! The order matters: Landlock after everything is opened, capabilities before the filter, the filter last. The
//! process tells what happened through one page of memory shared with monitor and supervisor, because after the
//! filter even `write` may not be a call it has. It refuses to run the program when any step failed.

use super::bpf::Instruction;
use super::limits::{self, Limits};
use super::{landlock, privileges, raw, system};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::time::Duration;

/// What the three processes tell each other before `exec`.
#[repr(C)]
pub struct Progress {
    /// The listener's number in the command's process; -1 before there is one.
    pub listener: AtomicI32,
    /// Which step failed; 0 when none has.
    pub failed: AtomicI32,
    /// Why.
    pub errno: AtomicI32,
    /// Not 0 once one of these says something: the word the monitor waits on.
    told: AtomicU32,
}

/// The steps that can fail, as numbers on the shared page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Stage {
    /// The controlling terminal.
    Terminal = 1,
    /// Resource limits.
    Limits = 2,
    /// The second Landlock layer.
    Landlock = 3,
    /// Capabilities.
    Privileges = 4,
    /// The seccomp filter.
    Seccomp = 5,
    /// `execve` itself.
    Exec = 6,
}

impl Stage {
    /// From the number on the page.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Stage> {
        [
            Stage::Terminal,
            Stage::Limits,
            Stage::Landlock,
            Stage::Privileges,
            Stage::Seccomp,
            Stage::Exec,
        ]
        .into_iter()
        .find(|stage| *stage as i32 == number)
    }

    /// The layer's name in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Terminal => "terminal",
            Stage::Limits => "limits",
            Stage::Landlock => "landlock",
            Stage::Privileges => "privileges",
            Stage::Seccomp => "seccomp",
            Stage::Exec => "exec",
        }
    }
}

impl Progress {
    /// A fresh page that stays shared over `fork`; it lives as long as the process.
    ///
    /// # Errors
    /// As `mmap(2)`.
    pub fn shared() -> io::Result<&'static Progress> {
        let (protection, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
        );
        // SAFETY: a fresh anonymous mapping, nothing of ours is replaced.
        let page = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size_of::<Progress>(),
                protection,
                flags,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping is large enough, aligned to a page, zeroed (valid for atomics) and never unmapped.
        let progress = unsafe { &*page.cast::<Progress>() };
        progress.listener.store(-1, Ordering::Release);
        Ok(progress)
    }

    /// What failed, and with which error.
    #[must_use]
    pub fn failure(&self) -> Option<(Stage, io::Error)> {
        let stage = Stage::from_number(self.failed.load(Ordering::Acquire))?;
        Some((
            stage,
            io::Error::from_raw_os_error(self.errno.load(Ordering::Acquire)),
        ))
    }

    /// Wait until the command has a listener or has failed, at most `most`; may return early.
    pub fn wait(&self, most: Duration) {
        let most = libc::timespec {
            tv_sec: 0,
            tv_nsec: most.subsec_nanos().into(),
        };
        // SAFETY: the word lives as long as the process, `most` as long as the call. The page is shared between
        // processes, so the wait is not a private one.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.told.as_ptr(),
                libc::FUTEX_WAIT,
                0,
                &raw const most,
            )
        };
    }

    /// Wake the monitor; where this process may not, it wakes by itself a little later.
    fn tell(&self, may_wake: bool) {
        self.told.store(1, Ordering::Release);
        if may_wake {
            let (word, wake) = (raw::place(self.told.as_ptr()), raw::int(libc::FUTEX_WAKE));
            // SAFETY: the word lives as long as the process; the call reads no other memory. Whom it wakes, or nobody,
            // is nothing to this process.
            let _ = unsafe { raw::call(libc::SYS_futex, [word, wake, 1, 0, 0, 0]) };
        }
    }

    fn fail(&self, stage: Stage, error: &io::Error) -> ! {
        self.errno
            .store(error.raw_os_error().unwrap_or(libc::EIO), Ordering::Release);
        self.failed.store(stage as i32, Ordering::Release);
        // When `exec` fails the listener is long taken, and the filter may have no `futex`.
        self.tell(stage != Stage::Exec);
        raw::exit(if stage == Stage::Exec { 127 } else { 125 })
    }
}

/// Everything the command's process needs.
pub struct Command {
    /// The file to execute.
    pub program: CString,
    /// Arguments, the first being the program's name.
    pub arguments: Vec<CString>,
    /// `NAME=value`.
    pub environment: Vec<CString>,
    /// The terminal's other end, and which of 0, 1, 2 are put on it.
    pub terminal: Option<(OwnedFd, [bool; 3])>,
    /// Limits of the kernel.
    pub limits: Limits,
    /// The second layer.
    pub ruleset: Option<OwnedFd>,
    /// The filter; empty for none.
    pub filter: Vec<Instruction>,
    /// Whether a listener is asked for.
    pub supervised: bool,
    /// Whether the filter lets `futex` through without asking.
    pub wakes: bool,
    /// Read one byte from here before the filter is installed: the permission to go on when nobody listens.
    pub gate: Option<OwnedFd>,
    /// The signal mask the caller of the supervisor had.
    pub mask: libc::sigset_t,
}

/// A command with what `execve` takes, and where its process tells what happened.
struct Last {
    command: Command,
    arguments: Vec<*const libc::c_char>,
    environment: Vec<*const libc::c_char>,
    progress: &'static Progress,
}

/// Begin the process that becomes the command, a child of this one.
///
/// With a monitor it shares this process's memory until its `exec`, so that nothing has to be copied for it or because
/// of it: until then it runs [`become_command`] and nothing else, on a stack of its own, and the monitor sees its `exec`
/// before any program runs. Without one nobody would see when that is: it is a copy. What it was given stays in memory.
///
/// # Errors
/// As `clone(2)`.
///
/// # Safety
/// This process has one thread.
pub unsafe fn begin(command: Command, progress: &'static Progress) -> io::Result<system::Child> {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        let strings = strings.iter().map(|s| s.as_ptr());
        strings.chain([ptr::null()]).collect()
    };
    let last: &'static Last = Box::leak(Box::new(Last {
        arguments: pointers(&command.arguments),
        environment: pointers(&command.environment),
        command,
        progress,
    }));
    let child = if last.command.supervised && !last.command.filter.is_empty() {
        // SAFETY: `enter` takes a `Last`, writes to nothing but the shared page and its own stack, and does not return.
        unsafe { system::clone_beside(enter, ptr::from_ref(last).cast_mut().cast()) }
    } else {
        // SAFETY: as the caller promises.
        match unsafe { system::clone3(0, None) } {
            Ok(None) => become_command(last),
            Ok(Some(child)) => Ok(child),
            Err(error) => Err(error),
        }
    };
    let Command {
        terminal,
        ruleset,
        gate,
        ..
    } = &last.command;
    let terminal = terminal.as_ref().map(|(terminal, _)| terminal);
    for descriptor in [terminal, ruleset.as_ref(), gate.as_ref()]
        .into_iter()
        .flatten()
    {
        // SAFETY: what was leaked closes nothing and is used by the other process alone, whose descriptors are its own.
        unsafe { libc::close(descriptor.as_raw_fd()) };
    }
    child
}

extern "C" fn enter(last: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `begin` passes a `Last` that stays where it is.
    become_command(unsafe { &*last.cast::<Last>() })
}

/// Become the command, in a process that may have its memory from one that goes on beside it: so it allocates nothing,
/// frees nothing, and makes system calls without the C library.
fn become_command(last: &Last) -> ! {
    let (command, progress) = (&last.command, last.progress);
    // SAFETY: takes nothing; fails only for a group leader, which a fresh child is not.
    let _ = unsafe { raw::call(libc::SYS_setsid, [0; 6]) };
    if let Some((terminal, which)) = &command.terminal {
        take_terminal(terminal, *which)
            .unwrap_or_else(|error| progress.fail(Stage::Terminal, &error));
    }
    reset_signals(&command.mask).unwrap_or_else(|error| progress.fail(Stage::Limits, &error));
    limits::apply(&command.limits).unwrap_or_else(|error| progress.fail(Stage::Limits, &error));
    if let Some(ruleset) = &command.ruleset {
        landlock::restrict(ruleset).unwrap_or_else(|error| progress.fail(Stage::Landlock, &error));
    }
    privileges::keep_capabilities(0)
        .unwrap_or_else(|error| progress.fail(Stage::Privileges, &error));
    if let Some(gate) = &command.gate {
        wait_at(gate.as_raw_fd());
    }
    if !command.filter.is_empty() {
        match install(&command.filter, command.supervised) {
            Ok(listener) => {
                progress.listener.store(listener, Ordering::Release);
                progress.tell(command.wakes);
            }
            Err(error) => progress.fail(Stage::Seccomp, &error),
        }
    }
    let program = raw::place(command.program.as_ptr());
    let arguments = raw::place(last.arguments.as_ptr());
    let environment = raw::place(last.environment.as_ptr());
    // SAFETY: both arrays are null-terminated and hold pointers to strings that outlive the call.
    let failed = unsafe { raw::call(libc::SYS_execve, [program, arguments, environment, 0, 0, 0]) };
    match raw::check(failed) {
        Err(error) => progress.fail(Stage::Exec, &error),
        Ok(_) => raw::exit(125),
    }
}

/// Make `terminal` the controlling terminal and put it where the caller's was.
fn take_terminal(terminal: &OwnedFd, which: [bool; 3]) -> io::Result<()> {
    let from = raw::int(terminal.as_raw_fd());
    let control = libc::TIOCSCTTY as usize;
    // SAFETY: plain integers; we are a session leader without a terminal.
    raw::check(unsafe { raw::call(libc::SYS_ioctl, [from, control, 0, 0, 0, 0]) })?;
    for (number, wanted) in which.into_iter().enumerate() {
        if wanted {
            // SAFETY: plain integers; 0, 1 and 2 belong to nobody in this process, and `terminal` is none of them.
            raw::check(unsafe { raw::call(libc::SYS_dup3, [from, number, 0, 0, 0, 0]) })?;
        }
    }
    Ok(())
}

/// Give the signals back as the caller had them: the supervisor blocks some, and ignores two.
fn reset_signals(mask: &libc::sigset_t) -> io::Result<()> {
    /// As the kernel takes it; all zero is the default action. Architectures differ in what follows the flags.
    const ACTION: [usize; 4] = [0; 4];
    /// Bytes of a set of signals, for the kernel; the C library's is larger and begins with it.
    const SET: usize = 8;
    let (default, none) = (raw::place(&ACTION), 0);
    let (set, mask) = (raw::int(libc::SIG_SETMASK), raw::place(mask));
    // SAFETY: resetting a disposition and a mask touches no memory of ours; both places are valid.
    unsafe {
        for ignored in [libc::SIGPIPE, libc::SIGXFSZ] {
            let asked = [raw::int(ignored), default, none, SET, 0, 0];
            raw::check(raw::call(libc::SYS_rt_sigaction, asked))?;
        }
        raw::check(raw::call(
            libc::SYS_rt_sigprocmask,
            [set, mask, 0, SET, 0, 0],
        ))
        .map(drop)
    }
}

fn wait_at(gate: RawFd) {
    let mut byte = 0u8;
    let arguments = [raw::int(gate), raw::place(&raw mut byte), 1, 0, 0, 0];
    // SAFETY: one byte of our own memory.
    if unsafe { raw::call(libc::SYS_read, arguments) } != 1 {
        // The monitor is gone: nothing runs.
        raw::exit(125)
    }
}

/// Install the filter; the listener's number when one was asked for, else 0. Allocates nothing.
pub(super) fn install(filter: &[Instruction], listen: bool) -> io::Result<i32> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?,
        filter: filter.as_ptr().cast_mut().cast(),
    };
    let flags = if listen {
        libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
    } else {
        0
    };
    let mode = libc::SECCOMP_SET_MODE_FILTER as usize;
    let arguments = [
        mode,
        flags as usize,
        raw::place(&raw const program),
        0,
        0,
        0,
    ];
    // SAFETY: `Instruction` is laid out as `sock_filter`; the program outlives the call, which copies it.
    let result = raw::check(unsafe { raw::call(libc::SYS_seccomp, arguments) });
    result.map(|number| number as i32)
}

/// The file a shell would run for `name`: with a slash itself, else the first executable in `path`, where directories
/// are passed over.
///
/// # Errors
/// With a slash whatever keeps it from being executed; else `ENOENT` where there is none, and `EACCES` where one was
/// found that may not be executed.
pub fn find_program(name: &CStr, path: Option<&[u8]>) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    let executable = |candidate: &CStr| {
        let directory =
            std::path::Path::new(std::ffi::OsStr::from_bytes(candidate.to_bytes())).is_dir();
        // SAFETY: a valid C string.
        let allowed = unsafe { libc::access(candidate.as_ptr(), libc::X_OK) };
        if allowed != 0 {
            return Err(io::Error::last_os_error());
        }
        if directory {
            Err(io::Error::from_raw_os_error(libc::EISDIR))
        } else {
            Ok(())
        }
    };
    if name.to_bytes().contains(&b'/') {
        return executable(name).map(|()| name.to_owned());
    }
    let mut refused = io::Error::from_raw_os_error(libc::ENOENT);
    if name.is_empty() {
        return Err(refused);
    }
    for directory in path
        .unwrap_or(b"/usr/local/bin:/usr/bin:/bin")
        .split(|b| *b == b':')
    {
        let directory = if directory.is_empty() {
            b"."
        } else {
            directory
        };
        let bytes = [directory, b"/", name.to_bytes()].concat();
        let Ok(candidate) = CString::new(bytes) else {
            continue;
        };
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => refused = error,
            Err(_) => {}
        }
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_as_a_shell_finds_them() {
        assert!(
            find_program(c"sh", Some(b"/nowhere:/bin")).is_ok_and(|p| p.as_c_str() == c"/bin/sh")
        );
        let error =
            |name: &CStr, path: &[u8]| find_program(name, Some(path)).unwrap_err().raw_os_error();
        assert_eq!(error(c"no-such-program", b"/bin"), Some(libc::ENOENT));
        assert_eq!(error(c"passwd", b"/etc"), Some(libc::EACCES));
        assert_eq!(error(c"/etc", b""), Some(libc::EISDIR));
        assert_eq!(error(c"/bin/sh/", b""), Some(libc::ENOTDIR));
        assert_eq!(error(c"etc", b"/"), Some(libc::ENOENT));
        assert_eq!(error(c"..", b"/etc"), Some(libc::ENOENT));
        assert_eq!(error(c"", b"/bin"), Some(libc::ENOENT));
    }

    #[test]
    fn stages_survive_the_page() {
        let progress = Progress::shared().unwrap();
        assert!(progress.failure().is_none());
        progress.errno.store(libc::EACCES, Ordering::Release);
        progress.failed.store(Stage::Exec as i32, Ordering::Release);
        let (stage, error) = progress.failure().unwrap();
        assert_eq!(
            (stage, error.raw_os_error()),
            (Stage::Exec, Some(libc::EACCES))
        );
    }
}
