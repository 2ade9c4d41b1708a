//! What several tests of one call's arguments come to when all of them must hold.
//!
//! Pure. What a plan asks, what is harmless and what the monitor wants to see are combined each with each; most of the
//! combinations contradict themselves, and every instruction of a filter costs time at each start. Tests are dropped
//! only where another one of the same conjunction implies them.
//!
//! ```
//! use capsule::sandbox::bpf::Test;
//! use capsule::sandbox::conjunction::reduce;
//! let (unix, inet) = (Test::masked(0, u64::MAX, 1), Test::masked(0, u64::MAX, 2));
//! assert!(reduce(&[unix, inet]).is_none());
//! assert_eq!(reduce(&[unix, Test::masked(0, 0xff, 1)]).map(|tests| tests.len()), Some(1));
//! ```

use super::bpf::{Comparison, Test};

/// Bits that are known of an argument.
#[derive(Clone, Copy, Default)]
struct Known {
    mask: u64,
    value: u64,
}

impl Known {
    /// Also these bits; `None` where they contradict.
    fn and(self, mask: u64, value: u64) -> Option<Known> {
        let common = self.mask & mask;
        let sound = value & !mask == 0 && self.value & common == value & common;
        sound.then_some(Known {
            mask: self.mask | mask,
            value: self.value | value,
        })
    }

    fn test(self, argument: u8) -> Test {
        let comparison = match self.mask {
            u64::MAX => Comparison::Equal,
            mask => Comparison::Masked(mask),
        };
        Test {
            argument,
            comparison,
            value: self.value,
        }
    }
}

/// Whether the test says which bits an argument has, and which.
fn bits(test: Test) -> Option<(u64, u64)> {
    match test.comparison {
        Comparison::Equal => Some((u64::MAX, test.value)),
        Comparison::Masked(mask) => Some((mask, test.value)),
        _ => None,
    }
}

/// The answer of a test whose argument has these bits, where they tell.
fn answer(test: Test, known: Known) -> Option<bool> {
    let differs = (test.value ^ known.value) & known.mask != 0;
    if test.comparison == Comparison::NotEqual && differs {
        return Some(true);
    }
    if known.mask != u64::MAX {
        return None;
    }
    let (argument, value) = (known.value, test.value);
    Some(match test.comparison {
        Comparison::Equal => argument == value,
        Comparison::NotEqual => argument != value,
        Comparison::Less => argument < value,
        Comparison::LessEqual => argument <= value,
        Comparison::Greater => argument > value,
        Comparison::GreaterEqual => argument >= value,
        Comparison::Masked(mask) => argument & mask == value,
    })
}

/// As few tests as say the same; `None` when no arguments pass all of them.
#[must_use]
pub fn reduce(tests: &[Test]) -> Option<Vec<Test>> {
    let mut known = [Known::default(); 6];
    for test in tests {
        if let Some((mask, value)) = bits(*test) {
            let of = &mut known[usize::from(test.argument)];
            *of = of.and(mask, value)?;
        }
    }
    let mut reduced: Vec<Test> = (0..)
        .zip(known)
        .filter(|(_, known)| known.mask != 0)
        .map(|(argument, known)| known.test(argument))
        .collect();
    for test in tests {
        if bits(*test).is_some() || reduced.contains(test) {
            continue;
        }
        match answer(*test, known[usize::from(test.argument)]) {
            Some(false) => return None,
            Some(true) => {}
            None => reduced.push(*test),
        }
    }
    Some(reduced)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holds(test: Test, arguments: [u64; 6]) -> bool {
        let known = Known {
            mask: u64::MAX,
            value: arguments[usize::from(test.argument)],
        };
        answer(test, known).unwrap()
    }

    fn test(argument: u8, comparison: Comparison, value: u64) -> Test {
        Test {
            argument,
            comparison,
            value,
        }
    }

    #[test]
    fn contradictions_are_found_and_what_is_implied_is_dropped() {
        use Comparison::{Equal, LessEqual, Masked, NotEqual};
        assert_eq!(reduce(&[]), Some(vec![]));
        assert_eq!(reduce(&[test(0, Equal, 1), test(0, Equal, 2)]), None);
        assert_eq!(
            reduce(&[test(1, Masked(0xf), 2), test(1, Masked(0x3), 1)]),
            None
        );
        assert_eq!(reduce(&[test(0, Equal, 1), test(0, NotEqual, 1)]), None);
        assert_eq!(reduce(&[test(0, Equal, 9), test(0, LessEqual, 8)]), None);
        assert_eq!(reduce(&[test(0, Masked(0xf), 0x10)]), None);
        let halves = [
            test(1, Masked(!0xffff_ffff), 0),
            test(1, Masked(0xffff_ffff), 7),
        ];
        assert_eq!(reduce(&halves), Some(vec![test(1, Equal, 7)]));
        let kept = [
            test(1, Masked(0xf0), 0x10),
            test(1, NotEqual, 0x13),
            test(2, NotEqual, 1),
        ];
        assert_eq!(reduce(&kept), Some(kept.to_vec()));
        let implied = [test(1, Masked(0xf0), 0x10), test(1, NotEqual, 0x23)];
        assert_eq!(reduce(&implied), Some(implied[..1].to_vec()));
    }

    proptest! {
        #[test]
        fn the_same_arguments_pass(
            raw in prop::collection::vec((0u8..2, 0u8..7, 0u64..8, 0u64..8), 0..6),
            arguments in prop::array::uniform6(0u64..8),
        ) {
            let tests: Vec<Test> = raw.into_iter().map(|(argument, which, value, mask)| {
                let comparison = match which {
                    0 => Comparison::Equal,
                    1 => Comparison::NotEqual,
                    2 => Comparison::Less,
                    3 => Comparison::LessEqual,
                    4 => Comparison::Greater,
                    5 => Comparison::GreaterEqual,
                    _ => Comparison::Masked(mask),
                };
                test(argument, comparison, value)
            }).collect();
            let before = tests.iter().all(|test| holds(*test, arguments));
            let after = reduce(&tests).is_some_and(|list| list.iter().all(|test| holds(*test, arguments)));
            prop_assert_eq!(before, after);
        }
    }
}
