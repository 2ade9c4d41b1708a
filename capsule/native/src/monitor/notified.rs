//! Which system calls the monitor answers, under which conditions on their arguments, and why.
//!
//! The launcher turns this list into the `user notification` part of the seccomp filter, before everything the plan
//! allows. What it refuses: a call that the broker performs but the filter would let pass (a test here
//! compares both). Conditions look at the low 32 bits of integer arguments only, as the kernel does: the upper half
//! is the command's to choose.
//!
//! ```
//! use capsule::monitor::notified;
//! use capsule::plan::Audit;
//! assert!(notified(Audit::Run, false).iter().any(|n| n.name == "renameat2" && n.when.is_empty()));
//! ```

use crate::plan::{Audit, Condition, Op};

/// One alternative under which a system call goes to the monitor; several of one name are alternatives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notified {
    /// Its Linux name.
    pub name: &'static str,
    /// Conditions that must all hold; none means always.
    pub when: Vec<Condition>,
    /// Why the monitor must see it.
    pub reason: &'static str,
}

const ACCMODE: u64 = libc::O_ACCMODE as u64;
const INTEGER: u64 = 0xffff_ffff;
/// The bit of `O_TMPFILE` that is not `O_DIRECTORY`.
pub(super) const TMPFILE: u64 = 0o20_000_000;

/// Calls that change a name, a file or its attributes: always performed by the monitor.
const CHANGES: &[(&str, &str)] = &[
    ("creat", "opens for writing by name"),
    ("openat2", "its flags are behind a pointer"),
    ("mkdir", "creates a name"),
    ("mkdirat", "creates a name"),
    ("mknod", "creates a name"),
    ("mknodat", "creates a name"),
    ("rmdir", "removes a name"),
    ("unlink", "removes a name"),
    ("unlinkat", "removes a name"),
    ("rename", "removes one name and creates another"),
    ("renameat", "removes one name and creates another"),
    ("renameat2", "removes one name and creates another"),
    ("link", "gives a file a second name"),
    ("linkat", "gives a file a second name"),
    ("symlink", "creates a name"),
    ("symlinkat", "creates a name"),
    ("truncate", "changes content by name"),
    ("chmod", "changes a mode by name"),
    (
        "fchmod",
        "changes a mode through a descriptor that may be open for reading only",
    ),
    ("fchmodat", "changes a mode by name"),
    ("fchmodat2", "changes a mode by name"),
    ("chown", "changes an owner by name"),
    ("lchown", "changes an owner by name"),
    (
        "fchown",
        "changes an owner through a descriptor that may be open for reading only",
    ),
    ("fchownat", "changes an owner by name"),
    ("utime", "changes times by name"),
    ("utimes", "changes times by name"),
    ("futimesat", "changes times by name"),
    (
        "utimensat",
        "changes times by name or through a descriptor that may be open for reading only",
    ),
    ("setxattr", "changes an attribute by name"),
    ("lsetxattr", "changes an attribute by name"),
    (
        "fsetxattr",
        "changes an attribute through a descriptor that may be open for reading only",
    ),
    ("removexattr", "changes an attribute by name"),
    ("lremovexattr", "changes an attribute by name"),
    (
        "fremovexattr",
        "changes an attribute through a descriptor that may be open for reading only",
    ),
    (
        "setxattrat",
        "changes an attribute by name; answered that it does not exist",
    ),
    (
        "removexattrat",
        "changes an attribute by name; answered that it does not exist",
    ),
    (
        "file_setattr",
        "changes attributes by name; answered that it does not exist",
    ),
    (
        "umask",
        "names are created here, with the mask of whoever asks for them",
    ),
    ("bind", "a Unix address creates a name"),
    (
        "connect",
        "an address is behind a pointer: a host's socket, or the network",
    ),
];

/// The list for one run. `read_denies`: whether the plan denies a name inside a readable directory, so that opening
/// for reading must be decided by name too.
pub fn notified(audit: Audit, read_denies: bool) -> Vec<Notified> {
    let mut list: Vec<Notified> = CHANGES
        .iter()
        .map(|&(name, reason)| Notified {
            name,
            when: Vec::new(),
            reason,
        })
        .collect();
    let every_open = read_denies || audit != Audit::Run;
    for (name, flags) in [("open", 1), ("openat", 2)] {
        if every_open {
            let reason = if read_denies {
                "a name inside a readable directory is denied"
            } else {
                "reads are recorded"
            };
            list.push(Notified {
                name,
                when: Vec::new(),
                reason,
            });
            continue;
        }
        let writing = [(ACCMODE, 1), (ACCMODE, 2), (ACCMODE, 3)];
        let creating = [libc::O_CREAT as u64, libc::O_TRUNC as u64, TMPFILE].map(|bit| (bit, bit));
        for (mask, value) in writing.into_iter().chain(creating) {
            list.push(Notified {
                name,
                when: vec![masked(flags, mask, value)],
                reason: "opens for writing by name",
            });
        }
    }
    for (name, reason) in [
        ("execve", "programs are recorded"),
        ("execveat", "programs are recorded"),
    ] {
        list.push(Notified {
            name,
            when: Vec::new(),
            reason,
        });
    }
    list.push(Notified {
        name: "sendto",
        when: vec![Condition {
            arg: 4,
            op: Op::Ne,
            value: 0,
            mask: None,
        }],
        reason: "a datagram's address is behind a pointer",
    });
    for (name, when) in super::processes::asked() {
        list.push(Notified {
            name,
            when,
            reason: "acts on a process by its number, which may be the monitor's",
        });
    }
    for name in ["socket", "socketpair"] {
        list.push(Notified {
            name,
            when: vec![integer(0, libc::AF_UNIX as u64), masked(1, 0xf, libc::SOCK_DGRAM as u64)],
            reason: "each datagram on it could name another of the host's sockets, unseen (sendmsg)",
        });
    }
    list.push(Notified {
        name: "prctl",
        when: vec![integer(0, libc::PR_SET_DUMPABLE as u64)],
        reason: "a process that cannot be read cannot be served",
    });
    list.push(Notified {
        name: "landlock_create_ruleset",
        when: Vec::new(),
        reason: "the monitor opens files for the command, so a layer of the command's own would promise what it does not hold",
    });
    for request in ATTRIBUTE_REQUESTS {
        list.push(Notified {
            name: "ioctl",
            when: vec![integer(1, request)],
            reason: "changes attributes through a descriptor that may be open for reading only",
        });
    }
    list
}

