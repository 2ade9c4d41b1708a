//! From what a plan allows to a seccomp filter.
//!
//! Pure. Anything not allowed goes to the monitor, which reports it and answers `EPERM`; without a monitor it fails
//! with `EPERM` at once. Whatever the plan says, some calls are never let through (`io_uring` works around every
//! filter; `clone3` hides its flags behind a pointer) and some only with harmless arguments.
//! It refuses: unknown names, and conditions too many to lay out.

use super::bpf::{self, Action, Comparison, Decision, Instruction, Test};
use super::{conjunction, syscalls};
use std::fmt;

/// The kernel's limit on instructions of one filter.
const MOST_INSTRUCTIONS: usize = 4096;
/// The most conditions of one alternative: keeps every jump within its reach.
const MOST_CONDITIONS: usize = 16;

const EPERM: Action = Action::Errno(libc::EPERM as u16);
const ENOSYS: Action = Action::Errno(libc::ENOSYS as u16);

/// One system call the plan allows, when all of `tests` hold.
#[derive(Clone, Debug)]
pub struct Allowed<'a> {
    /// Its Linux name.
    pub name: &'a str,
    /// All must hold.
    pub tests: Vec<Test>,
}

/// One system call the plan denies with an error of its own.
#[derive(Clone, Debug)]
pub struct Denied<'a> {
    /// Its Linux name.
    pub name: &'a str,
    /// The `errno` the program sees.
    pub errno: u16,
}

/// One allowed system call that the monitor performs or observes, when all of `tests` hold.
#[derive(Clone, Debug)]
pub struct Notified {
    /// Its Linux name.
    pub name: &'static str,
    /// All must hold; empty means always.
    pub tests: Vec<Test>,
}

/// What the filter is made from.
#[derive(Clone, Debug, Default)]
pub struct Wanted<'a> {
    /// From the plan.
    pub allow: Vec<Allowed<'a>>,
    /// From the plan.
    pub deny: Vec<Denied<'a>>,
    /// From the monitor; empty without one.
    pub notify: Vec<Notified>,
    /// Whether a monitor answers.
    pub supervised: bool,
    /// Whether the command may make internet sockets: whoever answers its calls decides where they lead.
    pub internet_sockets: bool,
}

/// Why no filter can be made.
#[derive(Debug, PartialEq, Eq)]
pub enum FilterError {
    /// The plan names a call that does not exist.
    Unknown(String),
    /// More conditions than can be laid out.
    Conditions(String),
    /// More instructions than the kernel takes.
    Size(usize),
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "syscalls: {name:?} is not a system call"),
            Self::Conditions(name) => write!(
                f,
                "syscalls: more than {MOST_CONDITIONS} conditions on {name:?}"
            ),
            Self::Size(size) => write!(
                f,
                "syscalls: a filter of {size} instructions; the kernel takes 4096"
            ),
        }
    }
}

impl std::error::Error for FilterError {}

/// The conditions under which something holds for one call: any of these.
#[derive(Clone, Default)]
struct When<'a> {
    always: bool,
    tests: Vec<&'a [Test]>,
}

impl<'a> When<'a> {
    fn or(&mut self, tests: &'a [Test]) {
        if tests.is_empty() {
            self.always = true;
        } else {
            self.tests.push(tests);
        }
    }

    fn never(&self) -> bool {
        !self.always && self.tests.is_empty()
    }

    fn each(&self) -> impl Iterator<Item = &'a [Test]> + Clone {
        let always: &[&[Test]] = if self.always { &[&[]] } else { &[] };
        self.tests.iter().chain(always).copied()
    }
}

/// One call of the table.
#[derive(Clone, Default)]
struct Call<'a> {
    allowed: When<'a>,
    asked: When<'a>,
}

