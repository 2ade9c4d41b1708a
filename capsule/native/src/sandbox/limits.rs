//! Resource limits of the kernel, per process; the whole tree is bounded by the supervisor (`supervise::usage`).
//!
//! A limit is never raised above what the caller has. Core files are always off: they would hold the command's memory.

use super::raw;
use std::io;

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

/// Apply them to this process and all its future children. Allocates nothing: whose memory it is may be another's.
///
/// # Errors
/// The kernel refused a limit.
pub fn apply(limits: &Limits) -> io::Result<()> {
    lower(libc::RLIMIT_CORE, 0)?;
    for (resource, wanted) in [
        (libc::RLIMIT_DATA, limits.memory),
        (libc::RLIMIT_CPU, limits.cpu_seconds),
        (libc::RLIMIT_NPROC, limits.processes),
        (libc::RLIMIT_NOFILE, limits.open_files),
        (libc::RLIMIT_FSIZE, limits.file_size),
    ] {
        if let Some(most) = wanted {
            lower(resource, most)?;
        }
    }
    Ok(())
}

/// The size of files alone, for a process that must outlive reaching it: it gets `EFBIG` and no signal.
///
/// # Errors
/// The kernel refused the limit.
pub fn bound_files(most: Option<u64>) -> io::Result<()> {
    let Some(most) = most else { return Ok(()) };
    // SAFETY: ignoring a signal takes no pointer.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    lower(libc::RLIMIT_FSIZE, most)
}

fn lower(resource: libc::__rlimit_resource_t, most: u64) -> io::Result<()> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let (own, none) = (0, 0);
    let resource_number = resource as usize;
    let place = raw::place(&raw mut limit);
    // SAFETY: `limit` is a valid structure to fill, and outlives both calls (prlimit(2)).
    unsafe {
        let asked = [own, resource_number, none, place, 0, 0];
        raw::check(raw::call(libc::SYS_prlimit64, asked))?;
        let ceiling = limit.rlim_max;
        limit.rlim_max = ceiling.min(most);
        limit.rlim_cur = limit.rlim_cur.min(limit.rlim_max);
        if resource == libc::RLIMIT_CPU {
            // The soft limit sends SIGXCPU, which names the cause; the hard one kills.
            limit.rlim_max = limit.rlim_max.saturating_add(1).min(ceiling);
        }
        let place = raw::place(&raw const limit);
        let told = [own, resource_number, place, none, 0, 0];
        raw::check(raw::call(libc::SYS_prlimit64, told)).map(drop)
    }
}
