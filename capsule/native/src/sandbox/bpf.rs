//! Classic BPF for seccomp: a decision per system call number, emitted as a balanced range search.
//!
//! Pure. A linear filter of the same rules costs five times more to load; the search tree needs about one
//! comparison per bit (`layout`). It refuses nothing; that a program has no more instructions than the kernel takes is
//! for who asks for it to see.
//!
//! ```
//! use capsule::sandbox::bpf::{Action, Decision, emit};
//! let program = emit(capsule::sandbox::bpf::ARCH, &[(0, Decision::always(Action::Allow))], Action::Errno(1));
//! assert!(program.len() < 12);
//! ```

use super::layout::{Range, lay_out};

/// `AUDIT_ARCH_X86_64` or `AUDIT_ARCH_AARCH64`, whichever this binary is built for.
#[cfg(target_arch = "x86_64")]
pub const ARCH: u32 = 0xc000_003e;
/// `AUDIT_ARCH_X86_64` or `AUDIT_ARCH_AARCH64`, whichever this binary is built for.
#[cfg(target_arch = "aarch64")]
pub const ARCH: u32 = 0xc000_00b7;

/// First number of the x32 ABI; nothing at or above it is a call of ours.
const X32: u32 = 0x4000_0000;

/// One instruction, laid out as `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Jump when true.
    pub jt: u8,
    /// Jump when false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// What happens to a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It runs.
    Allow,
    /// The monitor is asked.
    Notify,
    /// It fails with this `errno`.
    Errno(u16),
    /// The process dies.
    Kill,
}

impl Action {
    /// The value a filter returns.
    #[must_use]
    pub fn code(self) -> u32 {
        match self {
            Action::Allow => 0x7fff_0000,
            Action::Notify => 0x7fc0_0000,
            Action::Errno(number) => 0x0005_0000 | u32::from(number),
            Action::Kill => 0x8000_0000,
        }
    }
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `arg == value`
    Equal,
    /// `arg != value`
    NotEqual,
    /// `arg < value`
    Less,
    /// `arg <= value`
    LessEqual,
    /// `arg > value`
    Greater,
    /// `arg >= value`
    GreaterEqual,
    /// `(arg & mask) == value`
    Masked(u64),
}

/// One test of one 64-bit argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Test {
    /// Argument, 0 to 5.
    pub argument: u8,
    /// How.
    pub comparison: Comparison,
    /// Against what.
    pub value: u64,
}

impl Test {
    /// `(argument & mask) == value`.
    #[must_use]
    pub const fn masked(argument: u8, mask: u64, value: u64) -> Test {
        Test {
            argument,
            comparison: Comparison::Masked(mask),
            value,
        }
    }
}

/// What to do with one system call: the first alternative whose tests all hold, else `otherwise`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Tests (all must hold) and the action then.
    pub alternatives: Vec<(Vec<Test>, Action)>,
    /// When no alternative holds.
    pub otherwise: Action,
}

impl Decision {
    /// The same action whatever the arguments.
    #[must_use]
    pub fn always(action: Action) -> Decision {
        Decision {
            alternatives: Vec::new(),
            otherwise: action,
        }
    }
}

/// The whole filter: `decisions` sorted by number, anything else gets `default`.
///
/// A wrong architecture kills the process; numbers of the x32 ABI fail with `ENOSYS`.
#[must_use]
pub fn emit(arch: u32, decisions: &[(u32, Decision)], default: Action) -> Vec<Instruction> {
    lay_out(arch, &ranges(decisions, default))
}

fn ranges(decisions: &[(u32, Decision)], default: Action) -> Vec<Range<'_>> {
    use std::borrow::Cow;
    let mut ranges: Vec<Range<'_>> = Vec::new();
    fn push<'a>(first: u32, decision: Cow<'a, Decision>, ranges: &mut Vec<Range<'a>>) {
        let same = ranges.last().is_some_and(|last| last.decision == decision);
        if !same {
            ranges.push(Range { first, decision });
        }
    }
    let mut next = 0;
    for (number, decision) in decisions {
        if *number > next {
            push(next, Cow::Owned(Decision::always(default)), &mut ranges);
        }
        push(*number, Cow::Borrowed(decision), &mut ranges);
        next = number + 1;
    }
    push(next, Cow::Owned(Decision::always(default)), &mut ranges);
    push(
        X32,
        Cow::Owned(Decision::always(Action::Errno(libc::ENOSYS as u16))),
        &mut ranges,
    );
    ranges
}

#[cfg(test)]
pub mod interpreter {
    //! A small interpreter of the instructions emitted here, so that filters are tested as the kernel runs them.
    use super::*;

    const LOAD: u16 = 0x20;
    const AND: u16 = 0x54;
    const JUMP: u16 = 0x05;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_GREATER: u16 = 0x25;
    const JUMP_GREATER_EQUAL: u16 = 0x35;
    const RETURN: u16 = 0x06;

