//! The thread whose call is being answered: what the kernel says of it in `/proc`.
//!
//! What it refuses: to trust any of it before the listener confirms that the call still waits
//! ([`Listener::waits`](super::notify::Listener::waits)); a thread that is gone may have given its number to another.

use super::errno::Errno;
use super::memory::Memory;
use super::notify::{Notification, is_process, parent_of, take};
use super::sys;
use std::cell::OnceCell;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// One call and the thread that makes it.
#[derive(Debug)]
pub struct Caller {
    /// The call.
    pub call: Notification,
    process: OnceCell<libc::pid_t>,
}

impl Caller {
    /// Of a received call.
    pub fn new(call: Notification) -> Self {
        Self {
            call,
            process: OnceCell::new(),
        }
    }

    /// With what is known of the command's process, which is a child of this one: looking would tell nothing else.
    pub fn told_apart(self, command: libc::pid_t) -> Self {
        if self.call.tid == command {
            self.process.get_or_init(|| command);
        }
        self
    }

    /// Its memory.
    pub fn memory(&self) -> Memory {
        Memory(self.call.tid)
    }

    /// Argument `n` as it is.
    pub fn long(&self, n: usize) -> u64 {
        self.call.arguments[n]
    }

    /// Argument `n` as an `int`: the kernel looks at its low half only.
    pub fn int(&self, n: usize) -> i32 {
        self.call.arguments[n] as i32
    }

    /// The path behind argument `n`.
    ///
    /// # Errors
    /// `EFAULT`, `ENAMETOOLONG`.
    pub fn path(&self, n: usize) -> Result<Vec<u8>, Errno> {
        self.memory().path(self.long(n))
    }

    /// The directory that a relative path begins at.
    ///
    /// # Errors
    /// `EBADF`, `ENOTDIR`.
    pub fn directory(&self, dirfd: i32) -> Result<OwnedFd, Errno> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        if dirfd == libc::AT_FDCWD {
            return sys::open(&self.proc("cwd"), flags);
        }
        if dirfd < 0 {
            return Err(Errno::EBADF);
        }
        sys::open(&self.proc(&format!("fd/{dirfd}")), flags)
            .map_err(|e| if e == Errno::ENOENT { Errno::EBADF } else { e })
    }

    /// A copy of one of its descriptors.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn descriptor(&self, number: i32) -> Result<OwnedFd, Errno> {
        take(self.call.tid, self.process(), number)
    }

    /// Its process (thread group); the thread itself when it cannot be told.
    pub fn process(&self) -> libc::pid_t {
        *self.process.get_or_init(|| {
            // Most callers are the first thread of their process, which this tells sooner than reading the status.
            if is_process(self.call.tid) {
                return self.call.tid;
            }
            self.status("Tgid:")
                .and_then(|v| v.trim().parse().ok())
                .unwrap_or(self.call.tid)
        })
    }

    /// The process that it is a child of, while it is there.
    pub fn parent(&self) -> Option<libc::pid_t> {
        parent_of(self.process()).or_else(|| self.status("PPid:")?.trim().parse().ok())
    }

    /// Its file mode creation mask.
    ///
    /// # Errors
    /// `ESRCH` when it is gone.
    pub fn umask(&self) -> Result<u32, Errno> {
        let text = self.status("Umask:").ok_or(Errno::ESRCH)?;
        u32::from_str_radix(text.trim(), 8).map_err(|_| Errno::ESRCH)
    }

    /// Whether a signal that the program catches waits for it: a call that can be interrupted should end.
    pub fn interrupted(&self) -> bool {
        let Some(text) = self.status_text() else {
            return true;
        };
        let mask = |key: &str| {
            field(&text, key)
                .and_then(|v| u64::from_str_radix(v.trim(), 16).ok())
                .unwrap_or_default()
        };
        (mask("SigPnd:") | mask("ShdPnd:")) & mask("SigCgt:") & !mask("SigBlk:") != 0
    }

    /// Whether its descriptor is closed on exec; yes when it cannot be told.
    pub fn closes_on_exec(&self, number: i32) -> bool {
        let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/{number}", self.call.tid))
            .unwrap_or_default();
        let flags = field(&info, "flags:").and_then(|v| i32::from_str_radix(v.trim(), 8).ok());
        flags.is_none_or(|f| f & libc::O_CLOEXEC != 0)
    }

    /// Path of its executable, for reports.
    pub fn program(&self) -> Vec<u8> {
        sys::read_link_at(libc::AT_FDCWD, &self.proc("exe")).unwrap_or_default()
    }

    /// `/proc/TID/WHAT`.
    pub fn proc(&self, what: &str) -> CString {
        // Neither a number nor our own words hold a zero.
        CString::new(format!("/proc/{}/{what}", self.call.tid)).unwrap_or_default()
    }

    fn status_text(&self) -> Option<String> {
        let bytes = std::fs::read(format!("/proc/{}/status", self.call.tid)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// One of the first lines of its status: its name, mask, state and groups of threads are within what one reading
    /// takes. The name may be any bytes, but never a line of its own.
    fn status(&self, key: &str) -> Option<String> {
        let head = sys::read_head(&self.proc("status")).ok()?;
        field(&String::from_utf8_lossy(&head), key).map(str::to_owned)
    }
}

fn field<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key))
}

/// A directory that paths begin at: the caller's, found when it is needed, or one already open.
#[derive(Debug)]
pub enum Base<'a> {
    /// `AT_FDCWD` or a descriptor's number, of this caller.
    Of(&'a Caller, i32),
    /// This one, for the same caller.
    At(&'a Caller, BorrowedFd<'a>),
}

impl Base<'_> {
    /// Whose paths these are.
    pub fn caller(&self) -> &Caller {
        match self {
            Base::Of(caller, _) | Base::At(caller, _) => caller,
        }
    }

    /// The directory itself.
    ///
    /// # Errors
    /// `EBADF`, `ENOTDIR`.
    pub fn directory(&self) -> Result<OwnedFd, Errno> {
        match self {
            Base::Of(caller, dirfd) => caller.directory(*dirfd),
            Base::At(_, fd) => fd.as_fd().try_clone_to_owned().map_err(|_| Errno::EMFILE),
        }
    }
}
