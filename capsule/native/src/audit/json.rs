//! The log's dialect of JSON, read strictly: one way to write each value, so that every reader reads the same.
//!
//! Refuses: spaces between tokens, floats and exponents, integers from 2^53 on, `-0`, duplicate names, names
//! with escapes, raw control characters (C0, DEL, C1), lone surrogates, nesting over 8, over 64 members in an object.
//! Takes bytes already known to be UTF-8. `entry(br#"{"seq":0,"time":…,"mono":1,"run":null,"type":"exec"}"#)`.

use super::clock;
use super::value::MAX_INTEGER;

/// How deep values may nest, the entry's own object included.
pub const MAX_DEPTH: usize = 8;
/// How many members an object may have.
pub const MAX_MEMBERS: usize = 64;

/// Where and why a line is not of the dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Byte offset within the line.
    pub at: usize,
    /// What is wrong there.
    pub why: &'static str,
}

/// The parts every entry begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View<'a> {
    /// Its place: the leaf index.
    pub seq: u64,
    /// Microseconds since 1970.
    pub time: &'a [u8],
    /// The run it is about.
    pub run: Option<&'a [u8]>,
    /// Its type.
    pub kind: &'a [u8],
}

/// Checks a whole entry line (without its newline).
///
/// # Errors
/// The first place that is not of the dialect.
pub fn entry(line: &[u8]) -> Result<View<'_>, Fault> {
    let mut reader = Reader { line, at: 0 };
    reader.literal(b"{\"seq\":", "an entry begins with its seq")?;
    let seq = reader.natural()?;
    reader.literal(b",\"time\":\"", "after seq comes time")?;
    let time = reader.take(clock::LENGTH)?;
    if !looks_like_time(time) {
        return Err(Fault {
            at: reader.at - clock::LENGTH,
            why: "not a time",
        });
    }
    reader.literal(b"\",\"mono\":", "after time comes mono")?;
    reader.natural()?;
    reader.literal(b",\"run\":", "after mono comes run")?;
    let run = if reader.peek() == b'n' {
        reader.literal(b"null", "run is null or a run's id")?;
        None
    } else {
        let from = reader.at + 1;
        reader.string()?;
        let run = &line[from..reader.at - 1];
        let sound = run.len() <= 66 && run.starts_with(b"r-") && run.len() > 2;
        if !sound
            || !run
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || *b == b'-' || *b == b'_')
        {
            return Err(Fault {
                at: from,
                why: "run is null or a run's id",
            });
        }
        Some(run)
    };
    reader.literal(b",\"type\":\"", "after run comes type")?;
    let from = reader.at;
    while reader.peek().is_ascii_lowercase()
        || reader.peek().is_ascii_digit()
        || matches!(reader.peek(), b'_' | b'.')
    {
        reader.at += 1;
    }
    let kind = &line[from..reader.at];
    if kind.is_empty() || kind.len() > 64 || !kind[0].is_ascii_lowercase() {
        return Err(Fault {
            at: from,
            why: "not a type",
        });
    }
    reader.literal(b"\"", "not a type")?;
    let mut names: [&[u8]; MAX_MEMBERS] = [b""; MAX_MEMBERS];
    names[..5].copy_from_slice(&[b"seq", b"time", b"mono", b"run", b"type"]);
    reader.members(&mut names, 5, 1)?;
    if reader.at != line.len() {
        return Err(reader.fault("something follows the entry"));
    }
    Ok(View {
        seq,
        time,
        run,
        kind,
    })
}

/// Whether the digits and punctuation of a time are where they belong and no part is out of its range.
fn looks_like_time(text: &[u8]) -> bool {
    const SHAPE: &[u8; clock::LENGTH] = b"0000-00-00T00:00:00.000000Z";
    let shaped = text.iter().zip(SHAPE).all(|(byte, shape)| {
        if *shape == b'0' {
            byte.is_ascii_digit()
        } else {
            byte == shape
        }
    });
    let pair = |at: usize| (text[at] - b'0') * 10 + text[at + 1] - b'0';
    shaped
        && text >= b"1970"
        && (1..=12).contains(&pair(5))
        && (1..=31).contains(&pair(8))
        && pair(11) < 24
        && pair(14) < 60
        && pair(17) < 60
}

