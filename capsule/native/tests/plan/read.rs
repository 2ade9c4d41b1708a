use crate::sample;
use capsule::plan::{PlanError, parse};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn refused(plan: &Value) -> PlanError {
    parse(plan.to_string().as_bytes()).unwrap_err()
}

fn vectors(kind: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors/plan")
        .join(kind);
    fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect()
}

#[test]
fn good_vectors_are_read_and_written_back_byte_for_byte() {
    let good = vectors("good");
    assert!(!good.is_empty());
    for path in good {
        let bytes = fs::read(&path).unwrap();
        let plan = parse(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let again: Value = serde_json::to_value(&plan).unwrap();
        let first: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(again, first, "{}", path.display());
    }
}

#[test]
fn bad_vectors_are_refused_for_their_reason() {
    let bad = vectors("bad");
    assert!(bad.len() > 30);
    for path in bad {
        let case: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let error = parse(case["plan"].as_str().unwrap().as_bytes())
            .expect_err(&path.display().to_string());
        assert_eq!(
            error.path(),
            case["path"].as_str().unwrap(),
            "{}: {error}",
            path.display()
        );
        let text = error.to_string();
        assert!(
            text.contains(case["says"].as_str().unwrap()),
            "{}: {text}",
            path.display()
        );
    }
}

#[test]
fn every_field_is_required() {
    fn each_field(value: &Value, pointer: &str, visit: &mut impl FnMut(&str, &str)) {
        match value {
            Value::Object(fields) => {
                for (name, inner) in fields {
                    if pointer != "/environment/set" {
                        visit(pointer, name);
                    }
                    each_field(inner, &format!("{pointer}/{name}"), visit);
                }
            }
            Value::Array(items) => {
                items
                    .iter()
                    .enumerate()
                    .for_each(|(i, inner)| each_field(inner, &format!("{pointer}/{i}"), visit));
            }
            _ => {}
        }
    }
    let good = sample();
    assert!(parse(good.to_string().as_bytes()).is_ok());
    let mut seen = 0;
    each_field(&good, "", &mut |pointer, name| {
        seen += 1;
        let mut plan = good.clone();
        let object = plan.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
        let value = object.remove(name).unwrap();
        let error = refused(&plan).to_string();
        assert!(
            error.contains(&format!("missing field `{name}`")),
            "{pointer}/{name}: {error}"
        );

        let object = plan.pointer_mut(pointer).unwrap().as_object_mut().unwrap();
        object.insert(name.to_owned(), value);
        object.insert("surprise".to_owned(), json!(1));
        let error = refused(&plan).to_string();
        assert!(error.contains("surprise"), "{pointer}: {error}");
    });
    assert!(seen > 80, "{seen}");
}

#[test]
fn repeated_keys_are_refused_at_every_depth() {
    let text = sample().to_string();
    for (from, to) in [
        (
            "\"audit\":\"writes\"",
            "\"audit\":\"run\",\"audit\":\"writes\"",
        ),
        ("\"optional\":false", "\"optional\":true,\"optional\":false"),
        ("\"CI\":\"1\"", "\"CI\":\"0\",\"CI\":\"1\""),
        ("\"cpu\":1000", "\"cpu\":null,\"cpu\":1000"),
        ("\"column\":3", "\"column\":3,\"column\":3"),
    ] {
        assert!(text.contains(from));
        let error = parse(text.replacen(from, to, 1).as_bytes())
            .unwrap_err()
            .to_string();
        assert!(error.contains("duplicate field"), "{from}: {error}");
    }
}

#[test]
fn sizes_are_bounded() {
    let mut text = sample().to_string();
    text.push_str(&" ".repeat(1 << 20));
    assert!(matches!(parse(text.as_bytes()), Err(PlanError::Size(_))));
    let mut plan = sample();
    plan["name"] = json!("x".repeat(4097));
    assert_eq!(refused(&plan).path(), "name");
    let mut plan = sample();
    plan["network"]["ports"] = json!(vec![1; 4097]);
    assert_eq!(refused(&plan).path(), "network.ports");
    let mut deep = "[".repeat(100_000);
    deep.push_str(&"]".repeat(100_000));
    assert!(parse(deep.as_bytes()).is_err());
}

#[test]
fn trailing_bytes_are_refused() {
    let text = sample().to_string();
    for more in ["{}", "x", "\0", ",", "1"] {
        assert!(parse(format!("{text}{more}").as_bytes()).is_err(), "{more}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(parse(&bytes).is_err());
    }

    #[test]
    fn a_flipped_byte_is_refused_or_is_still_a_checked_plan(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = sample().to_string().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(plan) = parse(&bytes) {
            let again = serde_json::to_vec(&plan).unwrap();
            prop_assert_eq!(parse(&again).unwrap(), plan);
        }
    }
}
