//! The plan: what the policy compiler hands to the launcher, re-validated before anything runs.
//!
//! `parse` turns hostile bytes into a [`Plan`] or says which JSON path is wrong and why. [`Variables`] puts the
//! real directories in. [`Access`] answers, for one resolved name and one kind of use, what the plan says.
//! It refuses: unknown, missing or repeated fields, other versions, anything over the limits of
//! `docs/formats/plan.md`, and a name that is not absolute and resolved.
//!
//! ```
//! let bad = capsule::plan::parse(br#"{"plan":2}"#);
//! assert!(bad.is_err_and(|e| e.to_string().contains("plan")));
//! ```

mod accepted;
mod access;
mod cache;
mod check;
mod check_egress;
mod compile;
mod directories;
mod egress;
mod find;
mod kept;
mod load;
mod model;
mod names;
mod pattern;
pub mod presets;
mod read;
mod sources;
mod variables;
mod verdict;

pub use access::{Access, Alias, Extras, Guard, Guarded, Kept, Led, repository_of};
pub use compile::{interpreter, verb};
pub use directories::Directories;
pub use egress::{
    Budget, Carried, Detection, Egress, HostEntry, Inspect, RuleFile, Secret, SecretFrom,
    SecretKind, Unlisted, Upstream,
};
pub use find::{Chosen, FILE, home_directory, working_directory};
pub use kept::{always, named_sources};
pub use load::{LoadError, Loaded, Origination, Request, load};
pub use model::{
    Audit, Condition, Environment, Filesystem, Grant, Limits, Network, NetworkMode, Op, Origin,
    Place, Plan, Policy, Process, Program, Require, Rule, Source, SyscallAllow, SyscallDeny,
    SyscallGroup, Syscalls,
};
pub use pattern::{Glob, GlobError, Pattern, PatternError};
pub use read::{MAX_BYTES, PlanError, parse};
pub use variables::{Start, VariableError, Variables, bracketed};
pub use verdict::{Kind, Refusal, RuleRef, Uses, Verdict, Want};
