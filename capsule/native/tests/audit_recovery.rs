//! What a crash tore off the log is set aside and recorded, at whatever moment the next crash comes.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use capsule::audit::outcome::Outcome;

mod bench;
use bench::{Bench, sample};

#[test]
fn a_torn_first_block_is_set_aside_too() {
    let bench = Bench::new();
    fs::write(&bench.log, b"{\"block\":0,\"prev\":\"bla").unwrap();
    fs::set_permissions(&bench.log, fs::Permissions::from_mode(0o600)).unwrap();
    bench.open().unwrap();
    assert_eq!(bench.outcome(), Outcome::Verified);
    assert!(bench.dir.path().join("capsule.log.torn-1").exists());
}

#[test]
fn a_writer_that_dies_between_cutting_and_recording_leaves_nothing_unrecorded() {
    let bench = sample();
    let whole = bench.bytes();
    let pending = bench.dir.path().join("capsule.log.torn-pending");
    let named = bench.dir.path().join("capsule.log.torn-1");
    // Cut off and not recorded: as after `ftruncate`.
    fs::write(&pending, b"half a block").unwrap();
    bench.open().unwrap();
    let recorded = bench.bytes();
    let text = String::from_utf8_lossy(&recorded[whole.len()..]).into_owned();
    let digest = format!("blake3:{}", blake3::hash(b"half a block").to_hex());
    assert!(text.contains("\"why\":\"torn\"") && text.contains(&digest));
    assert_eq!(fs::read(&named).unwrap(), b"half a block");
    assert!(!pending.exists());
    // Recorded and not named: it gets its name and no second record.
    fs::rename(&named, &pending).unwrap();
    bench.open().unwrap();
    assert_eq!(bench.bytes(), recorded);
    assert!(named.exists() && !pending.exists());
    // Copied and not cut off: the copy is made again.
    fs::write(&pending, b"an older, longer, unfinished copy of it").unwrap();
    let mut torn = recorded.clone();
    torn.extend_from_slice(b"{\"block\":");
    fs::write(&bench.log, &torn).unwrap();
    bench.open().unwrap();
    let second = bench.dir.path().join("capsule.log.torn-2");
    assert_eq!(fs::read(&second).unwrap(), b"{\"block\":");
    assert_eq!(bench.outcome(), Outcome::Verified);
}