struct Reader<'a> {
    line: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn fault(&self, why: &'static str) -> Fault {
        Fault { at: self.at, why }
    }

    /// The byte here, or NUL (which no token begins with) at the end.
    fn peek(&self) -> u8 {
        self.line.get(self.at).copied().unwrap_or(0)
    }

    fn literal(&mut self, text: &[u8], why: &'static str) -> Result<(), Fault> {
        if self
            .line
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(text))
        {
            self.at += text.len();
            return Ok(());
        }
        Err(self.fault(why))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let taken = self
            .line
            .get(self.at..self.at + count)
            .ok_or(self.fault("the line ends early"))?;
        self.at += count;
        Ok(taken)
    }

    fn natural(&mut self) -> Result<u64, Fault> {
        let (from, mut number) = (self.at, 0u64);
        while self.peek().is_ascii_digit() {
            number = number
                .saturating_mul(10)
                .saturating_add(u64::from(self.peek() - b'0'));
            self.at += 1;
        }
        let digits = &self.line[from..self.at];
        if digits.is_empty() || (digits.len() > 1 && digits[0] == b'0') {
            return Err(Fault {
                at: from,
                why: "not an integer",
            });
        }
        if number > MAX_INTEGER.unsigned_abs() {
            return Err(Fault {
                at: from,
                why: "an integer from 2^53 on",
            });
        }
        Ok(number)
    }

    fn value(&mut self, depth: usize) -> Result<(), Fault> {
        match self.peek() {
            b'"' => self.string(),
            b'{' => {
                self.deeper(depth)?;
                self.at += 1;
                if self.peek() == b'}' {
                    self.at += 1;
                    return Ok(());
                }
                let mut names: [&[u8]; MAX_MEMBERS] = [b""; MAX_MEMBERS];
                names[0] = self.member(depth + 1)?;
                self.members(&mut names, 1, depth + 1)
            }
            b'[' => {
                self.deeper(depth)?;
                self.at += 1;
                if self.peek() == b']' {
                    self.at += 1;
                    return Ok(());
                }
                loop {
                    self.value(depth + 1)?;
                    match self.peek() {
                        b',' => self.at += 1,
                        b']' => {
                            self.at += 1;
                            return Ok(());
                        }
                        _ => return Err(self.fault("a list goes on with a comma or ends")),
                    }
                }
            }
            b't' => self.literal(b"true", "not a value"),
            b'f' => self.literal(b"false", "not a value"),
            b'n' => self.literal(b"null", "not a value"),
            b'-' => {
                self.at += 1;
                if self.peek() == b'0' {
                    return Err(self.fault("minus zero"));
                }
                self.natural().map(drop)
            }
            b'0'..=b'9' => self.natural().map(drop),
            _ => Err(self.fault("not a value")),
        }
    }

    fn deeper(&self, depth: usize) -> Result<(), Fault> {
        if depth >= MAX_DEPTH {
            Err(self.fault("nested too deep"))
        } else {
            Ok(())
        }
    }

    /// The members of an object after its first `count`, to its closing brace.
    fn members(
        &mut self,
        names: &mut [&'a [u8]; MAX_MEMBERS],
        mut count: usize,
        depth: usize,
    ) -> Result<(), Fault> {
        loop {
            match self.peek() {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.fault("an object goes on with a comma or ends")),
            }
            let at = self.at;
            let name = self.member(depth)?;
            if names[..count].contains(&name) {
                return Err(Fault {
                    at,
                    why: "a name appears twice",
                });
            }
            *names.get_mut(count).ok_or(Fault {
                at,
                why: "too many members",
            })? = name;
            count += 1;
        }
    }

    fn member(&mut self, depth: usize) -> Result<&'a [u8], Fault> {
        self.literal(b"\"", "not a name")?;
        let from = self.at;
        while plain_name_byte(self.peek()) {
            self.at += 1;
        }
        let name = &self.line[from..self.at];
        if name.is_empty() || name.len() > 64 {
            return Err(self.fault("not a name"));
        }
        self.literal(b"\":", "not a name")?;
        self.value(depth)?;
        Ok(name)
    }

    fn string(&mut self) -> Result<(), Fault> {
        self.literal(b"\"", "not a string")?;
        loop {
            let rest = &self.line[self.at..];
            let Some(plain) = rest.iter().position(|byte| SPECIAL[usize::from(*byte)]) else {
                self.at = self.line.len();
                return Err(self.fault("a string does not end"));
            };
            self.at += plain;
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Ok(());
                }
                b'\\' => self.escape()?,
                // The first byte of U+0080 to U+00BF; below U+00A0 they are control characters.
                0xC2 if self.line.get(self.at + 1).is_some_and(|next| *next >= 0xA0) => {
                    self.at += 2
                }
                _ => return Err(self.fault("a raw control character")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Fault> {
        let from = self.at;
        self.at += 2;
        match self.line.get(from + 1) {
            Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => {
                let first = self.unit()?;
                if (0xD800..0xDC00).contains(&first) {
                    self.literal(b"\\u", "half a surrogate pair")?;
                    if (0xDC00..0xE000).contains(&self.unit()?) {
                        return Ok(());
                    }
                } else if !(0xDC00..0xE000).contains(&first) {
                    return Ok(());
                }
                Err(Fault {
                    at: from,
                    why: "half a surrogate pair",
                })
            }
            _ => Err(Fault {
                at: from,
                why: "not an escape",
            }),
        }
    }

    fn unit(&mut self) -> Result<u32, Fault> {
        let mut unit = 0;
        for byte in self.take(4)? {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                _ => return Err(self.fault("escapes are four lower-case hexadecimal digits")),
            };
            unit = unit << 4 | u32::from(digit);
        }
        Ok(unit)
    }
}

