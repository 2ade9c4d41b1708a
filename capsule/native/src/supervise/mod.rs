//! The supervisor: one run from its start record to its end record.
//!
//! It holds the log and its key, the terminal, the clock and the kill switch, and stays outside the sandbox. What it
//! refuses: running anything before the start is on the log; parsing what the command wrote; going on when a needed
//! layer is missing, when the log cannot be written, or when the monitor says something it does not understand.

pub mod asked;
mod begun;
pub mod cgroup;
pub mod control;
pub mod course;
pub mod delegation;
pub mod dial;
pub mod egress;
pub mod environment;
pub mod excess;
pub mod git;
mod guard;
mod identity;
pub mod job_control;
pub mod journal;
pub mod kernel_file;
pub mod launch;
pub mod ledger;
pub mod listening;
pub mod observation;
pub mod overlay;
pub mod places;
pub mod programs;
pub mod pump;
pub mod raw_mode;
pub mod recorder;
pub mod refused;
pub mod relay;
pub mod report;
pub mod secrets;
pub mod signals;
pub mod specify;
pub mod standing;
pub mod streams;
pub mod tier;
pub mod unstarted;
pub mod usage;

use crate::plan::{Audit, Require};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;

/// What was asked for on the command line.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// A policy file or the name of a preset.
    pub policy: Option<OsString>,
    /// The overrides of one tool.
    pub tool: Option<String>,
    /// The log; `capsule.log` in the working directory otherwise.
    pub log: Option<PathBuf>,
    /// Wall time in milliseconds; the smaller of this and the plan's holds.
    pub timeout_ms: Option<u64>,
    /// Values for the command's environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Layers the user is willing to do without.
    pub waived: BTreeSet<Require>,
    /// More audit than the plan asks for.
    pub audit: Option<Audit>,
    /// Count what the command uses.
    pub observe: bool,
    /// Keep what is written apart, to be reviewed.
    pub overlay: bool,
    /// The connection of a program that drives this run and ends with it.
    pub control: Option<RawFd>,
    /// Whether the command is a worker that the program speaks to.
    pub worker: bool,
    /// Directories that may be read and executed from beyond the policy.
    pub read: Vec<String>,
    /// Programs that may be executed beyond those that the policy names.
    pub programs: Vec<String>,
    /// Descriptors that the command inherits beside its streams, at the same numbers.
    pub passed: Vec<RawFd>,
    /// The command.
    pub command: Vec<OsString>,
}
