//! Signals as messages: the supervisor blocks those it forwards and reads them from a descriptor.
//!
//! What it refuses: handlers. The caller's mask is kept for the command.

use crate::sandbox::system::check;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

/// Signals the supervisor acts on.
const WATCHED: [i32; 8] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGWINCH,
    libc::SIGTSTP,
    libc::SIGCONT,
    libc::SIGCHLD,
];

/// The blocked signals, and how they were before.
pub struct Signals {
    descriptor: OwnedFd,
    /// The mask the supervisor was started with.
    pub before: libc::sigset_t,
}

impl Signals {
    /// Block and watch.
    ///
    /// # Errors
    /// As `signalfd(2)`.
    pub fn watch() -> io::Result<Signals> {
        // SAFETY: all-zero is a valid set, and each call is given valid sets.
        unsafe {
            let mut watched: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut watched);
            for signal in WATCHED {
                libc::sigaddset(&raw mut watched, signal);
            }
            check(libc::sigprocmask(libc::SIG_BLOCK, &raw const watched, &raw mut before).into())?;
            let raw = check(
                libc::signalfd(
                    -1,
                    &raw const watched,
                    libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
                )
                .into(),
            )?;
            Ok(Signals {
                descriptor: OwnedFd::from_raw_fd(raw as i32),
                before,
            })
        }
    }

    /// The descriptor to poll.
    #[must_use]
    pub fn descriptor(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }

    /// The next signal that waits.
    #[must_use]
    pub fn next(&self) -> Option<i32> {
        // SAFETY: all-zero is valid for this plain structure.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer is of the size given.
        let read = unsafe {
            libc::read(
                self.descriptor.as_raw_fd(),
                ptr::from_mut(&mut info).cast(),
                size,
            )
        };
        (read == size as isize).then_some(info.ssi_signo as i32)
    }
}
