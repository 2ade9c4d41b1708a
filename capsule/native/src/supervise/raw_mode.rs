//! The user's terminal in raw mode while the command has one of its own; always given back as it was.
//!
//! It refuses to touch anything that is not a terminal.

use crate::sandbox::system::check;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Raw mode; dropping it restores.
pub struct RawMode {
    terminal: RawFd,
    before: libc::termios,
}

/// Whether `descriptor` is a terminal.
#[must_use]
pub fn is_terminal(descriptor: RawFd) -> bool {
    // SAFETY: plain integers.
    unsafe { libc::isatty(descriptor) == 1 }
}

impl RawMode {
    /// Put `terminal` in raw mode.
    ///
    /// # Errors
    /// As `tcsetattr(3)`.
    pub fn enter(terminal: RawFd) -> io::Result<RawMode> {
        // SAFETY: all-zero is a valid structure, and both calls are given valid ones.
        unsafe {
            let mut before: libc::termios = std::mem::zeroed();
            // In the background this stops us until the shell's `fg`: till then the settings are those of its prompt.
            check(libc::tcdrain(terminal).into())?;
            check(libc::tcgetattr(terminal, &raw mut before).into())?;
            let mut raw = before;
            libc::cfmakeraw(&raw mut raw);
            check(libc::tcsetattr(terminal, libc::TCSADRAIN, &raw const raw).into())?;
            Ok(RawMode { terminal, before })
        }
    }

    /// Give the terminal back for a while.
    pub fn leave(&self) {
        // SAFETY: a valid structure that outlives the call.
        unsafe { libc::tcsetattr(self.terminal, libc::TCSADRAIN, &raw const self.before) };
    }

    /// Raw mode again; what the terminal is now is what it will be given back as.
    pub fn again(&mut self) {
        if let Ok(next) = RawMode::enter(self.terminal) {
            self.before = next.before;
            std::mem::forget(next);
        }
    }

    /// Give the command's terminal the size of the user's.
    pub fn copy_size(&self, master: &OwnedFd) {
        // SAFETY: both requests take a `struct winsize`, which outlives the calls.
        unsafe {
            let mut size: libc::winsize = std::mem::zeroed();
            if libc::ioctl(self.terminal, libc::TIOCGWINSZ, &raw mut size) == 0 {
                libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size);
            }
        }
    }

    /// Give a terminal the settings the user's had before.
    pub fn copy_settings(&self, master: &OwnedFd) {
        // SAFETY: a valid structure that outlives the call.
        unsafe { libc::tcsetattr(master.as_raw_fd(), libc::TCSANOW, &raw const self.before) };
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // SAFETY: a valid structure that outlives the call.
        unsafe { libc::tcsetattr(self.terminal, libc::TCSADRAIN, &raw const self.before) };
    }
}
