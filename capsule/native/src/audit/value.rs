//! What an entry is made of: values without floats, and the entry that carries them.
//!
//! Refuses by construction: floats (there is no such value), integers that JSON readers round
//! (numbers from 2^53 on become text), bytes that pretend to be UTF-8 (they become [`Value::Bytes`]).
//!
//! ```
//! use capsule::audit::Entry;
//! let entry = Entry::new("exec", Some("r-1")).with("path", "/usr/bin/git").with("pid", 7u32);
//! assert_eq!(entry.kind(), "exec");
//! ```

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::clock::Stamp;

/// The largest magnitude an integer on the log may have: 2^53 - 1.
pub const MAX_INTEGER: i64 = (1 << 53) - 1;

/// One JSON value of the log's dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer, |n| < 2^53 (checked when the entry is written).
    Int(i64),
    /// Text; secrets in it are redacted and great lengths shortened when the entry is written.
    Text(Cow<'static, str>),
    /// Bytes that are not UTF-8, written as `{"bytes":"<base64>"}`.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Value>),
    /// An object, in the order given; names are `[A-Za-z0-9_.:/-]{1,64}`.
    Map(Vec<(Cow<'static, str>, Value)>),
}

/// One entry, before it has a place on the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub(super) kind: Cow<'static, str>,
    pub(super) run: Option<String>,
    pub(super) stamp: Option<Stamp>,
    pub(super) fields: Vec<(Cow<'static, str>, Value)>,
}

impl Entry {
    /// An entry of type `kind`, about run `run` (`r-…`), with no fields yet.
    pub fn new(kind: impl Into<Cow<'static, str>>, run: Option<&str>) -> Entry {
        Entry {
            kind: kind.into(),
            run: run.map(str::to_owned),
            stamp: None,
            fields: Vec::new(),
        }
    }

    /// The same entry with one more field. Values are given as they are: redaction is the writer's.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) -> Entry {
        self.fields.push((name.into(), value.into()));
        self
    }

    /// The same entry, said to have happened at `stamp` instead of when it is written.
    #[must_use]
    pub fn at(mut self, stamp: Stamp) -> Entry {
        self.stamp = Some(stamp);
        self
    }

    /// The entry's type.
    pub fn kind(&self) -> &str {
        &self.kind
    }
}

impl Value {
    /// Text where the bytes are UTF-8, else [`Value::Bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Value {
        match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(Cow::Owned(text.to_owned())),
            Err(_) => Value::Bytes(bytes.to_vec()),
        }
    }

    /// An object from name and value pairs.
    pub fn map<const N: usize>(pairs: [(&'static str, Value); N]) -> Value {
        Value::Map(
            pairs
                .into_iter()
                .map(|(name, value)| (Cow::Borrowed(name), value))
                .collect(),
        )
    }
}

/// Reads a value from any JSON text. Refuses floats, integers from 2^53 on, and an object with a name twice.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Value, D::Error> {
        source.deserialize_any(Reading)
    }
}

struct Reading;

impl<'de> Visitor<'de> for Reading {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null, true, false, an integer below 2^53, text, a list or an object")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
        match Value::from(number) {
            Value::Int(number) => Ok(Value::Int(number)),
            _ => Err(E::custom("an integer from 2^53 on")),
        }
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        i64::try_from(number)
            .map_err(|_| E::custom("an integer from 2^53 on"))
            .and_then(|number| self.visit_i64(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut pairs: Vec<(Cow<'static, str>, Value)> = Vec::new();
        while let Some((name, value)) = object.next_entry::<String, Value>()? {
            if pairs.len() >= super::json::MAX_MEMBERS
                || pairs.iter().any(|(other, _)| *other == name)
            {
                return Err(de::Error::custom(format!(
                    "the name {name:?} twice, or too many names"
                )));
            }
            pairs.push((Cow::Owned(name), value));
        }
        Ok(Value::Map(pairs))
    }
}

macro_rules! from_small_integers {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Value {
            fn from(number: $kind) -> Value { Value::Int(i64::from(number)) }
        }
    )*};
}
from_small_integers!(u8, u16, u32, i32);

impl From<u64> for Value {
    /// Numbers that JSON readers would round are written as decimal text.
    fn from(number: u64) -> Value {
        match i64::try_from(number) {
            Ok(small) if small <= MAX_INTEGER => Value::Int(small),
            _ => Value::Text(Cow::Owned(number.to_string())),
        }
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        if number.unsigned_abs() <= MAX_INTEGER.unsigned_abs() {
            Value::Int(number)
        } else {
            Value::Text(Cow::Owned(number.to_string()))
        }
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        Value::from(number as u64)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Bool(flag)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(Cow::Owned(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(Cow::Owned(text))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Value {
        Value::Text(Cow::Owned(text.clone()))
    }
}

impl From<&OsStr> for Value {
    fn from(text: &OsStr) -> Value {
        Value::from_bytes(text.as_bytes())
    }
}

impl From<&OsString> for Value {
    fn from(text: &OsString) -> Value {
        Value::from_bytes(text.as_bytes())
    }
}

impl From<&Path> for Value {
    fn from(path: &Path) -> Value {
        Value::from_bytes(path.as_os_str().as_bytes())
    }
}

impl From<&PathBuf> for Value {
    fn from(path: &PathBuf) -> Value {
        Value::from_bytes(path.as_os_str().as_bytes())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Value {
        Value::List(items.into_iter().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_readers_would_round_become_text() {
        assert_eq!(Value::from((1u64 << 53) - 1), Value::Int(MAX_INTEGER));
        assert_eq!(
            Value::from(1u64 << 53),
            Value::Text("9007199254740992".into())
        );
        assert_eq!(
            Value::from(i64::MIN),
            Value::Text("-9223372036854775808".into())
        );
    }

    #[test]
    fn bytes_that_are_not_text_are_kept_as_bytes() {
        assert_eq!(Value::from_bytes(b"\xff"), Value::Bytes(vec![0xff]));
        assert_eq!(Value::from_bytes("é".as_bytes()), Value::Text("é".into()));
    }

    #[test]
    fn json_that_could_be_read_in_two_ways_is_refused() {
        let read = |text: &str| serde_json::from_str::<Value>(text).ok();
        for text in [
            "{\"a\":[1.5]}",
            "1e3",
            "9007199254740992",
            "-9007199254740992",
            "18446744073709551616",
            "{\"a\":1,\"a\":2}",
            "NaN",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        let expected = Value::map([("b", Value::from(vec![1u8])), ("a", Value::Null)]);
        assert_eq!(read("{ \"b\": [1], \"a\": null }"), Some(expected));
    }
}
