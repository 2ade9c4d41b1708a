//! Calls that change how another process runs: its limits, priority, processors.
//!
//! The kernel asks only whether both belong to one user, and the monitor and the command do. So a process is named
//! here only when it is the command's: neither the monitor itself, nor, where no PID namespace bounds the run, anybody
//! outside of it. What it refuses besides: every form that means all of a user's processes.
//!
//! Answered with "continue": the numbers are in registers, which nobody changes while the call waits, and the monitor's
//! own number is its own for as long as it lives.

use super::broker::{Answer, Broker, Outcome};
use super::caller::Caller;
use super::dispatch::refuse;
use super::errno::Errno;
use super::notified::integer;
use crate::plan::{Condition, Op};

/// `PRIO_USER` and `IOPRIO_WHO_USER`, and their forms for groups.
const PRIO_GROUP: i32 = 1;
const PRIO_USER: i32 = 2;
const IOPRIO_GROUP: i32 = 2;
const IOPRIO_USER: i32 = 3;
/// How far up a process is looked for its ancestors.
const DEEP: usize = 4096;

/// What a call means by its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Process(libc::pid_t),
    Group(libc::pid_t),
    User,
}

/// The calls and when they mean another than their caller: for the filter.
pub fn asked() -> Vec<(&'static str, Vec<Condition>)> {
    // A number's upper half is the command's to choose: with one, the monitor is asked though it means the caller.
    let other = |arg| Condition {
        arg,
        op: Op::Ne,
        value: 0,
        mask: None,
    };
    let mut list = vec![("prlimit64", vec![other(0), other(2)])];
    for name in [
        "sched_setaffinity",
        "sched_setattr",
        "sched_setparam",
        "sched_setscheduler",
    ] {
        list.push((name, vec![other(0)]));
    }
    for (name, all) in [("setpriority", PRIO_USER), ("ioprio_set", IOPRIO_USER)] {
        list.push((name, vec![other(1)]));
        list.push((name, vec![integer(0, all as u64)]));
    }
    list
}

fn target(c: &Caller) -> Target {
    let (which, who) = (c.int(0), c.int(1));
    match i64::from(c.call.number) {
        libc::SYS_setpriority => match which {
            PRIO_USER => Target::User,
            PRIO_GROUP => Target::Group(who),
            _ => Target::Process(who),
        },
        libc::SYS_ioprio_set => match which {
            IOPRIO_USER => Target::User,
            IOPRIO_GROUP => Target::Group(who),
            _ => Target::Process(who),
        },
        _ => Target::Process(which),
    }
}

/// Let the kernel do it, unless it means somebody else's process.
///
/// # Errors
/// `EPERM`, reported; `ESRCH` when there is no such process.
pub fn act(b: &mut Broker, c: &Caller) -> Outcome {
    let ours = match target(c) {
        Target::Process(0) | Target::Group(0) => true,
        Target::Process(pid) if pid == c.call.tid => true,
        Target::Process(pid) => match Process::of(pid) {
            None => return Err(Errno::ESRCH),
            Some(process) => process.is_commands(),
        },
        Target::Group(group) => {
            let own = own();
            // In a PID namespace of our own only the monitor is not the command's; elsewhere a group is not looked
            // for among all processes of the host.
            // SAFETY: plain integers.
            own == 1 && group != own && group != unsafe { libc::getpgrp() }
        }
        Target::User => false,
    };
    if ours {
        Ok(Answer::Continue)
    } else {
        let why = "acts on processes that are not the command's own";
        Err(refuse(b, c, Errno::EPERM, Some(why)))
    }
}

fn own() -> libc::pid_t {
    std::process::id() as libc::pid_t
}

/// A process as the kernel describes it.
struct Process {
    group: libc::pid_t,
    parent: libc::pid_t,
}

impl Process {
    /// Of a process or one of its threads.
    fn of(pid: libc::pid_t) -> Option<Process> {
        let text = std::fs::read(format!("/proc/{pid}/status")).ok()?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let number = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key))
                .and_then(|value| value.trim().parse().ok())
        };
        Some(Process {
            group: number("Tgid:")?,
            parent: number("PPid:")?,
        })
    }

    /// Whether it is beneath the monitor, and not the monitor.
    fn is_commands(&self) -> bool {
        let own = own();
        if self.group == own {
            return false;
        }
        if own == 1 {
            return true;
        }
        let mut above = self.parent;
        for _ in 0..DEEP {
            if above == own {
                return true;
            }
            match Process::of(above) {
                Some(process) if above > 1 => above = process.parent,
                _ => return false,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::notify::Notification;
    use super::*;

    fn caller(number: i64, arguments: [u64; 6]) -> Caller {
        Caller::new(Notification {
            id: 0,
            tid: 9,
            number: number as u32,
            arguments,
        })
    }

    #[test]
    fn the_kernels_reading_of_the_arguments_counts() {
        let of = |number, first: u64, second| target(&caller(number, [first, second, 0, 0, 0, 0]));
        assert_eq!(of(libc::SYS_prlimit64, 1, 7), Target::Process(1));
        assert_eq!(
            of(libc::SYS_prlimit64, 0xffff_ffff_0000_0001, 7),
            Target::Process(1)
        );
        assert_eq!(of(libc::SYS_setpriority, 2, 0), Target::User);
        assert_eq!(of(libc::SYS_setpriority, 1, 4), Target::Group(4));
        assert_eq!(of(libc::SYS_ioprio_set, 1, 4), Target::Process(4));
        assert_eq!(of(libc::SYS_ioprio_set, 2, 4), Target::Group(4));
        assert_eq!(of(libc::SYS_ioprio_set, 3, 0), Target::User);
    }

    #[test]
    fn the_monitor_and_its_parent_are_not_the_commands_and_a_child_is() {
        let of = |pid| Process::of(pid).unwrap().is_commands();
        assert!(!of(own()));
        assert!(!of(std::os::unix::process::parent_id() as libc::pid_t));
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        assert!(of(child.id() as libc::pid_t));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(Process::of(libc::pid_t::MAX).is_none());
    }

    #[test]
    fn only_what_means_another_is_asked_about() {
        let list = asked();
        for (name, arguments, expected) in [
            ("prlimit64", [0u64, 7, 0x1000], false),
            ("prlimit64", [5, 7, 0], false),
            ("prlimit64", [1, 7, 0x1000], true),
            ("setpriority", [0, 0, 5], false),
            ("setpriority", [2, 0, 5], true),
            ("setpriority", [0, 1, 5], true),
            ("ioprio_set", [3, 0, 5], true),
            ("sched_setaffinity", [0, 8, 0x1000], false),
            ("sched_setaffinity", [1, 8, 0x1000], true),
        ] {
            let found = list
                .iter()
                .filter(|(one, _)| *one == name)
                .any(|(_, when)| {
                    when.iter().all(|c| {
                        let argument = arguments[usize::from(c.arg)];
                        match c.op {
                            Op::Ne => argument != c.value,
                            _ => argument & c.mask.unwrap() == c.value,
                        }
                    })
                });
            assert_eq!(found, expected, "{name} {arguments:?}");
        }
    }
}
