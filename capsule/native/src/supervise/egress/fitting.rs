//! From the JSON of egress to values that the log can hold.
//!
//! Pure. The log has no fractions, integers below 2^53 only, and plain names: a fraction becomes text, and what is odd in
//! a name (a header's, chosen by a server) becomes `_`. It refuses: nesting deeper than 16.
//!
//! `{"entropy": 3.1, "x~y": 1}` → `{"entropy": "3.1", "x_y": 1}`

use crate::audit::Value;
use serde_json::Value as Json;
use std::borrow::Cow;
use std::collections::HashSet;

/// Values within values.
const DEEPEST: usize = 16;
/// Characters of a name (`docs/formats/audit-log.md`).
const LONGEST_NAME: usize = 64;
/// Integers from here on are not the same in every reader of JSON.
const BEYOND: u64 = 1 << 53;

/// The value; `None` when it is nested too deep.
#[must_use]
pub fn value(untrusted: Json) -> Option<Value> {
    within(untrusted, DEEPEST)
}

fn within(untrusted: Json, depth: usize) -> Option<Value> {
    Some(match untrusted {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(flag),
        Json::Number(number) => match number.as_i64() {
            Some(whole) if whole.unsigned_abs() < BEYOND => Value::Int(whole),
            _ => Value::Text(Cow::Owned(number.to_string())),
        },
        Json::String(text) => Value::Text(Cow::Owned(text)),
        Json::Array(items) => {
            let depth = depth.checked_sub(1)?;
            let items = items.into_iter().map(|item| within(item, depth));
            Value::List(items.collect::<Option<_>>()?)
        }
        Json::Object(fields) => {
            let depth = depth.checked_sub(1)?;
            let mut taken = HashSet::new();
            let mut map = Vec::with_capacity(fields.len());
            for (odd, field) in fields {
                let mut plain = name(&odd);
                let mut count = 2;
                while !taken.insert(plain.clone()) {
                    plain = format!("{}.{count}", &name(&odd)[..name(&odd).len().min(56)]);
                    count += 1;
                }
                map.push((Cow::Owned(plain), within(field, depth)?));
            }
            Value::Map(map)
        }
    })
}

/// A name as the log has them.
#[must_use]
pub fn name(odd: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.:/-".contains(c);
    let kept: String = odd
        .chars()
        .take(LONGEST_NAME)
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    if kept.is_empty() {
        "_".to_owned()
    } else {
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fitted(json: Json) -> Value {
        value(json).unwrap()
    }

    #[test]
    fn numbers_that_readers_round_become_text() {
        assert_eq!(fitted(json!(7)), Value::Int(7));
        assert_eq!(fitted(json!(-7)), Value::Int(-7));
        assert_eq!(fitted(json!(3.25)), Value::from("3.25".to_owned()));
        assert_eq!(
            fitted(json!(1u64 << 53)),
            Value::from("9007199254740992".to_owned())
        );
        assert_eq!(
            fitted(json!(u64::MAX)),
            Value::from("18446744073709551615".to_owned())
        );
    }

    #[test]
    fn names_become_plain_and_stay_apart() {
        let Value::Map(map) = fitted(json!({"x~y": 1, "x_y": 2, "": 3, "ä": 4})) else {
            panic!("not a map");
        };
        let names: HashSet<&str> = map.iter().map(|(name, _)| name.as_ref()).collect();
        assert_eq!(names.len(), 4);
        assert!(names.contains("x_y") && names.contains("x_y.2"));
        assert_eq!(name(&"a".repeat(100)).len(), 64);
    }

    #[test]
    fn what_is_nested_too_deep_is_refused() {
        let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        assert!(value(nested(16)).is_some());
        assert!(value(nested(17)).is_none());
    }
}