/// Build the filter.
///
/// # Errors
/// A name or a number of conditions that cannot be expressed.
pub fn build(wanted: &Wanted) -> Result<Vec<Instruction>, FilterError> {
    let row_of =
        |name: &str| syscalls::row(name).ok_or_else(|| FilterError::Unknown(name.to_owned()));
    let refused = if wanted.supervised {
        Action::Notify
    } else {
        EPERM
    };
    let table = syscalls::table();
    let mut calls = vec![Call::default(); table.len()];
    for allowed in &wanted.allow {
        if allowed.tests.len() > MOST_CONDITIONS {
            return Err(FilterError::Conditions(allowed.name.to_owned()));
        }
        calls[row_of(allowed.name)?].allowed.or(&allowed.tests);
    }
    for notified in &wanted.notify {
        if let Some(row) = syscalls::row(notified.name) {
            calls[row].asked.or(&notified.tests);
        }
    }
    let mut decisions: Vec<Option<Decision>> = table
        .iter()
        .zip(&calls)
        .map(|((name, number), call)| {
            let known = number.is_some() && !call.allowed.never();
            known.then(|| allow(name, call, wanted.internet_sockets, refused))
        })
        .collect();
    for denied in &wanted.deny {
        // An error of the policy's choosing cannot be asked for: the monitor always answers `EPERM`.
        let action = if denied.errno == libc::EPERM as u16 {
            refused
        } else {
            Action::Errno(denied.errno)
        };
        decisions[row_of(denied.name)?] = Some(Decision::always(action));
    }
    for name in NEVER {
        if let Some(row) = syscalls::row(name) {
            decisions[row] = Some(Decision::always(ENOSYS));
        }
    }
    if !wanted.supervised {
        // Nobody is there to say so for calls that a libc tries and falls back from.
        for ((_, number), decision) in table.iter().zip(&mut decisions) {
            if number.is_some_and(|number| number >= FIRST_NEW) {
                decision.get_or_insert_with(|| Decision::always(ENOSYS));
            }
        }
    }
    let mut list = Vec::with_capacity(table.len());
    let numbered = table.iter().zip(decisions);
    list.extend(numbered.filter_map(|((_, number), decision)| Some(((*number)?, decision?))));
    list.sort_unstable_by_key(|(number, _)| *number);
    let program = bpf::emit(bpf::ARCH, &list, refused);
    if program.len() > MOST_INSTRUCTIONS {
        Err(FilterError::Size(program.len()))
    } else {
        Ok(program)
    }
}

/// The first number of a call added after the middle of 2020 (`close_range`, Linux 5.9): programs expect `ENOSYS`.
pub const FIRST_NEW: u32 = 436;

/// Never let through: they reach other calls without a filter, or hide their arguments from one.
const NEVER: [&str; 5] = [
    "clone3",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "open_by_handle_at",
];

/// Whether a call that a plan allows is let through only with some arguments.
#[must_use]
pub fn restricted(name: &str, internet_sockets: bool) -> bool {
    harmless(name, internet_sockets).is_some() || NEVER.contains(&name)
}

fn allow(name: &str, call: &Call, internet_sockets: bool, refused: Action) -> Decision {
    let harmless = harmless(name, internet_sockets);
    if call.allowed.always && harmless.is_none() && call.asked.never() {
        return Decision::always(Action::Allow);
    }
    let mut decision = Decision::always(if call.allowed.always && harmless.is_none() {
        Action::Allow
    } else {
        // The monitor has the plan's conditions too: a question is never taken for permission.
        refused
    });
    // A condition beside an unconditional permission narrows nothing.
    let allowed = if call.allowed.always {
        &When {
            always: true,
            tests: Vec::new(),
        }
    } else {
        &call.allowed
    };
    let harmless = harmless.unwrap_or_else(|| vec![Vec::new()]);
    let mut tests = Vec::new();
    for alternative in allowed.each() {
        for extra in &harmless {
            for (asked, action) in call
                .asked
                .each()
                .map(|asked| (asked, Action::Notify))
                .chain([([].as_slice(), Action::Allow)])
            {
                tests.clear();
                tests.extend(alternative.iter().chain(extra).chain(asked).copied());
                add(&mut decision, &tests, action);
            }
        }
    }
    // `always(Allow)` needs no code; an unconditional question makes the rest unreachable.
    if let Some(first) = decision
        .alternatives
        .iter()
        .position(|(tests, _)| tests.is_empty())
    {
        decision.otherwise = decision.alternatives[first].1;
        decision.alternatives.truncate(first);
    }
    decision
}

