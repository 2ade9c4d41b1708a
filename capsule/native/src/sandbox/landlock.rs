//! Landlock: what the process tree may do below which directories, enforced by the kernel whatever the view is.
//!
//! The newest interface the kernel offers is used and its version is reported; rights an older kernel does not
//! know are simply not available to be handled, and the report says which version held. It cannot take away
//! from within a granted directory: that is the monitor's work.

use super::system::{self, check};
use super::{Fault, at, raw};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_BLOCK: u64 = 1 << 11;
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;
const IOCTL_DEV: u64 = 1 << 15;
/// Every right of the first version: bits 0 to 12.
const FIRST_VERSION: u64 = (1 << 13) - 1;
/// The rights a rule on a file, not a directory, may carry.
const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

const SCOPE_ABSTRACT_UNIX_SOCKET: u64 = 1;
const SCOPE_SIGNAL: u64 = 2;

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: u32 = 1;

#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// What may be done below a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Read files, list directories.
    pub read: bool,
    /// Also create, change, rename, remove; not device files.
    pub write: bool,
    /// Execute files.
    pub execute: bool,
    /// Device-specific commands on device files.
    pub devices: bool,
    /// List directories only.
    pub list: bool,
}

/// One rule: a path without symbolic links and what may be done below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Absolute.
    pub path: PathBuf,
    /// What.
    pub rights: Rights,
    /// Whether its absence is no fault.
    pub optional: bool,
}

impl Rights {
    /// Whether all of these are among `others`.
    #[must_use]
    pub fn within(self, others: Rights) -> bool {
        self.bits() & !others.bits() == 0
    }

    /// These and `others`.
    #[must_use]
    pub fn and(self, others: Rights) -> Rights {
        Rights {
            read: self.read || others.read,
            write: self.write || others.write,
            execute: self.execute || others.execute,
            devices: self.devices || others.devices,
            list: self.list || others.list,
        }
    }

    /// As the kernel numbers them.
    #[must_use]
    pub fn bits(self) -> u64 {
        let mut bits = 0;
        if self.read || self.write {
            bits |= READ_FILE | READ_DIR;
        }
        if self.write {
            bits |= (FIRST_VERSION & !(EXECUTE | MAKE_CHAR | MAKE_BLOCK)) | REFER | TRUNCATE;
        }
        if self.execute {
            // The kernel opens a program for reading when it executes it, and asks for both rights.
            bits |= EXECUTE | READ_FILE;
        }
        if self.devices {
            bits |= IOCTL_DEV;
        }
        if self.list {
            bits |= READ_DIR;
        }
        bits
    }
}

/// The version of Landlock in this kernel; 0 where there is none.
#[must_use]
pub fn version() -> u32 {
    // SAFETY: a null pointer and size 0 with this flag ask for the version only.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<RulesetAttr>(),
            0usize,
            CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(result).unwrap_or(0)
}

/// Every right that `version` can refuse.
fn handled(version: u32) -> u64 {
    let mut bits = FIRST_VERSION;
    for (since, right) in [(2, REFER), (3, TRUNCATE), (5, IOCTL_DEV)] {
        if version >= since {
            bits |= right;
        }
    }
    bits
}

/// A ruleset made of `rules`, ready to be applied.
///
/// # Errors
/// A path that cannot be opened, or a kernel without Landlock.
pub fn ruleset(version: u32, rules: &[Rule]) -> Result<OwnedFd, Fault> {
    let handled = handled(version);
    let scoped = if version >= 6 {
        SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL
    } else {
        0
    };
    let attributes = RulesetAttr {
        handled_access_fs: handled,
        handled_access_net: 0,
        scoped,
    };
    // An older kernel refuses the longer structure unless the rest is zero; say the size it knows.
    let size = if version >= 6 {
        size_of::<RulesetAttr>()
    } else {
        size_of::<u64>()
    };
    // SAFETY: the structure outlives the call and is at least of the size given.
    let raw = check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const attributes,
            size,
            0u32,
        )
    })
    .map_err(at("landlock: make a ruleset"))?;
    // SAFETY: the call succeeded and returned a new descriptor that nothing else owns.
    let ruleset = unsafe { OwnedFd::from_raw_fd(raw as i32) };
    for rule in rules {
        add(&ruleset, handled, rule)?;
    }
    Ok(ruleset)
}

fn add(ruleset: &OwnedFd, handled: u64, rule: &Rule) -> Result<(), Fault> {
    let told =
        |error: io::Error| Fault::new(format!("landlock: allow {}", rule.path.display()), error);
    let place = match system::c_path(&rule.path).and_then(|path| system::resolve(&path)) {
        Ok(place) => place,
        // Covered by something else in the view, or gone: nothing to allow.
        Err(error) if error.kind() == io::ErrorKind::NotFound && rule.optional => return Ok(()),
        Err(error) => return Err(told(error)),
    };
    let bits = rule.rights.bits() & handled;
    match allow(ruleset, &place, bits) {
        // Not a directory: what only directories can be asked for says nothing about it.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            allow(ruleset, &place, bits & OF_FILES)
        }
        other => other,
    }
    .map_err(told)
}

fn allow(ruleset: &OwnedFd, place: &OwnedFd, bits: u64) -> io::Result<()> {
    if bits == 0 {
        return Ok(());
    }
    let attributes = PathBeneathAttr {
        allowed_access: bits,
        parent_fd: place.as_raw_fd(),
    };
    // SAFETY: the structure outlives the call; its type is the one the rule type asks for.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            RULE_PATH_BENEATH,
            &raw const attributes,
            0u32,
        )
    })
    .map(drop)
}

/// Put this thread and all its future children under `ruleset`, on top of what already holds.
///
/// # Errors
/// `EPERM` without `no_new_privs`; `E2BIG` above 16 layers.
pub fn restrict(ruleset: &OwnedFd) -> io::Result<()> {
    let arguments = [raw::int(ruleset.as_raw_fd()), 0, 0, 0, 0, 0];
    // SAFETY: plain integers.
    raw::check(unsafe { raw::call(libc::SYS_landlock_restrict_self, arguments) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_implies_reading_but_never_executing_or_making_devices() {
        let bits = Rights {
            write: true,
            ..Rights::default()
        }
        .bits();
        assert_eq!(
            bits & (READ_FILE | READ_DIR | WRITE_FILE | REFER | TRUNCATE),
            bits & !0x1ff1 | READ_FILE | READ_DIR | WRITE_FILE
        );
        assert_eq!(bits & (EXECUTE | MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV), 0);
        assert_eq!(
            Rights {
                execute: true,
                ..Rights::default()
            }
            .bits(),
            EXECUTE | READ_FILE
        );
        assert_eq!(Rights::default().bits(), 0);
        let of = |read, list| Rights {
            read,
            list,
            ..Rights::default()
        };
        assert!(
            of(false, true).within(of(true, false)) && !of(true, false).within(of(false, true))
        );
        assert_eq!(of(true, false).and(of(false, true)), of(true, true));
    }

    #[test]
    fn each_version_handles_what_it_knows() {
        assert_eq!(handled(1), FIRST_VERSION);
        assert_eq!(handled(2), FIRST_VERSION | REFER);
        assert_eq!(handled(4), FIRST_VERSION | REFER | TRUNCATE);
        assert_eq!(handled(7), FIRST_VERSION | REFER | TRUNCATE | IOCTL_DEV);
    }
}
