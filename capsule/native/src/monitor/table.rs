//! What the plan says about each system call: its name, when it is allowed, and with what error it is refused.
//!
//! Looked up once per call number and then kept. What it refuses: a call that no alternative of `allow` admits,
//! whatever the filter let through.

use super::errno::Errno;
use super::wire::RuleLine;
use crate::plan::{Condition, Op, Syscalls};

/// The first number of a call added after the middle of 2020 (`close_range`, Linux 5.9): libraries try it, and fall
/// back when it does not exist.
const FIRST_NEW: u32 = 436;

/// Groups of system calls, as the policy compiler reads them: name, kind, error, reason, members.
const GROUPS: &str = include_str!("../../../src/capsule/sandbox/syscall_groups.tsv");

/// The plan's system calls by number.
#[derive(Debug)]
pub struct Table {
    plan: Syscalls,
    name_of: fn(u32) -> Option<&'static str>,
    /// The numbers asked about so far, few, and what is known of each.
    known: (Vec<u32>, Vec<Entry>),
}

#[derive(Debug)]
struct Entry {
    name: Option<&'static str>,
    alternatives: Vec<Vec<Condition>>,
    errno: Errno,
}

/// Why a call is refused, and what would allow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// A line of the policy denies it.
    Line(RuleLine),
    /// Nothing allows it; this would.
    NotAllowed(String),
    /// No policy allows it, or not with these arguments.
    Never(&'static str),
}

impl Table {
    /// From the plan.
    pub fn new(plan: Syscalls, name_of: fn(u32) -> Option<&'static str>) -> Self {
        Self {
            plan,
            name_of,
            known: Default::default(),
        }
    }

    /// The call's name, or its number as text.
    pub fn name(&mut self, number: u32) -> String {
        match self.entry(number).name {
            Some(name) => name.to_owned(),
            None => number.to_string(),
        }
    }

    /// Whether the plan allows it with these arguments.
    pub fn allows(&mut self, number: u32, arguments: &[u64; 6]) -> bool {
        self.entry(number)
            .alternatives
            .iter()
            .any(|all| all.iter().all(|c| holds(c, arguments)))
    }

    /// The error it is refused with.
    pub fn errno(&mut self, number: u32) -> Errno {
        self.entry(number).errno
    }

    /// Why it is refused. Looked up anew each time: most calls never are.
    pub fn why(&mut self, number: u32) -> Why {
        let entry = self.entry(number);
        let (name, other_arguments) = (entry.name, !entry.alternatives.is_empty());
        let denied = name.and_then(|name| self.plan.deny.iter().find(|d| d.name == name));
        match (denied, name.and_then(never), name) {
            (Some(line), ..) => Why::Line(RuleLine {
                text: format!("deny: [{}]", line.name),
                file: line.origin.file.clone(),
                line: line.origin.line,
            }),
            (_, Some(reason), _) => Why::Never(reason),
            (_, _, None) => Why::Never("a system call that is not known here"),
            _ if other_arguments => Why::Never("allowed with other arguments only"),
            (_, _, Some(name)) => Why::NotAllowed(format!("syscalls: allow: [{name}]")),
        }
    }

    fn entry(&mut self, number: u32) -> &Entry {
        let (numbers, entries) = &mut self.known;
        let at = numbers.iter().position(|&known| known == number);
        let at = at.unwrap_or_else(|| {
            numbers.push(number);
            entries.push(look_up(&self.plan, number, (self.name_of)(number)));
            entries.len() - 1
        });
        &entries[at]
    }
}

fn look_up(plan: &Syscalls, number: u32, name: Option<&'static str>) -> Entry {
    let denied = plan.deny.iter().find(|d| Some(d.name.as_str()) == name);
    let allowed = plan
        .allowed()
        .filter(|(allowed, _)| Some(*allowed) == name && denied.is_none());
    let otherwise = if number >= FIRST_NEW {
        Errno::ENOSYS
    } else {
        Errno::EPERM
    };
    Entry {
        name,
        alternatives: allowed.map(|(_, when)| when.to_vec()).collect(),
        errno: denied
            .and_then(|d| Errno::from_name(&d.errno))
            .unwrap_or(otherwise),
    }
}