    /// Run `program` on one system call.
    pub fn run(program: &[Instruction], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_ne_bytes());
        data.extend(arch.to_ne_bytes());
        data.extend(0u64.to_ne_bytes());
        for argument in arguments {
            data.extend(argument.to_ne_bytes());
        }
        let (mut accumulator, mut at) = (0u32, 0usize);
        for _ in 0..4096 {
            let step = program[at];
            at += 1;
            let condition = match step.code {
                LOAD => {
                    let from = step.k as usize;
                    accumulator = u32::from_ne_bytes(data[from..from + 4].try_into().unwrap());
                    continue;
                }
                AND => {
                    accumulator &= step.k;
                    continue;
                }
                JUMP => {
                    at += step.k as usize;
                    continue;
                }
                RETURN => return step.k,
                JUMP_EQUAL => accumulator == step.k,
                JUMP_GREATER => accumulator > step.k,
                JUMP_GREATER_EQUAL => accumulator >= step.k,
                other => panic!("unknown instruction {other:#x}"),
            };
            at += usize::from(if condition { step.jt } else { step.jf });
        }
        panic!("the program does not end");
    }
}

#[cfg(test)]
mod tests {
    use super::interpreter::run;
    use super::*;
    use proptest::prelude::*;

    fn holds(test: Test, argument: u64) -> bool {
        match test.comparison {
            Comparison::Equal => argument == test.value,
            Comparison::NotEqual => argument != test.value,
            Comparison::Less => argument < test.value,
            Comparison::LessEqual => argument <= test.value,
            Comparison::Greater => argument > test.value,
            Comparison::GreaterEqual => argument >= test.value,
            Comparison::Masked(mask) => argument & mask == test.value,
        }
    }

    fn meaning(decision: &Decision, arguments: [u64; 6]) -> Action {
        decision
            .alternatives
            .iter()
            .find(|(tests, _)| {
                tests
                    .iter()
                    .all(|t| holds(*t, arguments[t.argument as usize]))
            })
            .map_or(decision.otherwise, |(_, action)| *action)
    }

    /// Values near each other and near the word boundary, where comparisons go wrong.
    fn value() -> impl Strategy<Value = u64> {
        prop_oneof![
            0u64..4,
            (0u64..4).prop_map(|n| u64::from(u32::MAX) - 1 + n),
            (0u64..4).prop_map(|n| (7 << 32) + n),
            any::<u64>()
        ]
    }

    fn comparison() -> impl Strategy<Value = Comparison> {
        prop_oneof![
            Just(Comparison::Equal),
            Just(Comparison::NotEqual),
            Just(Comparison::Less),
            Just(Comparison::LessEqual),
            Just(Comparison::Greater),
            Just(Comparison::GreaterEqual),
            value().prop_map(Comparison::Masked),
        ]
    }

    fn test() -> impl Strategy<Value = Test> {
        (0u8..6, comparison(), value()).prop_map(|(argument, comparison, value)| Test {
            argument,
            comparison,
            value,
        })
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            Just(Action::Allow),
            Just(Action::Notify),
            (1u16..200).prop_map(Action::Errno)
        ]
    }

    fn decision() -> impl Strategy<Value = Decision> {
        (
            prop::collection::vec((prop::collection::vec(test(), 0..4), action()), 0..4),
            action(),
        )
            .prop_map(|(alternatives, otherwise)| Decision {
                alternatives,
                otherwise,
            })
    }

    proptest! {
        #[test]
        fn the_program_means_what_the_decisions_say(
            decisions in prop::collection::btree_map(0u32..500, decision(), 0..120),
            numbers in prop::collection::vec(0u32..600, 40),
            arguments in prop::array::uniform6(value()),
        ) {
            let list: Vec<_> = decisions.clone().into_iter().collect();
            let program = emit(ARCH, &list, Action::Errno(1));
            for number in numbers {
                let expected = decisions.get(&number).map_or(Action::Errno(1), |d| meaning(d, arguments));
                prop_assert_eq!(run(&program, ARCH, number, arguments), expected.code());
            }
        }
    }

    #[test]
    fn another_architecture_dies_and_x32_does_not_exist() {
        let program = emit(
            ARCH,
            &[(0, Decision::always(Action::Allow))],
            Action::Notify,
        );
        assert_eq!(run(&program, 0x4000_0003, 0, [0; 6]), Action::Kill.code());
        assert_eq!(
            run(&program, ARCH, X32, [0; 6]),
            Action::Errno(libc::ENOSYS as u16).code()
        );
        assert_eq!(
            run(&program, ARCH, X32 | 2, [0; 6]),
            Action::Errno(libc::ENOSYS as u16).code()
        );
    }

    #[test]
    fn jumps_beyond_their_reach_are_laid_out_in_two_steps() {
        let list: Vec<_> = (0..400)
            .map(|n| (n, Decision::always(Action::Errno(n as u16 + 1))))
            .collect();
        let program = emit(ARCH, &list, Action::Allow);
        for n in 0..400 {
            assert_eq!(
                run(&program, ARCH, n, [0; 6]),
                Action::Errno(n as u16 + 1).code()
            );
        }
    }
}
