//! The command's process has its memory from its monitor until its `exec`, which the monitor sees before a program runs.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

use capsule::sandbox::bpf::{ARCH, Action, Decision, emit};
use capsule::sandbox::command::{self, Command, Progress, Stage};
use capsule::sandbox::limits::Limits;
use capsule::sandbox::{privileges, system};
use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Generous: a machine may be busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

fn command(program: &CStr, arguments: &[&CStr], gate: Option<OwnedFd>) -> Command {
    let asked = u32::try_from(libc::SYS_execve).unwrap();
    Command {
        program: program.to_owned(),
        arguments: arguments.iter().map(|&one| one.to_owned()).collect(),
        environment: vec![CString::new("A=b").unwrap()],
        terminal: None,
        limits: Limits {
            open_files: Some(64),
            ..Limits::default()
        },
        ruleset: None,
        filter: emit(
            ARCH,
            &[(asked, Decision::always(Action::Notify))],
            Action::Allow,
        ),
        supervised: true,
        wakes: true,
        gate,
        // SAFETY: all-zero is a valid set of signals.
        mask: unsafe { std::mem::zeroed() },
    }
}

/// The listener of a command that was begun, once its process has one.
fn listener(child: &system::Child, progress: &Progress) -> OwnedFd {
    let until = Instant::now() + PATIENCE;
    while progress.listener.load(Ordering::Acquire) < 0 {
        assert!(progress.failure().is_none(), "{:?}", progress.failure());
        assert!(Instant::now() < until);
        progress.wait(Duration::from_millis(1));
    }
    let number = progress.listener.load(Ordering::Acquire);
    system::take_descriptor(child.pidfd.as_fd(), number).unwrap()
}

/// The call that waits.
fn asked(listener: &OwnedFd) -> libc::seccomp_notif {
    // SAFETY: the request of linux/seccomp.h with the structure it takes, which outlives the call.
    unsafe {
        let mut call: libc::seccomp_notif = std::mem::zeroed();
        let (fd, receive) = (listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _);
        assert_eq!(libc::ioctl(fd, receive, &raw mut call), 0);
        call
    }
}

fn proceed(listener: &OwnedFd, call: &libc::seccomp_notif) {
    let response = libc::seccomp_notif_resp {
        id: call.id,
        val: 0,
        error: 0,
        flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
    };
    let (fd, send) = (listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _);
    // SAFETY: as above.
    assert_eq!(unsafe { libc::ioctl(fd, send, &raw const response) }, 0);
}

fn ended(child: &system::Child) -> i32 {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result.
    let waited = unsafe { libc::waitpid(child.pid, &raw mut status, 0) };
    assert_eq!(waited, child.pid);
    status
}

fn executable(pid: libc::pid_t) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}

/// Where the memory of a process lies, and what is in its files.
fn places(pid: libc::pid_t) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let named = maps.lines().filter(|line| line.contains('/'));
    named.map(str::to_owned).collect()
}

#[test]
fn a_command_shares_memory_until_its_program_begins() {
    privileges::no_new_privileges().unwrap();
    let (reading, writing) = system::pipe().unwrap();
    // Before the filter the process waits for this byte.
    let progress = Progress::shared().unwrap();
    let cat = command(c"/bin/cat", &[c"cat", c"/proc/self/limits"], Some(reading));
    let kept: Vec<u64> = (0..100_000).collect();
    // SAFETY: the other threads of this test program only wait.
    let child = unsafe { command::begin(cat, progress) }.unwrap();
    assert_eq!(executable(child.pid), std::env::current_exe().unwrap());
    assert_eq!(places(child.pid), places(std::process::id() as libc::pid_t));
    // What is written here is there too: one memory, not a copy.
    let mut word = Box::new(0u64);
    *word = 4711;
    let mut copy = [0u8; 8];
    let (to, from) = (
        libc::iovec {
            iov_base: copy.as_mut_ptr().cast(),
            iov_len: 8,
        },
        libc::iovec {
            iov_base: (&raw mut *word).cast(),
            iov_len: 8,
        },
    );
    // SAFETY: both places have eight bytes; the second is looked for in the other process.
    let read =
        unsafe { libc::process_vm_readv(child.pid, &raw const to, 1, &raw const from, 1, 0) };
    assert_eq!((read, u64::from_ne_bytes(copy)), (8, 4711));

    let byte = c"!".as_ptr().cast();
    // SAFETY: one byte of constant memory.
    let written = unsafe { libc::write(writing.as_raw_fd(), byte, 1) };
    assert_eq!(written, 1);
    let listener = listener(&child, progress);
    let call = asked(&listener);
    assert_eq!(i64::from(call.data.nr), libc::SYS_execve);
    assert_eq!(executable(child.pid), std::env::current_exe().unwrap());
    proceed(&listener, &call);
    let status = ended(&child);
    assert_eq!(
        (libc::WIFEXITED(status), libc::WEXITSTATUS(status)),
        (true, 0)
    );
    assert!(progress.failure().is_none());
    assert!(kept.iter().copied().eq(0..100_000));
    // Its limits were its own.
    let own = fs::read_to_string("/proc/self/limits").unwrap();
    let files = own.lines().find(|line| line.starts_with("Max open files"));
    assert!(files.is_some_and(|line| !line.split_whitespace().any(|word| word == "64")));
}

#[test]
fn a_program_that_cannot_begin_says_why() {
    privileges::no_new_privileges().unwrap();
    let progress = Progress::shared().unwrap();
    let absent = command(c"/no/such/program", &[c"program"], None);
    // SAFETY: the other threads of this test program only wait.
    let child = unsafe { command::begin(absent, progress) }.unwrap();
    let listener = listener(&child, progress);
    proceed(&listener, &asked(&listener));
    let status = ended(&child);
    assert_eq!(
        (libc::WIFEXITED(status), libc::WEXITSTATUS(status)),
        (true, 127)
    );
    let (stage, error) = progress.failure().unwrap();
    assert_eq!(
        (stage, error.raw_os_error()),
        (Stage::Exec, Some(libc::ENOENT))
    );
}

#[test]
fn without_a_monitor_it_is_a_copy() {
    privileges::no_new_privileges().unwrap();
    let (reading, writing) = system::pipe().unwrap();
    let progress = Progress::shared().unwrap();
    let alone = Command {
        supervised: false,
        filter: Vec::new(),
        ..command(c"/bin/true", &[c"true"], Some(reading))
    };
    // SAFETY: the other threads of this test program only wait.
    let child = unsafe { command::begin(alone, progress) }.unwrap();
    let byte = c"!".as_ptr().cast();
    // SAFETY: one byte of constant memory.
    let written = unsafe { libc::write(writing.as_raw_fd(), byte, 1) };
    assert_eq!(written, 1);
    let status = ended(&child);
    assert_eq!(
        (libc::WIFEXITED(status), libc::WEXITSTATUS(status)),
        (true, 0)
    );
}