/// One more alternative, unless nothing passes it or an earlier one takes everything that does.
fn add(decision: &mut Decision, tests: &[Test], action: Action) {
    let Some(tests) = conjunction::reduce(tests) else {
        return;
    };
    let taken =
        |(earlier, _): &(Vec<Test>, Action)| earlier.iter().all(|test| tests.contains(test));
    if !decision.alternatives.iter().any(taken) {
        decision.alternatives.push((tests, action));
    }
}

/// Every flag that makes a namespace (`CLONE_NEW*`); `CLONE_NEWTIME` shares its bit with the exit signal of `clone`.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
const NEW_TIME: u64 = 0x80;

const LOW: u64 = 0xffff_ffff;
/// What a negative 32-bit number has above its other bits once it stands in 64.
const NEGATIVE: u64 = 0xffff_ffff_8000_0000;

const fn equal(argument: u8, value: u64) -> Test {
    Test {
        argument,
        comparison: Comparison::Equal,
        value,
    }
}

const fn differs(argument: u8, value: u64) -> Test {
    Test {
        argument,
        comparison: Comparison::NotEqual,
        value,
    }
}

/// The alternatives under which a call is harmless, whatever the plan says; `None`: always.
fn harmless(name: &str, internet_sockets: bool) -> Option<Vec<Vec<Test>>> {
    // The kernel takes these arguments as 32-bit numbers and ignores the upper half: so must a test that refuses.
    let low_is = |argument, value| Test::masked(argument, LOW, value);
    Some(match name {
        "clone" => vec![vec![Test::masked(0, NEW_NAMESPACES, 0)]],
        "unshare" => vec![vec![Test::masked(0, NEW_NAMESPACES | NEW_TIME, 0)]],
        // TIOCSTI and TIOCLINUX put characters into a terminal as if typed. Only values with a clear upper half
        // pass, so that the kernel's truncation cannot bring one of them back; or those that a program holds as a
        // negative number (`_IOR` and `_IOWR` have the highest bit, and KVM's are asked that way), which are neither.
        "ioctl" => vec![
            vec![
                Test::masked(1, !LOW, 0),
                differs(1, 0x5412),
                differs(1, 0x541c),
            ],
            vec![Test::masked(1, NEGATIVE, NEGATIVE)],
        ],
        // A lease keeps whoever opens the file waiting, on the host too. A clear upper half, as above.
        "fcntl" => vec![vec![
            Test::masked(1, !LOW, 0),
            differs(1, libc::F_SETLEASE as u64),
        ]],
        "personality" => vec![vec![low_is(0, 0)], vec![low_is(0, LOW)]],
        "socket" => sockets(internet_sockets),
        // A datagram socket can name its receiver in `sendmsg`, where no filter sees it.
        "socketpair" => vec![
            vec![equal(0, libc::AF_UNIX as u64), kind(libc::SOCK_STREAM)],
            vec![equal(0, libc::AF_UNIX as u64), kind(libc::SOCK_SEQPACKET)],
        ],
        _ => return None,
    })
}

/// The socket's type without `SOCK_CLOEXEC` and `SOCK_NONBLOCK`.
fn kind(value: i32) -> Test {
    Test::masked(
        1,
        !((libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) as u64),
        value as u64,
    )
}

