//! The walls of one run: namespaces, view of files, Landlock, seccomp, privileges, limits.
//!
//! [`enter`] starts the process tree for a [`Spec`]; everything in the specification was decided by the supervisor
//! before. What it refuses: to start a command when any layer it was told to set up fails. There is no
//! "best effort": leaving a layer out is a decision of the specification, and is reported.

pub mod attempt;
pub mod bpf;
pub mod brought;
pub mod command;
pub mod conjunction;
pub mod filter;
pub mod init;
pub mod landlock;
mod layout;
pub mod limits;
pub mod messages;
pub mod mounts;
pub mod namespaces;
pub mod network;
pub mod privileges;
pub mod raw;
pub mod syscalls;
pub mod system;
pub mod view;

use std::fmt;
use std::io;

/// A step of the set-up that failed.
#[derive(Debug)]
pub struct Fault {
    /// What was being done, beginning with the layer's name.
    pub doing: String,
    /// Why it failed.
    pub error: io::Error,
}

impl Fault {
    /// A fault while doing `doing`.
    #[must_use]
    pub fn new(doing: impl Into<String>, error: io::Error) -> Fault {
        Fault {
            doing: doing.into(),
            error,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.error)
    }
}

impl std::error::Error for Fault {}

/// For `map_err`: wrap an error of the system with what was being done.
pub fn at(doing: &'static str) -> impl Fn(io::Error) -> Fault {
    move |error| Fault::new(doing, error)
}
