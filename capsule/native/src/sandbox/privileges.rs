//! Giving privileges up: `no_new_privs` and capabilities.
//!
//! The monitor keeps one capability of the *sandbox's own* user namespace, `CAP_SYS_PTRACE`: some programs make
//! themselves unreadable (`ssh-agent`, `gpg-agent`), and their arguments could not be copied without it. It reaches
//! only processes of that namespace. The command keeps none.

use super::system::prctl;
use super::{Fault, at, raw};
use std::io;

/// `CAP_SYS_PTRACE` as a bit.
pub const SYS_PTRACE: u32 = 1 << 19;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// Keep only the capabilities in `kept` (of the first 32), now and after any `exec`.
///
/// # Errors
/// As `capset(2)`.
pub fn keep_capabilities(kept: u32) -> io::Result<()> {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let data = [
        Data {
            effective: kept,
            permitted: kept,
            inheritable: 0,
        },
        Data::default(),
    ];
    let places = [
        raw::place(&raw const header),
        raw::place(data.as_ptr()),
        0,
        0,
        0,
        0,
    ];
    // SAFETY: version 3 takes one header and two data structures, which outlive the call.
    raw::check(unsafe { raw::call(libc::SYS_capset, places) }).map(drop)
}

/// Empty the bounding set: a program run as user 0 of the namespace gains nothing by being run.
///
/// # Errors
/// As `prctl(PR_CAPBSET_DROP)`.
pub fn empty_bounding_set() -> Result<(), Fault> {
    for capability in 0..64 {
        match prctl(libc::PR_CAPBSET_DROP, capability) {
            Ok(()) => {}
            // Past the last capability of this kernel.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Ok(()),
            Err(error) => return Err(at("privileges: empty the bounding set")(error)),
        }
    }
    Ok(())
}

/// No `exec` gives privileges, for this process and all its future children.
///
/// # Errors
/// As `prctl(PR_SET_NO_NEW_PRIVS)`.
pub fn no_new_privileges() -> Result<(), Fault> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(at("privileges: no_new_privs"))
}
