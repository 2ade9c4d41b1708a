//! What the command line adds to a plan, and the connection it names.
//!
//! It refuses nothing of a plan: what is added has the option as its origin, and is judged as every other line.

use super::Request;
use super::launch::failed;
use super::report::Exit;
use crate::plan::{Grant, Origin, Plan, Program, bracketed};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// An option of the command line, as the place where something was written.
fn option(name: &str) -> Origin {
    Origin {
        file: name.to_owned(),
        line: 1,
        column: 1,
    }
}

/// Programs named on the command line, where the plan names some.
pub fn grant_programs(plan: &mut Plan, programs: &[String]) {
    if let Some(list) = &mut plan.process.programs {
        list.extend(programs.iter().map(|path| Program {
            path: bracketed(path).into_owned(),
            digest: None,
            origin: option("--program"),
        }));
    }
}

/// Directories named on the command line, as grants of the plan.
pub fn grant_reads(plan: &mut Plan, directories: &[String]) {
    let grants = directories.iter().map(|path| Grant {
        path: bracketed(path).into_owned(),
        optional: true,
        origin: option("--read"),
    });
    plan.filesystem.read.extend(grants.clone());
    plan.filesystem.execute.extend(grants);
}

/// The connection of the program that drives the run: ours alone from here on, but for the copy the report goes to.
pub fn control(request: &Request) -> Result<Option<OwnedFd>, Exit> {
    let Some(number) = request.control else {
        return Ok(None);
    };
    // SAFETY: plain integers.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    // SAFETY: plain integers.
    if copy < 0 || unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(failed("the control connection")(io::Error::last_os_error()));
    }
    // SAFETY: the kernel has just given us this descriptor alone.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(copy) }))
}
