//! The frames of the session socket, as `docs/formats/egress.md` lists them.
//!
//! Pure. A frame is four bytes of length, big-endian, and one JSON object. What egress says is half hostile: it parses
//! bytes of the command and of the internet. It refuses: frames over 256 KiB, unknown types, unknown, missing or
//! repeated fields, entries that are not of egress, and answers that only an installation of another version would give.
//!
//! ```
//! use capsule::supervise::egress::wire::{Frame, Reader};
//! let mut reader = Reader::default();
//! reader.feed(b"\0\0\0\x19{\"type\":\"need_authority\"}");
//! assert_eq!(reader.next().unwrap(), Some(Frame::NeedAuthority {}));
//! ```

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Bytes a frame of egress may have.
pub const MOST_FROM_EGRESS: usize = 256 << 10;
/// Bytes a frame of ours may have.
pub const MOST_FROM_US: usize = 16 << 20;
/// Names on one entry.
const MOST_FIELDS: usize = 64;

/// What egress says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Frame {
    /// The session stands.
    Ready {
        /// Rules that hold.
        rules: u64,
        /// What does not compile; then everything is denied.
        problems: Vec<String>,
    },
    /// It has no authority yet.
    NeedAuthority {},
    /// For the log.
    Record {
        /// With a field `type` that begins with `egress.`.
        entry: Map<String, Value>,
    },
    /// A question for a person.
    Ask(Box<Ask>),
    /// It is answered or over.
    Asked {
        /// Whose.
        id: String,
        /// How.
        outcome: String,
    },
    /// A secret has expired.
    NeedSecret {
        /// Its name.
        name: String,
    },
    /// All of the run that is over has been told.
    Over {},
}

/// A question for a person.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Ask {
    pub id: String,
    pub run: String,
    pub at: Value,
    pub expires: Value,
    pub event: Value,
    pub rule: Value,
    pub program: Value,
    pub argv: Value,
    pub command: Value,
    pub asked_before: Value,
}

/// What is said to egress once the session stands.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Word<'a> {
    Flow {
        source: &'a str,
        target: &'a str,
        pid: i32,
        program: &'a str,
        argv: &'a [String],
    },
    Sources {
        sources: &'a [Source],
    },
    Secret {
        name: &'a str,
        value: &'a str,
        expires: Option<&'a str>,
    },
    Answer {
        id: &'a str,
        allow: bool,
        scope: &'a str,
        for_ms: Option<u64>,
    },
    Authority {},
}

/// A file of rules, detection or authorities, as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Absolute path, or `pack:NAME`.
    pub path: String,
    /// What it holds.
    pub text: String,
    /// Why it cannot be read; then everything is denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The bytes of one frame of ours.
///
/// # Errors
/// When it is longer than egress takes.
pub fn frame(body: &[u8]) -> Result<Vec<u8>, String> {
    if body.len() > MOST_FROM_US {
        return Err(format!(
            "a frame of {} bytes; egress takes {MOST_FROM_US}",
            body.len()
        ));
    }
    let length = (body.len() as u32).to_be_bytes();
    Ok([&length, body].concat())
}

/// The bytes of one word.
///
/// # Errors
/// As [`frame`].
pub fn encode(word: &Word) -> Result<Vec<u8>, String> {
    frame(&serde_json::to_vec(word).map_err(|error| error.to_string())?)
}

/// The bytes of an entry of the run, `line` being its JSON.
///
/// # Errors
/// As [`frame`].
pub fn event(line: &[u8]) -> Result<Vec<u8>, String> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    frame(&[br#"{"type":"event","entry":"#, line, b"}"].concat())
}

/// Bytes in, frames out.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    /// More bytes came.
    pub fn feed(&mut self, untrusted: &[u8]) {
        self.buffer.extend_from_slice(untrusted);
    }

    /// The next whole frame.
    ///
    /// # Errors
    /// What is wrong with it: the session ends.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame>, String> {
        let Some(head) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*head) as usize;
        if length > MOST_FROM_EGRESS {
            return Err(format!(
                "a frame of {length} bytes; at most {MOST_FROM_EGRESS} are taken"
            ));
        }
        let Some(body) = self.buffer.get(4..4 + length) else {
            return Ok(None);
        };
        let frame = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        self.buffer.drain(..4 + length);
        Ok(Some(frame))
    }
}

