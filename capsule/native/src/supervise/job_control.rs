//! Stopping and continuing a run as a shell expects of its job.
//!
//! The command has a session of its own, whose leader it is: the kernel would not stop it for a key, as nobody in that
//! session could continue it. So the supervisor takes the key, stops the command's group and itself, and goes on with
//! both when the user's shell says so. It refuses to take the key from a shell inside, and from who ignores being stopped.

use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Three keys that interrupt within this time end a command that does not listen to them.
const INSISTED: Duration = Duration::from_secs(2);
const TIMES: usize = 3;
/// How a terminal echoes such a key: `^C`.
const ECHO: usize = 2;

/// The key that interrupts, typed again and again: three within two seconds end everything, where the process in front
/// ignores the signal, or nothing but their echo was seen since the first. A program that answers each with something
/// (a shell's new prompt, an interpreter's message) goes on, and so does one whose terminal gives it the key itself.
#[derive(Debug, Default)]
pub struct Insistence {
    times: Vec<Instant>,
    output: usize,
}

impl Insistence {
    /// The command wrote so many bytes.
    pub fn output(&mut self, bytes: usize) {
        self.output = self.output.saturating_add(bytes);
    }

    /// Something was typed; whether that is enough. `deaf`: the process in front ignores the signal.
    pub fn typed(&mut self, bytes: &[u8], key: u8, deaf: bool, now: Instant) -> bool {
        for byte in bytes {
            if *byte != key {
                self.times.clear();
                continue;
            }
            let answered = !deaf && self.output > ECHO * self.times.len();
            if answered {
                self.times.clear();
            }
            self.times.retain(|at| now.duration_since(*at) < INSISTED);
            if self.times.is_empty() {
                self.output = 0;
            }
            self.times.push(now);
            if self.times.len() >= TIMES {
                return true;
            }
        }
        false
    }
}

/// The key that interrupts, where the command's terminal knows one, and the process in front.
#[must_use]
pub fn interrupt_key(master: &OwnedFd) -> Option<(u8, libc::pid_t)> {
    let fd = master.as_raw_fd();
    let mut front: libc::pid_t = 0;
    // SAFETY: all-zero is a valid structure; each call is given a valid place for its result.
    let key = unsafe {
        let mut mode: libc::termios = std::mem::zeroed();
        let known = libc::tcgetattr(fd, &raw mut mode) == 0
            && libc::ioctl(fd, libc::TIOCGPGRP, &raw mut front) == 0;
        (known && mode.c_lflag & libc::ISIG != 0).then_some(mode.c_cc[libc::VINTR])?
    };
    (key != libc::_POSIX_VDISABLE && front > 0).then_some((key, front))
}

/// Whether a process ignores or holds back a signal; one that cannot be looked at does not.
#[must_use]
pub fn deaf(pid: libc::pid_t, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = |key: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .unwrap_or_default()
    };
    // While its handler runs, a signal that is caught is held back too.
    (mask("SigIgn:") | mask("SigBlk:") & !mask("SigCgt:")) >> (signal - 1) & 1 == 1
}

/// Stop this process as the terminal's `^Z` would have, and, where we took that key ourselves, `all` of its group; back
/// when it is continued. Where nobody could continue it (an orphaned group) the kernel does not stop it.
pub fn stop_ourselves(all: bool) {
    // SAFETY: valid signal sets on this stack, and plain integers.
    unsafe {
        let mut stop: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut stop);
        libc::sigaddset(&raw mut stop, libc::SIGTSTP);
        libc::kill(if all { 0 } else { libc::getpid() }, libc::SIGTSTP);
        // It waits while it is blocked, and is taken here.
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const stop, std::ptr::null_mut());
        libc::sigprocmask(libc::SIG_BLOCK, &raw const stop, std::ptr::null_mut());
    }
}

/// The key that would stop the command: where its terminal knows one, the command itself stands in front (a shell inside
/// stops its own jobs), and it does not ignore being stopped.
#[must_use]
pub fn stop_key(master: &OwnedFd) -> Option<u8> {
    let fd = master.as_raw_fd();
    let (mut front, mut session): (libc::pid_t, libc::pid_t) = (0, 0);
    // SAFETY: all-zero is a valid structure; each call is given a valid place for its result.
    let key = unsafe {
        let mut mode: libc::termios = std::mem::zeroed();
        let known = libc::tcgetattr(fd, &raw mut mode) == 0
            && libc::ioctl(fd, libc::TIOCGPGRP, &raw mut front) == 0
            && libc::ioctl(fd, libc::TIOCGSID, &raw mut session) == 0;
        (known && mode.c_lflag & libc::ISIG != 0).then_some(mode.c_cc[libc::VSUSP])?
    };
    if key == libc::_POSIX_VDISABLE || front <= 0 || front != session {
        return None;
    }
    let status = std::fs::read_to_string(format!("/proc/{session}/status")).ok()?;
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    let ignored = u64::from_str_radix(ignored.trim(), 16).ok()?;
    (ignored >> (libc::SIGTSTP - 1) & 1 == 0).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_keys_that_nobody_answers_are_enough() {
        let now = Instant::now();
        let mut one = Insistence::default();
        assert!(!one.typed(b"\x03", 3, false, now));
        one.output(2);
        assert!(!one.typed(b"\x03", 3, false, now));
        one.output(2);
        assert!(one.typed(b"\x03", 3, false, now));
    }

    #[test]
    fn who_answers_or_waits_or_types_else_is_left_alone() {
        let now = Instant::now();
        let press = |one: &mut Insistence, at| one.typed(b"\x03", 3, false, at);
        let mut answered = Insistence::default();
        for _ in 0..9 {
            assert!(!press(&mut answered, now));
            answered.output(40);
        }
        let mut deaf = Insistence::default();
        for expected in [false, false, true] {
            assert_eq!(deaf.typed(b"\x03", 3, true, now), expected);
            deaf.output(40);
        }
        let mut slow = Insistence::default();
        for n in 0..9 {
            assert!(!press(&mut slow, now + INSISTED * n));
        }
        let mut other = Insistence::default();
        assert!(!other.typed(b"\x03\x03x\x03\x03", 3, true, now));
    }

    #[test]
    fn a_terminal_in_which_nobody_stands_has_no_such_key() {
        // SAFETY: plain integers; a new descriptor that nobody owns, or an error.
        let raw = unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY) };
        assert!(raw >= 0);
        // SAFETY: as above.
        let master = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(raw) };
        assert_eq!(stop_key(&master), None);
    }
}
