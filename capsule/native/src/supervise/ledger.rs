//! What one run did and was refused, counted for its report.
//!
//! It refuses to grow with the command's zeal: refusals of one kind are one line with a count, and so are findings of one
//! rule; the lists end at [`MOST_DENIALS`] and [`MOST_FINDINGS`], the totals go on.

use super::refused;
use super::report::{Denial, Finding, MOST_DENIALS, MOST_FINDINGS, MOST_REPOSITORIES};
use crate::audit::{Stamp, clock};
use crate::monitor::wire::{self, Event, Operation};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Counts and denials of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    /// At most [`MOST_DENIALS`].
    pub denials: Vec<Denial>,
    /// All of them.
    pub denials_total: u64,
    /// At most [`MOST_FINDINGS`].
    pub findings: Vec<Finding>,
    /// Programs started.
    pub executed: u64,
    /// Repositories that were made and still are, by their number.
    made: BTreeMap<u64, String>,
    /// Files written, where the audit level counts them.
    pub written: u64,
}

impl Ledger {
    /// Count one event that happened at `stamp`.
    pub fn count(&mut self, event: &Event, stamp: Stamp) {
        match event {
            Event::Exec { .. } => self.executed += 1,
            Event::File { operation, .. } if *operation != Operation::Read => self.written += 1,
            Event::Repository { number, target, .. } => match target {
                Some(name) if self.made.len() < MOST_REPOSITORIES => {
                    self.made.insert(*number, name.clone());
                }
                Some(_) => {}
                None => {
                    self.made.remove(number);
                }
            },
            Event::Denied { count, denial, .. } => self.deny(*count, denial, stamp),
            _ => {}
        }
    }

    /// The repositories that the run made and left, in order of their making.
    #[must_use]
    pub fn repositories(&self) -> Vec<String> {
        self.made.values().cloned().collect()
    }

    /// Count an entry of egress: what it found, or refused; then the refusal as reports have it.
    pub fn crossed(
        &mut self,
        kind: &str,
        fields: &Map<String, Value>,
        stamp: Stamp,
    ) -> Option<Denial> {
        if kind == "egress.finding" {
            self.find(fields, stamp);
            return None;
        }
        let (count, denial) = refused::of(kind, fields)?;
        self.deny(count, &denial, stamp);
        Some(Ledger::denial(count, &denial, stamp))
    }

    fn find(&mut self, fields: &Map<String, Value>, stamp: Stamp) {
        let rule = fields.get("rule");
        let text = |name: &str| {
            let found = rule.and_then(|rule| rule.get(name)).and_then(Value::as_str);
            found.unwrap_or_default().to_owned()
        };
        let number = |value: Option<&Value>| value.and_then(Value::as_u64);
        let (id, file) = (text("id"), text("file"));
        let count = number(fields.get("times")).unwrap_or(1).max(1);
        let same = |known: &&mut Finding| known.id == id && known.file == file;
        if let Some(known) = self.findings.iter_mut().find(same) {
            known.count = known.count.saturating_add(count);
            return;
        }
        if self.findings.len() >= MOST_FINDINGS {
            return;
        }
        self.findings.push(Finding {
            time: String::from_utf8_lossy(&clock::render(stamp.wall)).into_owned(),
            title: text("title"),
            level: text("level"),
            line: number(rule.and_then(|rule| rule.get("line"))).unwrap_or(0),
            count,
            id,
            file,
        });
    }

    fn deny(&mut self, count: u64, denial: &wire::Denial, stamp: Stamp) {
        self.denials_total = self.denials_total.saturating_add(count);
        let same = self.denials.iter_mut().find(|known| {
            known.operation == denial.operation
                && known.target == denial.target
                && known.syscall == denial.syscall
                && known.program == denial.program
                && known.rule == denial.rule
                && known.layer == denial.layer
                && known.errno == denial.errno
        });
        if let Some(known) = same {
            known.count = known.count.saturating_add(count);
            return;
        }
        if self.denials.len() >= MOST_DENIALS {
            return;
        }
        self.denials.push(Ledger::denial(count, denial, stamp));
    }