/// The type and the fields of an entry for the log.
///
/// # Errors
/// Why it is none of egress.
pub fn entry(mut untrusted: Map<String, Value>) -> Result<(String, Map<String, Value>), String> {
    let kind = match untrusted.remove("type") {
        Some(Value::String(kind)) => kind,
        _ => return Err("an entry without a type".to_owned()),
    };
    let rest = kind.strip_prefix("egress.").unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    if rest.is_empty() || rest.len() > 32 || !rest.bytes().all(plain) {
        return Err("an entry whose type is not one of egress".to_owned());
    }
    if rest == "lost" {
        return Err("an entry that only the supervisor writes".to_owned());
    }
    if untrusted.len() > MOST_FIELDS {
        return Err(format!("an entry of {} fields", untrusted.len()));
    }
    for reserved in ["seq", "time", "mono", "run"] {
        if untrusted.contains_key(reserved) {
            return Err(format!(
                "an entry with the field `{reserved}` of the log's own"
            ));
        }
    }
    Ok((kind, untrusted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: &str) -> Result<Option<Frame>, String> {
        let mut reader = Reader::default();
        reader.feed(&frame(body.as_bytes()).unwrap());
        reader.next()
    }

    #[test]
    fn frames_come_whole_whatever_the_pieces() {
        let bytes = [
            frame(br#"{"type":"ready","rules":2,"problems":[]}"#).unwrap(),
            frame(br#"{"type":"need_secret","name":"x"}"#).unwrap(),
        ]
        .concat();
        let mut reader = Reader::default();
        let mut frames = Vec::new();
        for byte in bytes {
            reader.feed(&[byte]);
            frames.extend(reader.next().unwrap());
        }
        assert_eq!(
            frames,
            [
                Frame::Ready {
                    rules: 2,
                    problems: vec![]
                },
                Frame::NeedSecret { name: "x".into() }
            ]
        );
    }

    #[test]
    fn what_is_not_a_frame_ends_the_session() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"type":"flow"}"#,
            r#"{"type":"ready","rules":2}"#,
            r#"{"type":"ready","rules":2,"problems":[],"more":1}"#,
            r#"{"type":"ready","rules":-1,"problems":[]}"#,
            r#"{"type":"ask","id":"a"}"#,
        ] {
            assert!(read(body).is_err(), "{body}");
        }
        let mut reader = Reader::default();
        reader.feed(&(MOST_FROM_EGRESS as u32 + 1).to_be_bytes());
        assert!(reader.next().is_err());
    }

    #[test]
    fn only_entries_of_egress_are_taken() {
        let take = |value: Value| entry(value.as_object().unwrap().clone());
        let (kind, fields) = take(json!({"type": "egress.http", "host": "a"})).unwrap();
        assert_eq!((kind.as_str(), fields.len()), ("egress.http", 1));
        for bad in [
            json!({}),
            json!({"type": 1}),
            json!({"type": "run.ended"}),
            json!({"type": "egress."}),
            json!({"type": "egress.Http"}),
            json!({"type": "egress.lost"}),
            json!({"type": "egress.http", "run": "r-1"}),
            json!({"type": "egress.http", "seq": 1}),
        ] {
            assert!(take(bad.clone()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_entry_of_the_run_goes_as_it_is() {
        let bytes = event(b"{\"seq\":1}\n").unwrap();
        assert_eq!(&bytes[4..], br#"{"type":"event","entry":{"seq":1}}"#);
        assert_eq!(bytes[..4], 34u32.to_be_bytes());
    }
}
