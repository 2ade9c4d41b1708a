//! What one run did and was refused, counted for its report.
//!
//! It refuses to grow with the command's zeal: refusals of one kind are one line with a count, and the list ends at
//! [`MOST_DENIALS`]; the totals go on.

use super::report::{Denial, MOST_DENIALS};
use crate::audit::{Stamp, clock};
use crate::monitor::wire::{self, Event, Operation};

/// Counts and denials of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    /// At most [`MOST_DENIALS`].
    pub denials: Vec<Denial>,
    /// All of them.
    pub denials_total: u64,
    /// Programs started.
    pub executed: u64,
    /// Files written, where the audit level counts them.
    pub written: u64,
}

impl Ledger {
    /// Count one event that happened at `stamp`.
    pub fn count(&mut self, event: &Event, stamp: Stamp) {
        match event {
            Event::Exec { .. } => self.executed += 1,
            Event::File { operation, .. } if *operation != Operation::Read => self.written += 1,
            Event::Denied { count, denial, .. } => self.deny(*count, denial, stamp),
            _ => {}
        }
    }

    fn deny(&mut self, count: u64, denial: &wire::Denial, stamp: Stamp) {
        self.denials_total = self.denials_total.saturating_add(count);
        let same = self.denials.iter_mut().find(|known| {
            known.operation == denial.operation
                && known.target == denial.target
                && known.syscall == denial.syscall
                && known.program == denial.program
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