/// `ioctl` requests that change a file's attributes: `FS_IOC_SETFLAGS`, `FS_IOC_FSSETXATTR`, `FS_IOC_SETVERSION`
/// and the 32-bit forms of the first and the last (linux/fs.h).
pub(super) const ATTRIBUTE_REQUESTS: [u64; 5] = [
    0x4008_6602,
    0x401c_5820,
    0x4008_7602,
    0x4004_6602,
    0x4004_7602,
];

pub(super) fn masked(arg: u8, mask: u64, value: u64) -> Condition {
    Condition {
        arg,
        op: Op::Mask,
        value,
        mask: Some(mask),
    }
}

pub(super) fn integer(arg: u8, value: u64) -> Condition {
    masked(arg, INTEGER, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(list: &[Notified], name: &str, arguments: [u64; 6]) -> bool {
        list.iter().filter(|n| n.name == name).any(|n| {
            n.when.iter().all(|c| {
                let argument = arguments[usize::from(c.arg)];
                match c.op {
                    Op::Mask => argument & c.mask.unwrap() == c.value,
                    Op::Ne => argument != c.value,
                    other => panic!("{other:?} is not used here"),
                }
            })
        })
    }

    #[test]
    fn every_allowed_call_that_changes_by_name_is_decided_here() {
        // What changes only through a descriptor that was opened for writing, and so was decided when it was opened.
        const BY_WRITABLE_DESCRIPTOR: &[&str] = &["fallocate", "ftruncate"];
        let groups = include_str!("../../../src/capsule/sandbox/syscall_groups.tsv");
        let row = groups
            .lines()
            .find(|line| line.starts_with("files-write\t"))
            .unwrap();
        let names: Vec<&str> = row.rsplit('\t').next().unwrap().split(' ').collect();
        let list = notified(Audit::Run, false);
        assert!(names.len() > 30);
        for name in names {
            assert!(
                BY_WRITABLE_DESCRIPTOR.contains(&name) || list.iter().any(|one| one.name == name),
                "{name} would pass unseen"
            );
        }
    }

    #[test]
    fn opening_for_writing_is_notified_and_for_reading_is_not() {
        let list = notified(Audit::Run, false);
        let flags = |f: i32| [0, 0, f as u64, 0, 0, 0];
        for write in [
            libc::O_WRONLY,
            libc::O_RDWR,
            libc::O_ACCMODE,
            libc::O_CREAT,
            libc::O_TRUNC,
            libc::O_TMPFILE,
            libc::O_RDONLY | libc::O_CREAT | libc::O_EXCL,
        ] {
            assert!(holds(&list, "openat", flags(write)), "{write:o}");
        }
        for read in [
            libc::O_RDONLY,
            libc::O_DIRECTORY,
            libc::O_CLOEXEC | libc::O_NONBLOCK,
            libc::O_PATH,
        ] {
            assert!(!holds(&list, "openat", flags(read)), "{read:o}");
        }
        assert!(
            holds(&list, "openat", [0, 0, (7 << 32) | 1, 0, 0, 0]),
            "the upper half of an int is no shelter"
        );
    }

    #[test]
    fn every_open_is_notified_where_reading_is_decided_or_recorded() {
        for list in [
            notified(Audit::Run, true),
            notified(Audit::Writes, false),
            notified(Audit::All, true),
        ] {
            assert!(holds(&list, "open", [0; 6]) && holds(&list, "openat", [0; 6]));
        }
    }

    #[test]
    fn integer_conditions_ignore_the_upper_half() {
        let list = notified(Audit::Run, false);
        assert!(holds(
            &list,
            "prctl",
            [(9 << 32) | libc::PR_SET_DUMPABLE as u64, 0, 0, 0, 0, 0]
        ));
        assert!(holds(
            &list,
            "socket",
            [
                (1 << 40) | 1,
                libc::SOCK_DGRAM as u64 | (1 << 33),
                0,
                0,
                0,
                0
            ]
        ));
        assert!(holds(
            &list,
            "socket",
            [
                1,
                (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as u64,
                0,
                0,
                0,
                0
            ]
        ));
        assert!(!holds(
            &list,
            "socket",
            [1, libc::SOCK_STREAM as u64, 0, 0, 0, 0]
        ));
        assert!(!holds(
            &list,
            "socket",
            [2, libc::SOCK_DGRAM as u64, 0, 0, 0, 0]
        ));
    }

    #[test]
    fn what_is_notified_is_performed_or_answered_as_absent() {
        let performers = include_str!("dispatch.rs");
        for entry in notified(Audit::All, true) {
            let absent = entry.reason.ends_with("answered that it does not exist");
            let performed = performers.contains(&format!("libc::SYS_{}", entry.name));
            assert!(performed != absent, "{}", entry.name);
        }
    }

    #[test]
    fn every_entry_says_why() {
        assert!(
            notified(Audit::All, true)
                .iter()
                .all(|n| !n.reason.is_empty())
        );
    }
}
