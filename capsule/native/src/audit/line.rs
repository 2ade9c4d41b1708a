//! Entries as lines: the one way to write each value, with redaction and bounds applied on the way.
//!
//! Everything recorded passes here, before it is hashed: the single boundary where secrets are taken out
//! and great lengths shortened. Refuses entries that cannot be written: bad names, twice the same name,
//! nesting over 8, numbers from 2^53 on, lines over 64 KiB even after shortening.

use super::block::MAX_ENTRIES;
use super::clock::{self, Stamp};
use super::error::Error;
use super::json;
use super::redaction::{Context, Redactor};
use super::value::{Entry, MAX_INTEGER, Value};

/// How much of long values is kept.
#[derive(Clone, Copy)]
struct Bounds {
    /// Text longer than this is shortened …
    text: usize,
    /// … to this many bytes.
    kept: usize,
    /// Lists keep this many items.
    items: usize,
}

const USUAL: Bounds = Bounds {
    text: 4096,
    kept: 1024,
    items: 512,
};
/// For an entry that would not fit in a line otherwise.
const TIGHT: Bounds = Bounds {
    text: 256,
    kept: 128,
    items: 64,
};
const RESERVED: [&str; 5] = ["seq", "time", "mono", "run", "type"];

/// Appends the line of `entry` at place `seq`, with its newline, to `out`.
///
/// # Errors
/// [`Error::Entry`]; `out` is then as it was.
pub fn render(
    out: &mut Vec<u8>,
    entry: &Entry,
    seq: u64,
    stamp: Stamp,
    redactor: &Redactor,
) -> Result<(), Error> {
    let from = out.len();
    for bounds in [USUAL, TIGHT] {
        // The log's own first words hold its key and nothing that came from outside.
        let exact = entry.kind == "log.created";
        let result = Renderer {
            out,
            redactor,
            bounds,
            exact,
        }
        .entry(entry, seq, stamp);
        if result.is_err() || out.len() - from <= MAX_ENTRIES {
            if result.is_err() {
                out.truncate(from);
            }
            return result;
        }
        out.truncate(from);
    }
    Err(invalid(
        entry,
        "is longer than 64 KiB even with its long values shortened",
    ))
}

fn invalid(entry: &Entry, why: &str) -> Error {
    Error::Entry {
        why: format!("one of type {:?} {why}", entry.kind),
    }
}

struct Renderer<'a> {
    out: &'a mut Vec<u8>,
    redactor: &'a Redactor,
    bounds: Bounds,
    exact: bool,
}

