//! How many entries a run may have of one kind: a command that is refused ever new names must not grow the log with them.
//!
//! The first [`MOST`] of a kind are entries of their own. What follows is counted, and told in `gap` entries: when the
//! count has doubled, and at the end. So nothing is silent, and the log grows with the logarithm of the zeal.
//!
//! 5000 refused opens of different names under one line → 512 `denied`, and gaps of 1, 2, 4 … 2048, and of the rest

use crate::audit::Stamp;
use std::collections::BTreeMap;

/// Entries of one kind in one run.
pub const MOST: u64 = 512;
/// Kinds that are told apart; what is of another counts as one.
const MOST_KINDS: usize = 1024;

/// What was listed and counted so far.
#[derive(Debug, Default)]
pub struct Excess(BTreeMap<String, Kind>);

#[derive(Debug)]
struct Kind {
    listed: u64,
    counted: u64,
    due: u64,
    since: Stamp,
}

/// Events that are not listed.
#[derive(Debug, PartialEq, Eq)]
pub struct Gap {
    /// Of which kind.
    pub kind: String,
    /// When the first happened.
    pub from: Stamp,
    /// How many.
    pub lost: u64,
}

/// What becomes of an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// An entry of its own.
    Listed,
    /// Counted, with this gap to be told now.
    Counted(Option<Gap>),
}

impl Excess {
    /// One more entry of a kind, for `count` events at `stamp`.
    pub fn place(&mut self, kind: &str, count: u64, stamp: Stamp) -> Place {
        let known = self.0.contains_key(kind) || self.0.len() < MOST_KINDS;
        let kind = if known { kind } else { "any other" };
        let seen = self.0.entry(kind.to_owned()).or_insert(Kind {
            listed: 0,
            counted: 0,
            due: 1,
            since: stamp,
        });
        if seen.listed < MOST {
            seen.listed += 1;
            return Place::Listed;
        }
        if seen.counted == 0 {
            seen.since = stamp;
        }
        seen.counted = seen.counted.saturating_add(count);
        if seen.counted < seen.due {
            return Place::Counted(None);
        }
        seen.due = seen.due.saturating_mul(2);
        Place::Counted(Some(Gap {
            kind: kind.to_owned(),
            from: seen.since,
            lost: std::mem::take(&mut seen.counted),
        }))
    }

    /// What is counted and not yet told.
    pub fn rest(&mut self) -> Vec<Gap> {
        let counted = self.0.iter_mut().filter(|(_, seen)| seen.counted > 0);
        counted
            .map(|(kind, seen)| Gap {
                kind: kind.clone(),
                from: seen.since,
                lost: std::mem::take(&mut seen.counted),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Stamp = Stamp { wall: 5, mono: 5 };

    #[test]
    fn the_first_are_listed_and_the_others_counted_to_the_last() {
        let mut excess = Excess::default();
        let (mut listed, mut gaps, mut lost) = (0, 0, 0);
        for _ in 0..10_000 {
            match excess.place("a", 1, AT) {
                Place::Listed => listed += 1,
                Place::Counted(None) => {}
                Place::Counted(Some(gap)) => {
                    gaps += 1;
                    lost += gap.lost;
                }
            }
        }
        lost += excess.rest().iter().map(|gap| gap.lost).sum::<u64>();
        assert_eq!((listed, listed + lost), (MOST, 10_000));
        assert!(gaps <= 14, "{gaps}");
        assert!(excess.rest().is_empty());
        assert_eq!(excess.place("b", 1, AT), Place::Listed);
    }

    #[test]
    fn kinds_themselves_are_bounded() {
        let mut excess = Excess::default();
        for n in 0..5000 {
            excess.place(&n.to_string(), 1, AT);
        }
        assert!(excess.0.len() <= MOST_KINDS + 1);
    }
}