fn sockets(internet_sockets: bool) -> Vec<Vec<Test>> {
    let mut list = vec![
        vec![equal(0, libc::AF_UNIX as u64), kind(libc::SOCK_STREAM)],
        vec![equal(0, libc::AF_UNIX as u64), kind(libc::SOCK_SEQPACKET)],
    ];
    if internet_sockets {
        for family in [libc::AF_INET, libc::AF_INET6] {
            for (socket, protocol) in [
                (libc::SOCK_STREAM, 0),
                (libc::SOCK_STREAM, libc::IPPROTO_TCP),
                (libc::SOCK_DGRAM, 0),
                (libc::SOCK_DGRAM, libc::IPPROTO_UDP),
            ] {
                list.push(vec![
                    equal(0, family as u64),
                    kind(socket),
                    Test::masked(2, LOW, protocol as u64),
                ]);
            }
        }
        // Names of interfaces: `getifaddrs` and `getaddrinfo` ask for them.
        for socket in [libc::SOCK_RAW, libc::SOCK_DGRAM] {
            list.push(vec![
                equal(0, libc::AF_NETLINK as u64),
                kind(socket),
                Test::masked(2, LOW, 0),
            ]);
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::super::bpf::interpreter::run;
    use super::*;

    fn wanted<'a>(names: &[&'a str]) -> Wanted<'a> {
        Wanted {
            allow: names
                .iter()
                .map(|n| Allowed {
                    name: n,
                    tests: vec![],
                })
                .collect(),
            supervised: true,
            internet_sockets: true,
            ..Wanted::default()
        }
    }

    fn answer(wanted: &Wanted, name: &str, arguments: [u64; 6]) -> u32 {
        run(
            &build(wanted).unwrap(),
            bpf::ARCH,
            syscalls::number(name).unwrap(),
            arguments,
        )
    }

    const ALLOW: u32 = 0x7fff_0000;
    const ASK: u32 = 0x7fc0_0000;

    #[test]
    fn what_is_not_allowed_is_asked_about_or_refused() {
        let mut w = wanted(&["read"]);
        assert_eq!(answer(&w, "read", [0; 6]), ALLOW);
        assert_eq!(answer(&w, "ptrace", [0; 6]), ASK);
        w.supervised = false;
        assert_eq!(answer(&w, "ptrace", [0; 6]), EPERM.code());
        assert_eq!(answer(&w, "faccessat2", [0; 6]), ENOSYS.code());
    }

    #[test]
    fn namespaces_hide_behind_no_flag() {
        let w = wanted(&["clone", "unshare", "clone3", "io_uring_setup"]);
        assert_eq!(answer(&w, "clone", [0x0120_0011, 0, 0, 0, 0, 0]), ALLOW);
        for bit in [
            0x2_0000,
            0x200_0000,
            0x400_0000,
            0x800_0000,
            0x1000_0000u64,
            0x2000_0000,
            0x4000_0000,
        ] {
            assert_eq!(answer(&w, "clone", [bit | 17, 0, 0, 0, 0, 0]), ASK);
            assert_eq!(answer(&w, "unshare", [bit, 0, 0, 0, 0, 0]), ASK);
        }
        assert_eq!(answer(&w, "unshare", [0x80, 0, 0, 0, 0, 0]), ASK);
        assert_eq!(answer(&w, "unshare", [0x400, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(answer(&w, "clone3", [0; 6]), ENOSYS.code());
        assert_eq!(answer(&w, "io_uring_setup", [0; 6]), ENOSYS.code());
    }

    #[test]
    fn typing_into_the_terminal_is_refused_in_either_half() {
        let w = wanted(&["ioctl"]);
        assert_eq!(answer(&w, "ioctl", [0, 0x5401, 0, 0, 0, 0]), ALLOW);
        for request in [0x5412, 0x541c, 0x1_0000_5412u64, 0xffff_ffff_0000_541c] {
            assert_eq!(
                answer(&w, "ioctl", [0, request, 0, 0, 0, 0]),
                ASK,
                "{request:#x}"
            );
        }
        assert_eq!(
            answer(&w, "ioctl", [0, 0xffff_ffff_c004_ae02, 0, 0, 0, 0]),
            ALLOW,
            "KVM_GET_MSR_INDEX_LIST as QEMU asks it"
        );
    }

    #[test]
    fn a_lease_is_refused_in_either_half() {
        let w = wanted(&["fcntl"]);
        assert_eq!(answer(&w, "fcntl", [3, 1, 0, 0, 0, 0]), ALLOW);
        assert_eq!(answer(&w, "fcntl", [3, 1030, 0, 0, 0, 0]), ALLOW);
        for command in [1024, 1 << 32 | 1024] {
            assert_eq!(answer(&w, "fcntl", [3, command, 1, 0, 0, 0]), ASK);
        }
    }

    #[test]
    fn only_plain_sockets_exist() {
        let mut w = wanted(&["socket", "socketpair"]);
        let cloexec = 0o2_000_000;
        let ask = |w: &Wanted, a, b, c| answer(w, "socket", [a, b, c, 0, 0, 0]);
        assert_eq!(ask(&w, 1, 1 | cloexec, 0), ALLOW);
        assert_eq!(ask(&w, 2, 1 | cloexec | 0o4000, 6), ALLOW);
        assert_eq!(ask(&w, 2, 2, 0), ALLOW);
        assert_eq!(ask(&w, 16, 3, 0), ALLOW);
        for (domain, kind, protocol) in [
            (1, 2, 0),   // a Unix datagram socket
            (2, 1, 262), // multipath TCP
            (2, 3, 1),   // raw
            (16, 3, 12), // netfilter
            (17, 3, 0),  // packets
            (38, 5, 0),  // kernel cryptography
            (40, 1, 0),  // virtual machine sockets
            (2, 1, 1 << 40 | 262),
        ] {
            assert_eq!(
                ask(&w, domain, kind, protocol),
                ASK,
                "{domain} {kind} {protocol}"
            );
        }
        w.internet_sockets = false;
        assert_eq!(ask(&w, 2, 1, 0), ASK);
        assert_eq!(ask(&w, 1, 1, 0), ALLOW);
        assert_eq!(answer(&w, "socketpair", [1, 2, 0, 0, 0, 0]), ASK);
    }

    #[test]
    fn brokered_calls_are_asked_about_only_where_allowed() {
        let mut w = wanted(&["openat"]);
        w.notify = vec![
            Notified {
                name: "openat",
                tests: vec![differs(2, 0)],
            },
            Notified {
                name: "unlinkat",
                tests: vec![],
            },
        ];
        assert_eq!(answer(&w, "openat", [0; 6]), ALLOW);
        assert_eq!(answer(&w, "openat", [0, 0, 1, 0, 0, 0]), ASK);
        w.allow[0].tests = vec![equal(0, 5)];
        assert_eq!(answer(&w, "openat", [5, 0, 1, 0, 0, 0]), ASK);
        assert_eq!(answer(&w, "openat", [5, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(answer(&w, "openat", [6, 0, 1, 0, 0, 0]), ASK);
    }

    #[test]
    fn errors_of_the_policys_choosing_and_unknown_names() {
        let mut w = wanted(&["read"]);
        w.deny = vec![Denied {
            name: "read",
            errno: libc::EIO as u16,
        }];
        assert_eq!(answer(&w, "read", [0; 6]), 0x0005_0000 | libc::EIO as u32);
        w.allow.push(Allowed {
            name: "frobnicate",
            tests: vec![],
        });
        assert_eq!(build(&w), Err(FilterError::Unknown("frobnicate".into())));
        w.allow[1] = Allowed {
            name: "read",
            tests: vec![equal(0, 0); 17],
        };
        assert_eq!(build(&w), Err(FilterError::Conditions("read".into())));
    }

    #[test]
    fn an_ordinary_filter_stays_small() {
        let table = syscalls::table();
        let names: Vec<&str> = table
            .iter()
            .enumerate()
            .filter(|(at, _)| at % 12 != 0)
            .map(|(_, (name, _))| *name)
            .collect();
        let length = build(&wanted(&names)).unwrap().len();
        // Each costs time at every start: what is added here is worth it, or is laid out better.
        assert!(length <= 408, "{length} instructions");
    }
}
