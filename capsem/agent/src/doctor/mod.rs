//! `capsem-agent doctor`: what must hold inside a machine, looked at from inside.
//!
//! Each check is named for what must hold and says what was seen. What cannot be looked at by this user is `skipped`, never
//! passed. Inside views are the guest's word: what the host relies on is tested from the host.
//!
//! Example: `capsem-agent doctor --json` prints `{"passed":…,"failed":…,"skipped":…,"checks":[{"group","name","outcome","seen"}]}`.

mod environment;
mod files;
mod isolation;
mod kernel;
mod limits;
mod network;
mod relay;

use std::io::Write;

use serde::Serialize;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It holds.
    Passed,
    /// It does not.
    Failed,
    /// This user cannot see it.
    Skipped,
}

/// One check.
#[derive(Debug, Serialize)]
pub struct Check {
    /// Which part of the machine.
    pub group: &'static str,
    /// What must hold.
    pub name: String,
    /// Whether it does.
    pub outcome: Outcome,
    /// What was seen.
    pub seen: String,
}

/// The checks of one group.
pub(crate) struct Group {
    name: &'static str,
    checks: Vec<Check>,
}

impl Group {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            checks: Vec::new(),
        }
    }

    /// Notes what holds or does not.
    pub(crate) fn check(&mut self, name: impl Into<String>, holds: bool, seen: impl Into<String>) {
        let outcome = if holds {
            Outcome::Passed
        } else {
            Outcome::Failed
        };
        self.note(name, outcome, seen);
    }

    /// Notes what this user cannot see.
    pub(crate) fn skip(&mut self, name: impl Into<String>, why: impl Into<String>) {
        self.note(name, Outcome::Skipped, why);
    }

    fn note(&mut self, name: impl Into<String>, outcome: Outcome, seen: impl Into<String>) {
        let seen: String = seen.into().chars().take(300).collect();
        self.checks.push(Check {
            group: self.name,
            name: name.into(),
            outcome,
            seen,
        });
    }
}

/// Looks at everything.
pub fn examine() -> Vec<Check> {
    type Part = (&'static str, fn(&mut Group));
    let parts: [Part; 10] = [
        ("kernel", kernel::settings),
        ("system calls", kernel::system_calls),
        ("kernel interfaces", kernel::interfaces),
        ("isolation", isolation::examine),
        ("mounts", files::mounts),
        ("files", files::files),
        ("environment", environment::examine),
        ("limits", limits::examine),
        ("network", network::examine),
        ("MCP", relay::examine),
    ];
    let mut checks = Vec::new();
    for (name, part) in parts {
        let mut group = Group::new(name);
        part(&mut group);
        checks.append(&mut group.checks);
    }
    checks
}

/// Prints what was found; whether nothing failed.
pub fn report(json: bool) -> std::io::Result<bool> {
    let checks = examine();
    let count = |outcome| {
        checks
            .iter()
            .filter(|check| check.outcome == outcome)
            .count()
    };
    let (passed, failed, skipped) = (
        count(Outcome::Passed),
        count(Outcome::Failed),
        count(Outcome::Skipped),
    );
    let mut out = std::io::stdout().lock();
    if json {
        let report = serde_json::json!({ "passed": passed, "failed": failed, "skipped": skipped, "checks": checks });
        writeln!(out, "{report}")?;
    } else {
        for check in checks
            .iter()
            .filter(|check| check.outcome != Outcome::Passed)
        {
            let word = if check.outcome == Outcome::Failed {
                "failed "
            } else {
                "skipped"
            };
            writeln!(
                out,
                "{word}  {}: {}  ({})",
                check.group, check.name, check.seen
            )?;
        }
        writeln!(out, "{passed} passed, {failed} failed, {skipped} skipped")?;
    }
    Ok(failed == 0)
}

/// The first line of a file, or why it cannot be read.
pub(crate) fn line(path: &str) -> Result<String, std::io::Error> {
    Ok(std::fs::read_to_string(path)?.trim().to_owned())
}
