//! Who this machine is: random numbers, name and clock, given by the host before anything runs, and again after a restore.
//!
//! Refuses to go on when one of them cannot be set: clones would share their random state, or their name. Outside of a
//! machine (`serve`) nothing is set: name and clock are another's.

use std::fs;
use std::path::Path;

use crate::message::unbase64;
use crate::{sys, trust};

/// What is said of this machine in `hello` and `ready`.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct Facts {
    pub boot_id: String,
    pub kernel: String,
}

/// Reads what there is to say.
pub fn facts() -> Facts {
    let line = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .chars()
            .take(200)
            .collect()
    };
    Facts {
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        kernel: line("/proc/sys/kernel/osrelease"),
    }
}

/// Puts an identity in force.
pub fn apply(
    entropy: &str,
    hostname: &str,
    wall_clock_ns: i64,
    authority: Option<&str>,
) -> Result<(), String> {
    let entropy = unbase64(entropy).ok_or("the entropy is not base64")?;
    sys::add_entropy(&entropy)
        .map_err(|error| format!("the random numbers could not be seeded: {error}"))?;
    sys::set_host_name(hostname)
        .map_err(|error| format!("the host name could not be set: {error}"))?;
    sys::set_clock(wall_clock_ns)
        .map_err(|error| format!("the clock could not be set: {error}"))?;
    if let Some(authority) = authority {
        trust::install(Path::new("/"), authority)
            .map_err(|error| format!("the authority could not be put in place: {error}"))?;
    }
    Ok(())
}