    /// A refusal as reports have it.
    #[must_use]
    pub fn denial(count: u64, denial: &wire::Denial, stamp: Stamp) -> Denial {
        let denial = denial.clone();
        Denial {
            time: String::from_utf8_lossy(&clock::render(stamp.wall)).into_owned(),
            program: denial.program,
            pid: denial.pid,
            operation: denial.operation,
            syscall: denial.syscall,
            target: denial.target,
            layer: denial.layer,
            errno: denial.errno,
            rule: denial.rule,
            allow: denial.allow,
            count,
            probe: denial.probe,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::wire::Layer;
    use serde_json::json;

    fn denied(target: &str, count: u64) -> Event {
        Event::Denied {
            mono: 0,
            count,
            denial: wire::Denial {
                program: "/bin/cat".into(),
                pid: 2,
                operation: Operation::Read,
                syscall: "openat".into(),
                target: target.into(),
                layer: Layer::Supervisor,
                errno: "EACCES".into(),
                rule: None,
                allow: None,
                probe: false,
            },
        }
    }

    #[test]
    fn a_repository_is_told_by_its_last_name_and_not_when_it_is_gone() {
        let (mut ledger, stamp) = (Ledger::default(), Stamp { wall: 0, mono: 0 });
        for (number, name) in [
            (0, Some("/w/a/.git")),
            (1, Some("/w/b/.git")),
            (0, Some("/w/c/.git")),
            (1, None),
        ] {
            let event = Event::Repository {
                mono: 0,
                pid: 2,
                program: "/bin/git".into(),
                number,
                target: name.map(str::to_owned),
            };
            ledger.count(&event, stamp);
        }
        assert_eq!(ledger.repositories(), ["/w/c/.git"]);
    }

    #[test]
    fn findings_of_one_rule_are_one_line() {
        let (mut ledger, stamp) = (Ledger::default(), Stamp { wall: 0, mono: 0 });
        let found = |id: &str, times: u64| {
            let rule = json!({"id": id, "title": "A thing", "level": "high", "file": "pack:agents/a.yml", "line": 2});
            let Value::Object(fields) = json!({"rule": rule, "events": [], "times": times}) else {
                unreachable!()
            };
            fields
        };
        ledger.crossed("egress.finding", &found("a", 1), stamp);
        ledger.crossed("egress.finding", &found("a", 4), stamp);
        ledger.crossed("egress.http", &found("b", 1), stamp);
        ledger.crossed("egress.finding", &Map::new(), stamp);
        let told: Vec<_> = ledger
            .findings
            .iter()
            .map(|one| (one.id.as_str(), one.count))
            .collect();
        assert_eq!(told, [("a", 5), ("", 1)]);
        assert_eq!(
            (ledger.findings[0].level.as_str(), ledger.findings[0].line),
            ("high", 2)
        );
        for n in 0..200 {
            ledger.crossed("egress.finding", &found(&n.to_string(), 1), stamp);
        }
        assert_eq!(ledger.findings.len(), MOST_FINDINGS);
    }

    #[test]
    fn two_lines_that_refuse_the_same_are_two_lines() {
        let mut ledger = Ledger::default();
        let refused_by = |line| {
            let Event::Denied { mut denial, .. } = denied("/w/x", 1) else {
                panic!("another event");
            };
            denial.rule = Some(wire::RuleLine {
                text: "protect: [\"./x\"]".into(),
                file: "capsule.yaml".into(),
                line,
            });
            Event::Denied {
                mono: 1,
                count: 1,
                denial,
            }
        };
        for line in [3, 4, 3] {
            ledger.count(&refused_by(line), Stamp { wall: 0, mono: 0 });
        }
        let told: Vec<_> = ledger
            .denials
            .iter()
            .map(|denial| (denial.rule.as_ref().map(|rule| rule.line), denial.count))
            .collect();
        assert_eq!(told, [(Some(3), 2), (Some(4), 1)]);
    }

    #[test]
    fn the_same_refusal_is_one_line_and_the_list_ends() {
        let (mut ledger, stamp) = (Ledger::default(), Stamp { wall: 0, mono: 0 });
        ledger.count(&denied("/a", 1), stamp);
        ledger.count(&denied("/a", 4), stamp);
        assert_eq!((ledger.denials.len(), ledger.denials[0].count), (1, 5));
        assert_eq!(ledger.denials[0].time, "1970-01-01T00:00:00.000000Z");
        for n in 0..300 {
            ledger.count(&denied(&format!("/{n}"), 1), stamp);
        }
        assert_eq!(
            (ledger.denials.len(), ledger.denials_total),
            (MOST_DENIALS, 305)
        );
    }
}
