//! The report of one run, as `docs/formats/report.md` describes it.
//!
//! Pure data. It refuses to grow: at most [`MOST_DENIALS`] denials are listed, all are counted.

use crate::log_terminal::{clean, numberless};
use crate::monitor::wire::{Layer, Operation, RuleLine};
use serde::Serialize;
use std::collections::BTreeMap;

/// No report lists more.
pub const MOST_DENIALS: usize = 200;
/// Nor more kinds of findings.
pub const MOST_FINDINGS: usize = 100;

/// Nor more repositories; the monitor lets no run make more at a time.
pub const MOST_REPOSITORIES: usize = 256;

/// Why the run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// By itself.
    Exited,
    /// Of a signal.
    Signalled,
    /// Wall time was up.
    Timeout,
    /// Another limit was reached.
    Limit,
    /// The user's signal.
    Interrupted,
    /// Nothing ran.
    Refused,
    /// There is no such program.
    NotFound,
    /// It cannot be executed.
    NotExecutable,
    /// Capsule's own failure; the command was killed.
    Failed,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exit {
    /// What `capsule run` exits with.
    pub code: u8,
    /// Why.
    pub cause: Cause,
    /// The signal's number, when it died of one.
    pub signal: Option<i32>,
    /// The limit's name, when one was reached.
    pub limit: Option<&'static str>,
    /// In words, for everything that is not the command's own doing.
    pub reason: Option<String>,
}

impl Exit {
    /// From a raw wait status; `bounded` where the run has a bound on processor time.
    #[must_use]
    pub fn from_status(status: i32, bounded: bool) -> Exit {
        if libc::WIFSIGNALED(status) {
            let signal = libc::WTERMSIG(status);
            // A process without a supervisor's reason that ran out of processor time says so itself.
            let limit = (bounded && signal == libc::SIGXCPU).then_some("cpu");
            let cause = if limit.is_some() {
                Cause::Limit
            } else {
                Cause::Signalled
            };
            let code = if limit.is_some() {
                124
            } else {
                128 + signal as u8
            };
            return Exit {
                code,
                cause,
                signal: Some(signal),
                limit,
                reason: limit.map(|name| format!("the limit `{name}` was reached")),
            };
        }
        Exit {
            code: libc::WEXITSTATUS(status) as u8,
            cause: Cause::Exited,
            signal: None,
            limit: None,
            reason: None,
        }
    }

    /// Nothing ran, or capsule failed. The reason is for a person, and goes into the report and onto the log.
    #[must_use]
    pub fn of_capsule(cause: Cause, reason: impl Into<String>) -> Exit {
        let code = match cause {
            Cause::NotFound => 127,
            Cause::NotExecutable => 126,
            Cause::Timeout | Cause::Limit => 124,
            _ => 125,
        };
        Exit {
            code,
            cause,
            signal: None,
            limit: None,
            reason: Some(clean(&numberless(&reason.into()))),
        }
    }

    /// The same with a reason in lines. What is named in it is escaped by whoever names it: none of the lines is a name's.
    #[must_use]
    pub fn in_lines(cause: Cause, reason: &str) -> Exit {
        let lines: Vec<String> = reason
            .lines()
            .map(|line| clean(&numberless(line)))
            .collect();
        Exit {
            reason: Some(lines.join("\n")),
            ..Exit::of_capsule(cause, "")
        }
    }
}

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Denial {
    /// RFC 3339, UTC.
    pub time: String,
    /// Path of the executable that tried.
    pub program: String,
    /// Inside the sandbox.
    pub pid: i32,
    /// What was tried.
    pub operation: Operation,
    /// Name of the system call.
    pub syscall: String,
    /// Path, address or arguments.
    pub target: String,
    /// Which layer refused.
    pub layer: Layer,
    /// As the program saw it.
    pub errno: String,
    /// The policy line that refused.
    pub rule: Option<RuleLine>,
    /// The YAML that would allow it.
    pub allow: Option<String>,
    /// How many times.
    pub count: u64,
    /// The program only learnt that nothing is there: not worth a warning.
    pub probe: bool,
}

