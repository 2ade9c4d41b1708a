//! What only an attempt tells: a child tries it, so that nothing changes for us.
//!
//! For where a filter, a container or a module of the kernel may refuse what its settings seem to allow. It refuses to
//! guess from versions. The caller must be single-threaded.

use super::system::{self, check};
use super::{bpf, command, namespaces, privileges};
use std::io;
use std::os::fd::AsFd;

/// The steps of [`namespaces`], as exit codes of the child.
const STEPS: [&str; 3] = [
    "the maps of a user namespace cannot be written",
    "mounts cannot be made in a user namespace",
    "a new /proc cannot be mounted",
];

/// Make all namespaces, and in them what a run mounts first.
///
/// # Errors
/// The step that was refused, in words.
pub fn namespaces() -> Result<(), String> {
    // Asked before there is a namespace in which nobody has a name yet.
    let identity = namespaces::Identity::own();
    // SAFETY: this process has one thread.
    let made = unsafe { system::clone3(namespaces::ALL, None) };
    let child = match made {
        Ok(Some(child)) => child,
        Ok(None) => {
            let code = steps(identity);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(code) }
        }
        Err(error) => return Err(format!("user namespaces cannot be made: {error}")),
    };
    match waited(child.pid) {
        Some(0) => Ok(()),
        Some(step) => {
            Err(STEPS[usize::try_from(step - 1).unwrap_or(0).min(STEPS.len() - 1)].to_owned())
        }
        None => Err("user namespaces cannot be tried".to_owned()),
    }
}

/// 0, or the number of the step that failed.
fn steps(identity: namespaces::Identity) -> i32 {
    let private = libc::MS_REC | libc::MS_PRIVATE;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    if namespaces::map_identity(identity).is_err() {
        return 1;
    }
    if system::mount(c"none", c"/", c"", private, c"").is_err()
        || system::mount(
            c"tmpfs",
            c"/tmp",
            c"tmpfs",
            libc::MS_NOSUID | libc::MS_NODEV,
            c"",
        )
        .is_err()
    {
        return 2;
    }
    if system::mount(c"proc", c"/proc", c"proc", flags, c"").is_err() {
        return 3;
    }
    0
}

/// The child's exit code, when it ended by itself.
fn waited(child: libc::pid_t) -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    (waited == child && libc::WIFEXITED(status)).then(|| libc::WEXITSTATUS(status))
}

/// Whether a filter with a listener can be installed.
#[must_use]
pub fn listening() -> bool {
    let allow = bpf::emit(bpf::ARCH, &[], bpf::Action::Allow);
    // SAFETY: the caller is single-threaded; the child makes two system calls and ends.
    match unsafe { libc::fork() } {
        -1 => false,
        0 => {
            let able =
                privileges::no_new_privileges().is_ok() && command::install(&allow, true).is_ok();
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(i32::from(!able)) }
        }
        child => waited(child) == Some(0),
    }
}

/// Whether a descriptor can be fetched from another process.
#[must_use]
pub fn fetching() -> bool {
    // SAFETY: plain integers.
    let pidfd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) });
    let Ok(number) = pidfd else { return false };
    // SAFETY: the kernel has just given us this descriptor alone.
    let pidfd =
        unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(number as i32) };
    let fetched: io::Result<_> = system::take_descriptor(pidfd.as_fd(), 0);
    // Nothing at 0 is no refusal.
    fetched.map_or_else(|error| error.raw_os_error() == Some(libc::EBADF), |_| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_descriptor_can_be_fetched() {
        assert!(fetching());
    }

    #[test]
    fn every_step_has_its_words() {
        assert!(STEPS.iter().all(|step| step.contains("cannot")));
    }
}
