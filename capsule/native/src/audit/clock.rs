//! Time as the log writes it: microseconds of wall clock (UTC) and of time since boot.
//!
//! Refuses years outside 1970–9999. `Stamp { wall: 0, .. }` is written `1970-01-01T00:00:00.000000Z`.

/// When something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Microseconds since 1970-01-01 UTC, from the wall clock.
    pub wall: u64,
    /// Microseconds since boot, suspend included (`CLOCK_BOOTTIME`); never goes back.
    pub mono: u64,
}

impl Stamp {
    /// The clocks' present values.
    pub fn now() -> Stamp {
        Stamp {
            wall: read(libc::CLOCK_REALTIME),
            mono: read(libc::CLOCK_BOOTTIME),
        }
    }
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a valid timespec for the kernel to fill; both clocks exist on every Linux we run on.
    let status = unsafe { libc::clock_gettime(clock, &raw mut time) };
    if status != 0 || time.tv_sec < 0 {
        return 0;
    }
    time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1_000
}

/// Length of every time on the log.
pub const LENGTH: usize = 27;
const DAY: u64 = 86_400;
/// The last moment that can be written: the end of the year 9999.
const LATEST: u64 = 253_402_300_799_999_999;

/// `wall` microseconds since 1970 as `YYYY-MM-DDTHH:MM:SS.ffffffZ`.
pub fn render(wall: u64) -> [u8; LENGTH] {
    let wall = wall.min(LATEST);
    let (seconds, micros) = (wall / 1_000_000, wall % 1_000_000);
    let (year, month, day) = civil(seconds / DAY);
    let of_day = seconds % DAY;
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], of_day / 3600);
    digits(&mut text[14..16], of_day / 60 % 60);
    digits(&mut text[17..19], of_day % 60);
    digits(&mut text[20..26], micros);
    text
}

/// The same as text.
pub fn wall_text(wall: u64) -> String {
    render(wall).into_iter().map(char::from).collect()
}

fn digits(out: &mut [u8], mut number: u64) {
    for place in out.iter_mut().rev() {
        *place = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// The microseconds since 1970 that `text` names; `None` unless it is exactly as [`render`] writes it.
pub fn parse(text: &[u8]) -> Option<u64> {
    if text.len() != LENGTH {
        return None;
    }
    let number = |from: usize, to: usize| {
        text[from..to].iter().try_fold(0u64, |sum, &byte| {
            byte.is_ascii_digit()
                .then(|| sum * 10 + u64::from(byte - b'0'))
        })
    };
    let days = days(number(0, 4)?, number(5, 7)?, number(8, 10)?)?;
    let seconds = days * DAY + number(11, 13)? * 3600 + number(14, 16)? * 60 + number(17, 19)?;
    let wall = seconds * 1_000_000 + number(20, 26)?;
    // Rendering again catches what the arithmetic above would forgive: minute 61, 30 February, other punctuation.
    (render(wall) == text).then_some(wall)
}

/// Year, month and day of a day number (0 = 1970-01-01), by counting 400-year eras from 1 March 0000.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * march_month + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    Some(era * 146_097 + of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_moments() {
        assert_eq!(&render(0), b"1970-01-01T00:00:00.000000Z");
        // date -u -d @951782400 is 2000-02-29
        assert_eq!(&render(951_782_400_000_001), b"2000-02-29T00:00:00.000001Z");
        assert_eq!(&render(u64::MAX), b"9999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "2026-02-30T00:00:00.000000Z",
            "2026-01-01T00:60:00.000000Z",
            "2026-01-01 00:00:00.000000Z",
            "1969-12-31T23:59:59.000000Z",
            "2026-01-01T00:00:00.00000Z",
            "2026-13-01T00:00:00.000000Z",
            "2026-01-01T24:00:00.000000Z",
            "+026-01-01T00:00:00.000000Z",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_time_survives_writing_and_reading(wall in 0..=LATEST) {
            prop_assert_eq!(parse(&render(wall)), Some(wall));
        }
    }
}