impl Renderer<'_> {
    fn entry(&mut self, entry: &Entry, seq: u64, stamp: Stamp) -> Result<(), Error> {
        self.raw(b"{\"seq\":");
        self.natural(seq);
        self.raw(b",\"time\":\"");
        self.raw(&clock::render(stamp.wall));
        self.raw(b"\",\"mono\":");
        self.natural(stamp.mono.min(MAX_INTEGER.unsigned_abs()));
        self.raw(b",\"run\":");
        match &entry.run {
            None => self.raw(b"null"),
            Some(run) => {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
                if !run.starts_with("r-")
                    || !(3..=66).contains(&run.len())
                    || !run.bytes().all(plain)
                {
                    return Err(invalid(
                        entry,
                        "has a run id that is not r- and up to 64 letters, digits, - or _",
                    ));
                }
                self.raw(b"\"");
                self.raw(run.as_bytes());
                self.raw(b"\"");
            }
        }
        let kind = entry.kind.as_bytes();
        let plain =
            |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'.' || *b == b'_';
        if !(1..=64).contains(&kind.len())
            || !kind[0].is_ascii_lowercase()
            || !kind.iter().all(plain)
        {
            return Err(invalid(
                entry,
                "has a type that is not up to 64 lower-case letters, digits, . or _",
            ));
        }
        self.raw(b",\"type\":\"");
        self.raw(kind);
        self.raw(b"\"");
        if entry.fields.len() > json::MAX_MEMBERS - RESERVED.len() {
            return Err(invalid(entry, "has too many fields"));
        }
        for (n, (name, value)) in entry.fields.iter().enumerate() {
            let before = &entry.fields[..n];
            if RESERVED.contains(&name.as_ref()) || before.iter().any(|(other, _)| other == name) {
                return Err(invalid(entry, &format!("has the field {name:?} twice")));
            }
            self.raw(b",");
            self.member(name, value, 1)
                .map_err(|why| invalid(entry, why))?;
        }
        self.raw(b"}\n");
        Ok(())
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn natural(&mut self, mut number: u64) {
        let (mut digits, mut from) = ([0u8; 20], 20);
        loop {
            from -= 1;
            digits[from] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.raw(&digits[from..]);
    }

    fn member(&mut self, name: &str, value: &Value, depth: usize) -> Result<(), &'static str> {
        if !(1..=64).contains(&name.len()) || !name.bytes().all(json::plain_name_byte) {
            return Err("has a field name that is not up to 64 letters, digits, _ . : / or -");
        }
        self.raw(b"\"");
        self.raw(name.as_bytes());
        self.raw(b"\":");
        self.value(value, depth, Context::Field(name))
    }

    fn value(
        &mut self,
        value: &Value,
        depth: usize,
        context: Context<'_>,
    ) -> Result<(), &'static str> {
        match value {
            Value::Null => self.raw(b"null"),
            Value::Bool(true) => self.raw(b"true"),
            Value::Bool(false) => self.raw(b"false"),
            Value::Int(number) => {
                if number.unsigned_abs() > MAX_INTEGER.unsigned_abs() {
                    return Err("has a number from 2^53 on");
                }
                if *number < 0 {
                    self.raw(b"-");
                }
                self.natural(number.unsigned_abs());
            }
            Value::Text(text) => self.text(text, context),
            Value::Bytes(bytes) => self.bytes(bytes, depth, context)?,
            Value::List(items) => self.list(items, depth)?,
            Value::Map(pairs) => {
                deep_enough(depth)?;
                if pairs.len() > json::MAX_MEMBERS {
                    return Err("has an object of over 64 members");
                }
                self.raw(b"{");
                for (n, (name, value)) in pairs.iter().enumerate() {
                    if pairs[..n].iter().any(|(other, _)| other == name) {
                        return Err("has an object with a name twice");
                    }
                    if n > 0 {
                        self.raw(b",");
                    }
                    self.member(name, value, depth + 1)?;
                }
                self.raw(b"}");
            }
        }
        Ok(())
    }

    fn list(&mut self, items: &[Value], depth: usize) -> Result<(), &'static str> {
        deep_enough(depth)?;
        self.raw(b"[");
        for (n, item) in items.iter().take(self.bounds.items).enumerate() {
            if n > 0 {
                self.raw(b",");
            }
            let before = match n.checked_sub(1).map(|n| &items[n]) {
                Some(Value::Text(text)) => Some(text.as_ref()),
                _ => None,
            };
            self.value(item, depth + 1, Context::Item { before })?;
        }
        if let Some(rest) = items
            .get(self.bounds.items..)
            .filter(|rest| !rest.is_empty())
        {
            let mut whole = Vec::new();
            rest.iter().for_each(|item| flatten(item, &mut whole));
            let marker = format!(
                ",\"[omitted:{} items:{}]\"",
                rest.len(),
                self.redactor.commitment(&whole)
            );
            self.raw(marker.as_bytes());
        }
        self.raw(b"]");
        Ok(())
    }

    fn text(&mut self, text: &str, context: Context<'_>) {
        if self.exact {
            return self.quoted(text);
        }
        let clean = self.redactor.clean(text.as_bytes(), context);
        // Redaction replaces whole ASCII spans, so what was UTF-8 still is; lossy is for the compiler.
        let clean = String::from_utf8_lossy(&clean);
        if clean.len() <= self.bounds.text {
            return self.quoted(&clean);
        }
        let kept = (0..=self.bounds.kept)
            .rev()
            .find(|at| clean.is_char_boundary(*at))
            .unwrap_or(0);
        let marker = format!(
            "[shortened:{} bytes:{}]",
            clean.len(),
            self.redactor.commitment(text.as_bytes())
        );
        self.quoted(&format!("{}{marker}", &clean[..kept]));
    }

    fn bytes(
        &mut self,
        bytes: &[u8],
        depth: usize,
        context: Context<'_>,
    ) -> Result<(), &'static str> {
        use base64::Engine as _;
        deep_enough(depth)?;
        let mut clean = self.redactor.clean(bytes, context).into_owned();
        if clean.len() > self.bounds.text {
            let marker = format!(
                "[shortened:{} bytes:{}]",
                clean.len(),
                self.redactor.commitment(bytes)
            );
            clean.truncate(self.bounds.kept);
            clean.extend(marker.as_bytes());
        }
        let encoded = base64::engine::general_purpose::STANDARD.encode(clean);
        self.raw(b"{\"bytes\":\"");
        self.raw(encoded.as_bytes());
        self.raw(b"\"}");
        Ok(())
    }

    fn quoted(&mut self, text: &str) {
        self.raw(b"\"");
        let bytes = text.as_bytes();
        let mut from = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if !MAYBE_ESCAPED[usize::from(*byte)] {
                continue;
            }
            let escape = match byte {
                b'"' => "\\\"".to_owned(),
                b'\\' => "\\\\".to_owned(),
                b'\n' => "\\n".to_owned(),
                b'\t' => "\\t".to_owned(),
                0..0x20 | 0x7F => format!("\\u{byte:04x}"),
                _ => match text[at..].chars().next() {
                    Some(odd) if disguises(odd) => format!("\\u{:04x}", odd as u32),
                    _ => continue,
                },
            };
            self.raw(&bytes[from..at]);
            self.raw(escape.as_bytes());
            from = at + text[at..].chars().next().map_or(1, char::len_utf8);
        }
        self.raw(&bytes[from..]);
        self.raw(b"\"");
    }
}