/// A rule of detection that fired, or a rule with a level that held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Of the first time; RFC 3339, UTC.
    pub time: String,
    /// The rule's own name.
    pub id: String,
    /// What it means.
    pub title: String,
    /// `informational` to `critical`.
    pub level: String,
    /// Where the rule stands.
    pub file: String,
    /// From 1.
    pub line: u64,
    /// How many times.
    pub count: u64,
}

/// Which policy held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PolicyName {
    /// Its name.
    pub name: String,
    /// Digest over its sources.
    pub digest: String,
    /// The top file, or `preset:NAME`.
    pub file: String,
}

/// What held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Enforced {
    /// `full`, `reduced` or `confined`.
    pub tier: &'static str,
    /// Layer to `enforced`, `unavailable` or `degraded`.
    pub layers: BTreeMap<&'static str, &'static str>,
    /// Version of Landlock; 0 for none.
    pub landlock_abi: u32,
    /// Digest over all that was enforced.
    pub digest: String,
    /// Layers left out at the user's word.
    pub degraded: Vec<&'static str>,
}

/// What it took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Milliseconds.
    pub wall_ms: u64,
    /// Milliseconds of processor time of the whole tree.
    pub cpu_ms: u64,
    /// Of the largest process.
    pub max_rss_bytes: u64,
}

/// Where the run is on the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogPlace {
    /// The file.
    pub path: String,
    /// The log's identity.
    pub id: String,
    /// First entry of this run.
    pub first: u64,
    /// Last entry of this run.
    pub last: u64,
}

/// The whole report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The format's version: 1.
    pub capsule: u8,
    /// The run's name on the log.
    pub run: Option<String>,
    /// Command and arguments.
    pub command: Vec<String>,
    /// Where it started.
    pub cwd: String,
    /// How it ended.
    pub exit: Exit,
    /// Which policy; null when none was found.
    pub policy: Option<PolicyName>,
    /// What held; null when nothing ran.
    pub enforced: Option<Enforced>,
    /// At most [`MOST_DENIALS`].
    pub denials: Vec<Denial>,
    /// All of them.
    pub denials_total: u64,
    /// What detection found, a rule a line; at most [`MOST_FINDINGS`].
    pub findings: Vec<Finding>,
    /// Git repositories that the run made and left: what their hooks and settings name, git runs.
    pub repositories: Vec<String>,
    /// Programs started.
    pub executed: u64,
    /// Files written, where the audit level counts them.
    pub written: u64,
    /// What it took.
    pub usage: Usage,
    /// Where on the log; null when nothing was written.
    pub log: Option<LogPlace>,
    /// What the command used, for `capsule trace`.
    #[serde(skip)]
    pub seen: Option<Seen>,
    /// Something a person should know that is not about this run.
    #[serde(skip)]
    pub notice: Option<String>,
}

/// For `capsule trace`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// What was counted.
    pub observation: super::observation::Observation,
    /// What `./` means.
    pub workspace: String,
    /// What `~/` means.
    pub home: String,
    /// Calls that were allowed and not counted.
    pub implied: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_command() {
        let exit = Exit::from_status(3 << 8, true);
        assert_eq!((exit.code, exit.cause), (3, Cause::Exited));
        let exit = Exit::from_status(libc::SIGSEGV, true);
        assert_eq!(
            (exit.code, exit.cause, exit.signal),
            (139, Cause::Signalled, Some(libc::SIGSEGV))
        );
        let exit = Exit::from_status(libc::SIGXCPU, true);
        assert_eq!(
            (exit.code, exit.cause, exit.limit),
            (124, Cause::Limit, Some("cpu"))
        );
        assert_eq!(
            Exit::from_status(libc::SIGXCPU, false).cause,
            Cause::Signalled
        );
        assert_eq!(exit.reason.as_deref(), Some("the limit `cpu` was reached"));
    }

    #[test]
    fn capsules_own_codes() {
        let code = |cause| Exit::of_capsule(cause, "").code;
        assert_eq!(code(Cause::Refused), 125);
        assert_eq!(code(Cause::Failed), 125);
        assert_eq!(code(Cause::NotExecutable), 126);
        assert_eq!(code(Cause::NotFound), 127);
        assert_eq!(code(Cause::Timeout), 124);
    }
}
