//! A run's name, and what its start record says of who runs it and where.
//!
//! It refuses to run under a name that another run could have: without randomness there is none.

use super::launch::failed;
use super::report::Exit;
use crate::audit::Value;
use crate::sandbox::namespaces;
use std::io;

/// A name nobody else's run has.
pub fn name() -> Result<String, Exit> {
    let mut random = [0u8; 8];
    // SAFETY: the place has the length given.
    let filled = unsafe { libc::getrandom(random.as_mut_ptr().cast(), random.len(), 0) };
    if filled != random.len() as isize {
        return Err(failed("randomness")(io::Error::last_os_error()));
    }
    Ok(random
        .iter()
        .fold("r-".to_owned(), |text, byte| format!("{text}{byte:02x}")))
}

/// The user, as numbers.
pub fn who() -> Value {
    let identity = namespaces::Identity::own();
    Value::map([
        ("uid", Value::from(identity.uid)),
        ("gid", Value::from(identity.gid)),
    ])
}

/// The host, as it calls itself.
pub fn machine() -> Value {
    // SAFETY: all-zero is a valid structure, which the call fills with null-terminated strings.
    let name = unsafe {
        let mut name: libc::utsname = std::mem::zeroed();
        libc::uname(&raw mut name);
        name
    };
    let text = |field: &[libc::c_char]| {
        let bytes: Vec<u8> = field
            .iter()
            .map(|c| *c as u8)
            .take_while(|byte| *byte != 0)
            .collect();
        Value::from_bytes(&bytes)
    };
    Value::map([
        ("name", text(&name.nodename)),
        ("kernel", text(&name.release)),
        ("machine", text(&name.machine)),
    ])
}
