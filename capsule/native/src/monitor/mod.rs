//! The monitor: pid 1 of the sandbox. It answers the command's notified system calls and tells the supervisor.
//!
//! It holds no capability and stands in the same Landlock layer and namespaces as the command: a mistake in its path
//! logic reaches nothing outside the grants. It copies the arguments of a call once, resolves the name inside the
//! sandbox's root, asks [`Access`](crate::plan::Access), performs the operation itself and hands back the descriptor
//! or the result. What it refuses: to answer "continue" for anything it decides, to open `/proc` entries of its own
//! for the command, to go on without its supervisor, to drop an event.
//!
//! ```no_run
//! fn pid_1(context: capsule::monitor::MonitorContext, listener: std::os::fd::OwnedFd) {
//!     capsule::monitor::serve(context, |_| Some(listener));
//! }
//! ```

mod address;
mod arguments;
mod attributes;
mod broker;
mod caller;
mod datagrams;
mod dial;
mod dispatch;
mod errno;
mod events;
mod how;
mod internet;
mod memory;
mod notified;
mod notify;
mod noting;
mod observe;
mod observed;
mod opens;
mod paths;
mod processes;
mod repositories;
mod resolve;
mod serve;
mod sockets;
mod sys;
mod table;
pub mod wire;
mod workers;

use crate::audit::going::Page;
use crate::audit::named::Named;
use crate::plan::{Access, Audit, Syscalls};
use crate::sandbox::init::Watch;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

pub use internet::Network;
pub use notified::{Notified, notified};
pub use serve::exited;

/// The logs and policies of other runs, of which the monitor takes note while the command runs.
#[derive(Debug, Clone)]
pub struct Watched {
    /// This run among those that are going.
    pub page: Page,
    /// Where the command may write: absolute and resolved.
    pub writable: Vec<PathBuf>,
    /// Those there that are kept from it from the beginning.
    pub known: Vec<Named>,
}

/// Everything the monitor is given. It owns the descriptors; none may be inherited by the command.
#[derive(Debug)]
pub struct MonitorContext {
    /// The command's pid in the monitor's pid namespace; a child of the monitor.
    pub command: libc::pid_t,
    /// `O_PATH` descriptor of `/` in the sandbox's view.
    pub root: OwnedFd,
    /// The monitor's end of a `SOCK_SEQPACKET` pair, blocking: `docs/formats/monitor-wire.md`.
    pub supervisor: OwnedFd,
    /// Decides names.
    pub access: Access,
    /// The plan's system calls: what is not in `allow` is refused and reported.
    pub syscalls: Syscalls,
    /// Name of a system call by its number on this architecture.
    pub syscall_name: fn(u32) -> Option<&'static str>,
    /// What is sent beside denials, programs and connections.
    pub audit: Audit,
    /// Loopback TCP ports of the host that may be dialled.
    pub ports: Vec<u16>,
    /// Unix sockets of the host that may be dialled: absolute and resolved.
    pub unix: Vec<PathBuf>,
    /// The command's terminal as a path in the view (`/dev/pts/0`); `/dev/tty` is `ENXIO` without one.
    pub terminal: Option<PathBuf>,
    /// For `capsule trace`: the calls that are only counted. `None` counts nothing.
    pub observed: Option<std::collections::HashSet<u32>>,
    /// What the command's network is.
    pub network: Network,
    /// Where the heads of datagrams that reach nobody are read (`sandbox::network::datagrams`); `None` without hosts.
    pub datagrams: Option<OwnedFd>,
    /// What it takes note of; `None` where there is no state directory, and so no log.
    pub watched: Option<Watched>,
    /// The descriptors that it does so by.
    pub watch: Option<Watch>,
    /// Tell each process's refusals before it goes on, instead of counting the same ones together.
    pub prompt: bool,
}

/// Serve until the command is gone or the supervisor hangs up; then end this process (and with it, when it is pid 1
/// of a pid namespace, everything in it; else every descendant is killed and reaped first).
///
/// `listener` is asked for the seccomp listener (from `pidfd_getfd` of the command's descriptor) once everything else
/// is ready: it may wait for it, and for a word on the socket to the supervisor. When there will be none, the socket to the supervisor is given back.
///
/// The caller has blocked nothing and installed no handler; it is single-threaded. The exit status is 0 when the
/// command's end was reported, else 1.
pub fn serve(
    context: MonitorContext,
    listener: impl FnOnce(BorrowedFd<'_>) -> Option<OwnedFd>,
) -> OwnedFd {
    serve::serve(context, listener)
}
