//! From ranges of system calls to instructions, laid out from the last one to the first.
//!
//! Pure. Jumps of classic BPF lead forward only, so what lies behind is there before what leads to it: each way that
//! ends the same shares its end, and decisions that are the same are laid out once. The kernel translates every
//! instruction twice at each start. It refuses nothing: what lies beyond the reach of a jump is led to in two steps.

use super::bpf::{Action, Comparison, Decision, Instruction, Test};

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Where the architecture and the number lie in `struct seccomp_data`.
const ARCHITECTURE_AT: u32 = 4;
const NUMBER_AT: u32 = 0;

/// How far a conditional jump reaches.
const REACH: usize = u8::MAX as usize;

/// A run of numbers with one decision: from `first` to before the next range's `first`.
pub(super) struct Range<'a> {
    pub(super) first: u32,
    pub(super) decision: std::borrow::Cow<'a, Decision>,
}

/// The whole filter: `ranges` follow each other from 0 on, and another architecture than `arch` dies.
pub(super) fn lay_out(arch: u32, ranges: &[Range<'_>]) -> Vec<Instruction> {
    let mut layout = Layout::default();
    let root = layout.search(ranges);
    let root = layout.next_to(root);
    layout.push(LOAD, NUMBER_AT);
    let known = layout.code.len() - 1;
    debug_assert_eq!(root + 1, known);
    let dies = layout.push(RETURN, Action::Kill.code());
    layout.branch(JUMP_EQUAL, arch, known, dies);
    layout.push(LOAD, ARCHITECTURE_AT);
    layout.code.reverse();
    layout.code
}

/// What there is of the filter, the last instruction first. A place is an index here; what is pushed next runs before.
#[derive(Default)]
struct Layout<'a> {
    code: Vec<Instruction>,
    /// The nearest place that ends with each action.
    ends: Vec<(Action, usize)>,
    /// Where decisions begin that depend on arguments.
    decisions: Vec<(&'a Decision, usize)>,
}

impl<'a> Layout<'a> {
    fn push(&mut self, code: u16, k: u32) -> usize {
        let (jt, jf) = (0, 0);
        self.code.push(Instruction { code, jt, jf, k });
        self.code.len() - 1
    }

    /// How many instructions lie between the one that is pushed next and `place`.
    fn distance(&self, place: usize) -> usize {
        self.code.len() - place - 1
    }

    /// `place` where it is the next, else a jump to it.
    fn next_to(&mut self, place: usize) -> usize {
        match self.distance(place) {
            0 => place,
            far => self.push(JUMP, far as u32),
        }
    }

    /// `place`, or one that leads there and is still near after `more` instructions.
    fn near(&mut self, place: usize, more: usize) -> usize {
        if self.distance(place) + more <= REACH {
            return place;
        }
        let there = self.code[place];
        if there.code == RETURN {
            return self.push(RETURN, there.k);
        }
        let far = self.distance(place);
        self.push(JUMP, far as u32)
    }

    /// A comparison of what was loaded, and where it leads.
    fn branch(&mut self, code: u16, k: u32, yes: usize, no: usize) -> usize {
        // Leading to one may take an instruction more, which the other then is further away.
        let yes = self.near(yes, 1);
        let no = self.near(no, 0);
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.code.push(Instruction { code, jt, jf, k });
        self.code.len() - 1
    }

    fn end(&mut self, action: Action) -> usize {
        let known = self.ends.iter().position(|(known, _)| *known == action);
        if let Some(at) = known
            && self.distance(self.ends[at].1) < REACH
        {
            return self.ends[at].1;
        }
        let place = self.push(RETURN, action.code());
        match known {
            Some(at) => self.ends[at].1 = place,
            None => self.ends.push((action, place)),
        }
        place
    }

    /// A balanced search: the upper half, the lower half, then the comparison that leads to one of them.
    fn search(&mut self, ranges: &'a [Range<'_>]) -> usize {
        if let [only] = ranges {
            return self.decide(&only.decision);
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let pivot = high[0].first;
        let above = self.search(high);
        let below = self.search(low);
        self.branch(JUMP_GREATER_EQUAL, pivot, above, below)
    }

    fn decide(&mut self, decision: &'a Decision) -> usize {
        if decision.alternatives.is_empty() {
            return self.end(decision.otherwise);
        }
        let known = self.decisions.iter().find(|(known, _)| *known == decision);
        if let Some((_, place)) = known {
            return *place;
        }
        let mut next = self.end(decision.otherwise);
        for (tests, action) in decision.alternatives.iter().rev() {
            let mut place = self.end(*action);
            for test in tests.iter().rev() {
                place = self.test(*test, place, next);
            }
            next = place;
        }
        self.decisions.push((decision, next));
        next
    }

    /// A test of one argument, which leads to `yes` where it holds; each half is a word of its own.
    fn test(&mut self, test: Test, yes: usize, no: usize) -> usize {
        let low_at = 16 + 8 * u32::from(test.argument);
        let high_at = low_at + 4;
        let (low, high) = (test.value as u32, (test.value >> 32) as u32);
        match test.comparison {
            Comparison::Equal => {
                self.branch(JUMP_EQUAL, high, yes, no);
                let same = self.push(LOAD, high_at);
                self.branch(JUMP_EQUAL, low, same, no);
                self.push(LOAD, low_at)
            }
            Comparison::NotEqual => {
                self.branch(JUMP_EQUAL, high, no, yes);
                let same = self.push(LOAD, high_at);
                self.branch(JUMP_EQUAL, low, same, yes);
                self.push(LOAD, low_at)
            }
            Comparison::Masked(mask) => {
                let high_mask = (mask >> 32) as u32;
                let mut then = yes;
                if high_mask != 0 || high != 0 {
                    self.branch(JUMP_EQUAL, high, yes, no);
                    self.push(AND, high_mask);
                    then = self.push(LOAD, high_at);
                }
                self.branch(JUMP_EQUAL, low, then, no);
                self.push(AND, mask as u32);
                self.push(LOAD, low_at)
            }
            Comparison::Greater => self.ordered(JUMP_GREATER, test, yes, no),
            Comparison::GreaterEqual => self.ordered(JUMP_GREATER_EQUAL, test, yes, no),
            // What is not greater is at most as large.
            Comparison::LessEqual => self.ordered(JUMP_GREATER, test, no, yes),
            Comparison::Less => self.ordered(JUMP_GREATER_EQUAL, test, no, yes),
        }
    }

    /// The upper words first; only where they are equal do the lower ones decide, by `last`.
    fn ordered(&mut self, last: u16, test: Test, above: usize, below: usize) -> usize {
        let low_at = 16 + 8 * u32::from(test.argument);
        let (low, high) = (test.value as u32, (test.value >> 32) as u32);
        self.branch(last, low, above, below);
        let same = self.push(LOAD, low_at);
        let not_greater = self.branch(JUMP_EQUAL, high, same, below);
        self.branch(JUMP_GREATER, high, above, not_greater);
        self.push(LOAD, low_at + 4)
    }
}

#[cfg(test)]
mod tests {
    use super::super::bpf::{ARCH, emit};
    use super::*;

    fn asked(value: u64) -> Decision {
        let test = Test {
            argument: 1,
            comparison: Comparison::Equal,
            value,
        };
        Decision {
            alternatives: vec![(vec![test], Action::Notify)],
            otherwise: Action::Allow,
        }
    }

    #[test]
    fn what_ends_alike_shares_its_end() {
        let every_second: Vec<_> = (0..100)
            .map(|n| (2 * n, Decision::always(Action::Allow)))
            .collect();
        let program = emit(ARCH, &every_second, Action::Errno(1));
        let ends = program.iter().filter(|one| one.code == RETURN).count();
        assert!(ends <= 6, "{ends} of {}", program.len());
    }

    #[test]
    fn the_same_decision_is_laid_out_once() {
        let length = |last| {
            let list = [(1, asked(7)), (5, asked(7)), (9, asked(last))];
            emit(ARCH, &list, Action::Errno(1)).len()
        };
        assert_eq!(length(8) - length(7), 4);
    }

    #[test]
    fn every_jump_stays_within_the_program() {
        // Decisions enough that ends and halves lie beyond the reach of one jump, each of a kind of its own.
        let list: Vec<_> = (0..300).map(|n| (n, asked(u64::from(n) << 20))).collect();
        let program = emit(ARCH, &list, Action::Errno(1));
        assert!(program.len() > 4 * REACH);
        for (at, one) in program.iter().enumerate() {
            let furthest = match one.code {
                JUMP => one.k as usize,
                _ => usize::from(one.jt.max(one.jf)),
            };
            assert!(at + furthest < program.len() - usize::from(one.code != RETURN));
        }
    }
}
