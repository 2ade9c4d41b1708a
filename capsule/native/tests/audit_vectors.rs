//! The shared vectors: the native verifier says of each log what `tests/vectors/audit/expected.json` says it must.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

use std::fs::File;
use std::path::Path;

use capsule::audit::checkpoint::{Note, VKey};
use capsule::audit::genesis;
use capsule::audit::verifier::{Options, Verified, verify};

fn check(path: &Path, key: Option<&str>, since: Option<&str>) -> Verified {
    let file = File::open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let genesis = genesis::read(&file, path).ok().flatten();
    let options = Options {
        key: key.map(|key| (VKey::parse(key).unwrap(), "given")),
        since: since.map(|note| Note::parse(note).unwrap()),
        ..Options::default()
    };
    verify(&file, length, &options, genesis.as_ref(), &mut |_| {}).unwrap()
}

#[test]
fn every_vector_has_its_outcome() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/audit");
    let text = std::fs::read_to_string(dir.join("expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for case in expected.as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let found = check(
            &dir.join(format!("{name}.log")),
            case["key"].as_str(),
            case["since"].as_str(),
        );
        let (outcome, _) = found.report.outcome.code();
        let block = found
            .report
            .fault
            .as_ref()
            .map_or(found.report.blocks, |fault| fault.block);
        if Some(outcome) != case["outcome"].as_str()
            || case["block"].as_u64().is_some_and(|wanted| wanted != block)
        {
            wrong.push(format!(
                "{name}: {outcome} in block {block} ({:?})",
                found.report.fault
            ));
        }
        seen += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 80);
}