fn deep_enough(depth: usize) -> Result<(), &'static str> {
    if depth >= json::MAX_DEPTH {
        Err("is nested deeper than 8")
    } else {
        Ok(())
    }
}

/// Whether a character changes how its neighbours look: C1 controls, line separators, direction marks, BOM.
pub fn disguises(odd: char) -> bool {
    matches!(odd, '\u{80}'..='\u{9f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

static MAYBE_ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    // First bytes of the characters of `disguises`.
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[0x7F] = true;
    table[0xC2] = true;
    table[0xE2] = true;
    table[0xEF] = true;
    table
};

/// All text of a value, each piece ended by NUL: what the commitment of an omitted item is over.
fn flatten(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend(b"null"),
        Value::Bool(flag) => out.extend(flag.to_string().as_bytes()),
        Value::Int(number) => out.extend(number.to_string().as_bytes()),
        Value::Text(text) => out.extend(text.as_bytes()),
        Value::Bytes(bytes) => out.extend(bytes),
        Value::List(items) => items.iter().for_each(|item| flatten(item, out)),
        Value::Map(pairs) => pairs.iter().for_each(|(name, value)| {
            out.extend(name.as_bytes());
            out.push(0);
            flatten(value, out);
        }),
    }
    out.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn render_one(entry: &Entry) -> Result<String, Error> {
        let mut out = Vec::new();
        render(
            &mut out,
            entry,
            5,
            Stamp { wall: 0, mono: 9 },
            &Redactor::with_salt([1; 32]),
        )?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn an_entry_is_one_line_of_the_dialect() {
        let entry = Entry::new("exec", Some("r-1"))
            .with("path", "/bin/\u{1b}[2J\u{9b}\u{202e}é\n")
            .with("n", -4i64)
            .with("raw", Value::Bytes(vec![255]));
        let line = render_one(&entry).unwrap();
        assert_eq!(
            line,
            "{\"seq\":5,\"time\":\"1970-01-01T00:00:00.000000Z\",\"mono\":9,\"run\":\"r-1\",\"type\":\"exec\",\"path\":\"/bin/\\u001b[2J\\u009b\\u202eé\\n\",\"n\":-4,\"raw\":{\"bytes\":\"/w==\"}}\n"
        );
        json::entry(line.trim_end().as_bytes()).unwrap();
    }

    #[test]
    fn long_values_are_shortened_with_a_commitment() {
        let long = "x".repeat(5000);
        let line = render_one(&Entry::new("exec", None).with("a", long.as_str())).unwrap();
        assert!(
            line.contains("x[shortened:5000 bytes:") && line.len() < 1300,
            "{line}"
        );
        let items = Value::List((0..2000u32).map(Value::from).collect());
        let line = render_one(&Entry::new("exec", None).with("a", items)).unwrap();
        assert!(line.contains("511,\"[omitted:1488 items:"), "{line}");
        let heavy = Value::List((0..512).map(|_| Value::from("y".repeat(4000))).collect());
        let line = render_one(&Entry::new("exec", None).with("a", heavy)).unwrap();
        assert!(line.len() < MAX_ENTRIES && line.contains("omitted:448 items"));
    }

    #[test]
    fn what_cannot_be_written_is_refused_and_leaves_nothing() {
        let deep = (0..9).fold(Value::Null, |inner, _| Value::List(vec![inner]));
        for entry in [
            Entry::new("Exec", None),
            Entry::new("exec", Some("1")),
            Entry::new("exec", None).with("seq", 1u8),
            Entry::new("exec", None).with("a", 1u8).with("a", 2u8),
            Entry::new("exec", None).with("a\"", 1u8),
            Entry::new("exec", None).with("a", Value::Int(1 << 53)),
            Entry::new("exec", None).with("a", deep),
        ] {
            assert!(
                matches!(render_one(&entry), Err(Error::Entry { .. })),
                "{entry:?}"
            );
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            proptest::collection::vec(any::<u8>(), 0..80).prop_map(|b| Value::from_bytes(&b))
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
                proptest::collection::btree_map("[a-zA-Z0-9_./:-]{1,20}", inner, 0..6).prop_map(
                    |map| Value::Map(
                        map.into_iter()
                            .map(|(name, value)| (name.into(), value))
                            .collect()
                    )
                ),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_the_value_the_line_is_of_the_dialect(value in values()) {
            let line = render_one(&Entry::new("exec", Some("r-x")).with("a", value)).unwrap();
            let view = json::entry(line.strip_suffix('\n').unwrap().as_bytes());
            prop_assert!(view.is_ok(), "{:?} {}", view, line);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
        }
    }
}
