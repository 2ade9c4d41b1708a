//! The vectors of `tests/vectors/access`: Python's `Access` answers the same ones.

use capsule::plan::{Access, Extras, Kind, Variables, Verdict, Want, parse};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn kind_of(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Granted => "granted",
        Verdict::Refused(refusal) => match refusal.kind {
            Kind::Denied => "denied",
            Kind::Protected => "protected",
            Kind::Hidden => "hidden",
            Kind::NotGranted => "not_granted",
        },
    }
}

fn check(case: &Value) -> usize {
    let plan = parse(case["plan"].to_string().as_bytes()).unwrap();
    let at = |name: &str| case["variables"][name].as_str().unwrap();
    let variables = Variables::new(at("workspace"), Some(at("home")), at("cwd")).unwrap();
    let access = Access::new(&plan, &variables, &Extras::default()).unwrap();
    let cases = case["cases"].as_array().unwrap();
    for row in cases {
        let path = row[0].as_str().unwrap();
        let want = match row[1].as_str().unwrap() {
            "read" => Want::Read,
            "write" => Want::Write,
            _ => Want::Execute,
        };
        let verdict = access.decide(path.as_bytes(), want);
        let used = access.uses(path.as_bytes()).has(want);
        assert_eq!(used, verdict.is_granted(), "{path} {want:?}");
        assert_eq!(
            kind_of(&verdict),
            row[2].as_str().unwrap(),
            "{path} {want:?}"
        );
        if let (Some(line), Some(refusal)) = (row[3].as_u64(), verdict.refusal()) {
            assert_eq!(
                refusal.rule.map(|rule| u64::from(rule.line)),
                Some(line),
                "{path} {want:?}"
            );
        }
    }
    cases.len()
}

#[test]
fn the_access_vectors_are_answered_as_written() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/access");
    let mut count = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "json") {
            count += check(&serde_json::from_slice(&fs::read(&path).unwrap()).unwrap());
        }
    }
    assert!(count > 150, "only {count} cases");
}
