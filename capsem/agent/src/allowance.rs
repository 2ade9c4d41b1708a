//! How much may be told in a time: so many a second, and some more at once. Pure: the moment is an argument.
//!
//! Refuses what is over it; nothing is owed later.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use capsem_agent::allowance::Allowance;
//! let now = Instant::now();
//! let mut two = Allowance::new(2, 2, now);
//! assert!(two.take(now) && two.take(now) && !two.take(now));
//! assert!(two.take(now + Duration::from_millis(500)) && !two.take(now + Duration::from_millis(500)));
//! ```

use std::time::{Duration, Instant};

/// What may still be told.
#[derive(Debug)]
pub struct Allowance {
    each: Duration,
    most: u32,
    left: u32,
    counted: Instant,
}

impl Allowance {
    /// `a_second` (from 1), and `at_once` before it begins to count.
    pub fn new(a_second: u32, at_once: u32, now: Instant) -> Self {
        Self {
            each: Duration::from_secs(1) / a_second.max(1),
            most: at_once,
            left: at_once,
            counted: now,
        }
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.counted);
        let earned = passed.as_nanos() / self.each.as_nanos().max(1);
        if earned >= u128::from(self.most) {
            (self.left, self.counted) = (self.most, now);
        } else if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(earned).min(self.most);
            self.counted += self.each * earned;
        }
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_pause_earns_no_more_than_fits() {
        let now = Instant::now();
        let mut some = Allowance::new(1000, 3, now);
        let later = now + Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| some.take(later)).count(), 3);
    }

    #[test]
    fn over_a_time_it_is_what_it_says() {
        let now = Instant::now();
        let mut some = Allowance::new(500, 1000, now);
        let taken = (0..10_000u32)
            .filter(|step| some.take(now + Duration::from_millis(u64::from(*step))))
            .count();
        assert!((5990..=6000).contains(&taken), "{taken}");
    }

    #[test]
    fn a_clock_that_stands_still_earns_nothing() {
        let now = Instant::now();
        let mut one = Allowance::new(1, 1, now + Duration::from_secs(5));
        assert!(one.take(now));
        assert!(!one.take(now));
    }
}