/// Whether a name may hold this byte.
pub fn plain_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'/' | b'-')
}

static SPECIAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[0x7F] = true;
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[0xC2] = true;
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rest: &str) -> Vec<u8> {
        format!(r#"{{"seq":1,"time":"2026-11-22T12:00:00.000000Z","mono":5,"run":"r-a1","type":"exec"{rest}"#).into_bytes()
    }

    #[test]
    fn sound_entries_are_read() {
        for rest in [
            "}",
            r#","a":1}"#,
            r#","a":[1,-2,"é\n\u0000",{},[],{"b":null}]}"#,
            r#","a":"\ud83d\ude00","A/b.c:d-e":true}"#,
            r#","a":9007199254740991}"#,
            r#","a":[[[[[[[]]]]]]]}"#,
        ] {
            let line = line(rest);
            let view = entry(&line).unwrap_or_else(|fault| panic!("{rest}: {fault:?}"));
            assert_eq!(
                (view.seq, view.run, view.kind),
                (1, Some(&b"r-a1"[..]), &b"exec"[..])
            );
        }
    }

    #[test]
    fn every_other_way_of_writing_is_refused() {
        for rest in [
            "",
            "}}",
            "} ",
            r#", "a":1}"#,
            r#","a": 1}"#,
            r#","a":1.0}"#,
            r#","a":1e3}"#,
            r#","a":NaN}"#,
            r#","a":Infinity}"#,
            r#","a":-0}"#,
            r#","a":01}"#,
            r#","a":9007199254740992}"#,
            r#","a":-9007199254740992}"#,
            r#","a":99999999999999999999999}"#,
            r#","a":1,"a":2}"#,
            r#","seq":1}"#,
            r#","a":{"b":1,"b":1}}"#,
            r#","\u0061":1}"#,
            r#","":1}"#,
            r#","a":"\ud800"}"#,
            r#","a":"\udc00"}"#,
            r#","a":"\ud800\ud800"}"#,
            r#","a":"\u00E9"}"#,
            r#","a":"\/"}"#,
            r#","a":"\x"}"#,
            r#","a":"b}"#,
            ",\"a\":\"\t\"}",
            ",\"a\":\"\u{7f}\"}",
            ",\"a\":\"\u{9b}\"}",
            r#","a":[[[[[[[[]]]]]]]]}"#,
            r#","a":}"#,
            r#","a"}"#,
            r#","a":[1,]}"#,
            ",}",
            r#","a":tru}"#,
            r#","a":+1}"#,
            r#","a":-}"#,
        ] {
            assert!(entry(&line(rest)).is_err(), "{rest}");
        }
    }

    #[test]
    fn nesting_and_members_are_bounded() {
        let deep = format!(r#","a":{}{}}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(entry(&line(&deep)).unwrap_err().why, "nested too deep");
        let many: String = (0..60).map(|n| format!(r#","m{n}":1"#)).collect();
        assert_eq!(
            entry(&line(&format!("{many}}}"))).unwrap_err().why,
            "too many members"
        );
    }
}