/// The reason of the group that no policy may allow and this call is in.
fn never(name: &str) -> Option<&'static str> {
    GROUPS.lines().find_map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [_, "never", _, reason, members] = columns[..] else {
            return None;
        };
        members.split(' ').any(|m| m == name).then_some(reason)
    })
}

fn holds(condition: &Condition, arguments: &[u64; 6]) -> bool {
    let Some(&argument) = arguments.get(usize::from(condition.arg)) else {
        return false;
    };
    match condition.op {
        Op::Eq => argument == condition.value,
        Op::Ne => argument != condition.value,
        Op::Lt => argument < condition.value,
        Op::Le => argument <= condition.value,
        Op::Gt => argument > condition.value,
        Op::Ge => argument >= condition.value,
        Op::Mask => condition
            .mask
            .is_some_and(|mask| argument & mask == condition.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Origin, SyscallAllow, SyscallDeny, SyscallGroup};

    fn names(number: u32) -> Option<&'static str> {
        match number {
            1 => Some("one"),
            2 => Some("two"),
            3 => Some("three"),
            500 => Some("new"),
            _ => None,
        }
    }

    fn table() -> Table {
        let origin = || Origin {
            file: "preset:x".into(),
            line: 1,
            column: 1,
        };
        let when = |op, value, mask| {
            vec![Condition {
                arg: 1,
                op,
                value,
                mask,
            }]
        };
        let allow = |when| SyscallAllow {
            name: "one".into(),
            reason: "r".into(),
            origin: origin(),
            when,
        };
        let deny = SyscallDeny {
            name: "two".into(),
            errno: "ENODATA".into(),
            reason: "r".into(),
            origin: origin(),
        };
        let plan = Syscalls {
            groups: vec![SyscallGroup {
                name: "all".into(),
                reason: "r".into(),
                origin: origin(),
                members: vec!["three".into(), "two".into()],
            }],
            allow: vec![
                allow(when(Op::Eq, 5, None)),
                allow(when(Op::Mask, 8, Some(12))),
                SyscallAllow {
                    name: "two".into(),
                    ..allow(vec![])
                },
            ],
            deny: vec![deny],
        };
        Table::new(plan, names)
    }

    #[test]
    fn one_alternative_must_hold_and_a_deny_wins() {
        let mut table = table();
        assert!(table.allows(1, &[0, 5, 0, 0, 0, 0]) && table.allows(1, &[0, 0xb, 0, 0, 0, 0]));
        assert!(!table.allows(1, &[0, 4, 0, 0, 0, 0]) && !table.allows(1, &[5; 6].map(|_| 0)));
        assert!(table.allows(3, &[9; 6]), "by its group");
        assert!(!table.allows(2, &[0; 6]) && !table.allows(4, &[0; 6]));
    }

    #[test]
    fn errors_are_the_plans_then_by_age() {
        let mut table = table();
        assert_eq!(table.errno(2), Errno::ENODATA);
        assert_eq!(
            (table.errno(1), table.errno(500)),
            (Errno::EPERM, Errno::ENOSYS)
        );
        assert_eq!(
            (table.name(1), table.name(9)),
            ("one".to_owned(), "9".to_owned())
        );
    }

    #[test]
    fn a_refusal_says_what_would_allow_it_or_that_nothing_can() {
        let mut table = table();
        assert_eq!(
            table.why(1),
            Why::Never("allowed with other arguments only")
        );
        assert!(matches!(table.why(2), Why::Line(line) if line.text == "deny: [two]"));
        assert_eq!(
            table.why(500),
            Why::NotAllowed("syscalls: allow: [new]".into())
        );
        assert!(matches!(table.why(9), Why::Never(_)));
        assert!(never("mount").is_some() && never("openat").is_none());
    }
}
