//! The namespaces of a run: which ones, who we are in them, and that no further ones can be made.
//!
//! The new process writes its own identity maps (only the caller's own ids exist inside), so nobody has to wait for
//! anybody. It refuses: a second user or group inside.

use super::system::{self, check};
use super::{Fault, at};
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd;

/// The namespaces made by one `clone3`: all but that of the network.
pub const AT_ONCE: u64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// All namespaces.
pub const ALL: u64 = AT_ONCE | libc::CLONE_NEWNET as u64;

/// Who the command is, outside and inside alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: libc::uid_t,
    /// Group.
    pub gid: libc::gid_t,
}

impl Identity {
    /// The caller's.
    #[must_use]
    pub fn own() -> Identity {
        // SAFETY: these calls take nothing and cannot fail.
        unsafe {
            Identity {
                uid: libc::geteuid(),
                gid: libc::getegid(),
            }
        }
    }
}

/// Write the identity maps of the new user namespace, from inside.
///
/// # Errors
/// When the kernel refuses the maps.
pub fn map_identity(identity: Identity) -> Result<(), Fault> {
    let Identity { uid, gid } = identity;
    let write = |path: &str, text: &str| {
        put(path, text).map_err(|error| Fault::new(format!("namespaces: write {path}"), error))
    };
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("{uid} {uid} 1"))?;
    write("/proc/self/gid_map", &format!("{gid} {gid} 1"))
}

/// Write to a file of the kernel's, which is there or is not: asking to have it made takes longer.
fn put(path: &str, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    file.write_all(text.as_bytes())
}

/// No user namespace can be made inside, whatever a filter misses; and no more than `processes` pids exist where the
/// kernel can bound them per namespace (6.14), because `RLIMIT_NPROC` does not hold for the host's root.
///
/// # Errors
/// When the first cannot be written; the second is only a bound more.
pub fn bound(processes: Option<u64>) -> Result<(), Fault> {
    put("/proc/sys/user/max_user_namespaces", "0")
        .map_err(at("namespaces: forbid further ones"))?;
    if let Some(most) = processes
        && Identity::own().uid == 0
    {
        // The kernel takes no smaller number than 301 here. On an older kernel this is the host's value, which
        // a user namespace may not write: then the supervisor's polling is the bound.
        let _ = put("/proc/sys/kernel/pid_max", &most.max(301).to_string());
    }
    Ok(())
}

/// Make a network namespace of this process's own, with nothing in it but the loopback interface, which is up.
///
/// # Errors
/// The step that failed and why.
pub fn network() -> Result<(), Fault> {
    // SAFETY: plain integers.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) }.into())
        .map_err(at("network: make a namespace"))?;
    loopback()
}

/// Bring the loopback interface up: a fresh network namespace has it down.
fn loopback() -> Result<(), Fault> {
    let told = at("network: bring the loopback interface up");
    // SAFETY: plain integers.
    let socket = system::owned(
        unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }.into(),
    )
    .map_err(&told)?;
    // SAFETY: all-zero is a valid `struct ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is a valid `struct ifreq` naming an interface, as this ioctl takes.
    let up = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw const request,
        )
    };
    check(up.into()).map(drop).map_err(&told)
}
