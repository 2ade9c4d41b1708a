//! Resource limits of the kernel, per process; the whole tree is bounded by the supervisor (`supervise::usage`).
//!
//! A limit is never raised above what the caller has. Core files are always off: they would hold the command's memory.

use super::Fault;
use super::system::check;

/// What the plan asks for; `None` leaves the caller's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Bytes of writable memory of one process.
    pub memory: Option<u64>,
    /// Processor seconds of one process.
    pub cpu_seconds: Option<u64>,
    /// Processes and threads of this user namespace.
    pub processes: Option<u64>,
    /// Descriptors of one process.
    pub open_files: Option<u64>,
    /// Bytes of one file.
    pub file_size: Option<u64>,
}

/// Apply them to this process and all its future children.
///
/// # Errors
/// Which limit the kernel refused.
pub fn apply(limits: &Limits) -> Result<(), Fault> {
    lower(libc::RLIMIT_CORE, 0, "core")?;
    for (resource, wanted, name) in [
        (libc::RLIMIT_DATA, limits.memory, "memory"),
        (libc::RLIMIT_CPU, limits.cpu_seconds, "cpu"),
        (libc::RLIMIT_NPROC, limits.processes, "processes"),
        (libc::RLIMIT_NOFILE, limits.open_files, "open_files"),
        (libc::RLIMIT_FSIZE, limits.file_size, "file_size"),
    ] {
        if let Some(most) = wanted {
            lower(resource, most, name)?;
        }
    }
    Ok(())
}

/// The size of files alone, for a process that must outlive reaching it: it gets `EFBIG` and no signal.
///
/// # Errors
/// The kernel refused the limit.
pub fn bound_files(most: Option<u64>) -> Result<(), Fault> {
    let Some(most) = most else { return Ok(()) };
    // SAFETY: ignoring a signal takes no pointer.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    lower(libc::RLIMIT_FSIZE, most, "file_size")
}

fn lower(resource: libc::__rlimit_resource_t, most: u64, name: &str) -> Result<(), Fault> {
    let told = |error| Fault::new(format!("limits: {name}"), error);
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid structure to fill.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) }.into()).map_err(told)?;
    let ceiling = limit.rlim_max;
    limit.rlim_max = ceiling.min(most);
    limit.rlim_cur = limit.rlim_cur.min(limit.rlim_max);
    if resource == libc::RLIMIT_CPU {
        // The soft limit sends SIGXCPU, which names the cause; the hard one kills.
        limit.rlim_max = limit.rlim_max.saturating_add(1).min(ceiling);
    }
    // SAFETY: `limit` is a valid structure that outlives the call.
    check(unsafe { libc::setrlimit(resource, &raw const limit) }.into())
        .map(drop)
        .map_err(told)
}
