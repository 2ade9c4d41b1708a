//! The writer against crashes, rivals and liars, judged by the verifier.

#![allow(
    clippy::unwrap_used,
    reason = "a test that panics has failed, which is what it is for"
)]

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

use capsule::audit::checkpoint::VKey;
use capsule::audit::clock::Stamp;
use capsule::audit::outcome::Outcome;
use capsule::audit::verifier::{Options, verify};
use capsule::audit::{Entry, Error, Places, Seal, Writer, genesis};
use proptest::prelude::*;

mod bench;
use bench::{Bench, exec, sample};

#[test]
fn a_log_verifies_and_says_what_was_written() {
    let bench = sample();
    let report = bench.verify(&bench.bytes());
    assert_eq!(
        (report.outcome, report.entries, report.warned),
        (Outcome::Verified, 7, 0)
    );
    let text = String::from_utf8(bench.bytes()).unwrap();
    assert!(text.contains("\"type\":\"run.started\",\"redaction\":\"blake3:"));
}

#[test]
fn blocks_are_split_at_their_bound_and_written_at_once() {
    let bench = Bench::new();
    let entries: Vec<Entry> = (0..2000).map(exec).collect();
    let positions = bench.open().unwrap().append(&entries, Seal::Sign).unwrap();
    assert_eq!((positions.first, positions.last), (1, 2000));
    let report = bench.verify(&bench.bytes());
    assert_eq!(
        (report.outcome, report.entries, report.blocks),
        (Outcome::Verified, 2001, 5)
    );
}

#[test]
fn a_checkpoint_may_come_later_and_by_another_writer() {
    let bench = sample();
    bench.open().unwrap().append(&[exec(5)], Seal::No).unwrap();
    assert_eq!(bench.outcome(), Outcome::Unsealed);
    let length = bench.bytes().len();
    bench.open().unwrap().seal(true).unwrap();
    assert_eq!(bench.outcome(), Outcome::Verified);
    let sealed = bench.bytes().len();
    bench.open().unwrap().seal(true).unwrap();
    assert_eq!((sealed, sealed > length), (bench.bytes().len(), true));
}

#[test]
fn a_writer_that_died_before_remembering_loses_nothing() {
    let bench = sample();
    let before = fs::read(bench.places.heads().join(bench.id())).unwrap();
    bench.open().unwrap().append(&[exec(5)], Seal::No).unwrap();
    let half = fs::read(bench.places.heads().join(bench.id())).unwrap();
    bench.open().unwrap().seal(false).unwrap();
    // As if it had died between the log and the memory: first before the checkpoint, then before the block.
    for memory in [half, before] {
        fs::write(bench.places.heads().join(bench.id()), memory).unwrap();
        bench
            .open()
            .unwrap()
            .append(&[exec(6)], Seal::Sign)
            .unwrap();
        assert_eq!(
            (bench.outcome(), bench.verify(&bench.bytes()).warned),
            (Outcome::Verified, 0)
        );
    }
}

#[test]
fn fifty_writers_make_one_log() {
    let bench = Bench::new();
    std::thread::scope(|scope| {
        for n in 0..50 {
            let bench = &bench;
            scope.spawn(move || {
                let mut writer = bench.open().unwrap();
                let run = format!("r-{n}");
                for round in 0..10 {
                    let seal = if round % 3 == 0 { Seal::Sign } else { Seal::No };
                    writer
                        .append(&[Entry::new("exec", Some(&run)).with("round", round)], seal)
                        .unwrap();
                }
                writer.seal(false).unwrap();
            });
        }
    });
    let report = bench.verify(&bench.bytes());
    assert_eq!(
        (report.outcome, report.entries, report.warned),
        (Outcome::Verified, 501, 0)
    );
    assert_eq!(fs::read_dir(bench.places.heads()).unwrap().count(), 1);
}

#[test]
fn a_log_cut_at_any_byte_of_its_tail_is_recovered_and_says_so() {
    let bench = sample();
    let memory = fs::read(bench.places.heads().join(bench.id())).unwrap();
    let before = bench.bytes();
    bench
        .open()
        .unwrap()
        .append(&[exec(7), exec(8)], Seal::Sign)
        .unwrap();
    let after = bench.bytes();
    let checkpoint = before.len()
        + after[before.len()..]
            .windows(8)
            .position(|at| at == b"{\"note\":")
            .unwrap();
    for cut in (before.len() + 1..after.len()).step_by(3) {
        fs::write(&bench.log, &after[..cut]).unwrap();
        fs::write(bench.places.heads().join(bench.id()), &memory).unwrap();
        let mut writer = bench.open().unwrap();
        writer.append(&[exec(9)], Seal::Sign).unwrap();
        let report = bench.verify(&bench.bytes());
        assert_eq!(report.outcome, Outcome::Verified, "cut at {cut}");
        if cut == checkpoint {
            assert_eq!(report.warned, 0);
            continue;
        }
        assert_eq!(
            (report.warnings[0].kind, report.warned),
            ("recovery", 1),
            "cut at {cut}"
        );
        let torn = bench.dir.path().join("capsule.log.torn-1");
        let from = if cut > checkpoint {
            checkpoint
        } else {
            before.len()
        };
        assert_eq!(fs::read(&torn).unwrap(), &after[from..cut]);
        fs::remove_file(torn).unwrap();
    }
}

#[track_caller]
fn refused(result: Result<Writer, Error>, why: &str) {
    let text = result.err().expect("it was not refused").to_string();
    assert!(text.contains(why), "{text}");
}

#[test]
fn a_log_that_contradicts_what_was_signed_is_refused() {
    let bench = sample();
    let whole = bench.bytes();
    let last = whole
        .windows(8)
        .rposition(|at| at == b"{\"block\"")
        .unwrap();
    for cut in [last, last + 30] {
        fs::write(&bench.log, &whole[..cut]).unwrap();
        refused(bench.open(), "was signed");
    }
    let mut changed = whole.clone();
    let at = whole.len() - 500;
    changed[at] ^= 1;
    fs::write(&bench.log, &changed).unwrap();
    refused(bench.open(), "was changed");
    fs::write(&bench.log, b"").unwrap();
    refused(bench.open(), "emptied");
    fs::write(&bench.log, &whole).unwrap();
    bench.open().unwrap();
}

#[test]
fn a_checkpoint_cut_in_half_is_set_aside_when_all_it_signed_is_there() {
    let bench = sample();
    let whole = bench.bytes();
    fs::write(&bench.log, &whole[..whole.len() - 5]).unwrap();
    bench.open().unwrap();
    let report = bench.verify(&bench.bytes());
    assert_eq!(
        (report.outcome, report.entries, report.warnings[0].kind),
        (Outcome::Verified, 8, "recovery")
    );
}

#[test]
fn a_log_put_in_the_place_of_another_names_it() {
    let bench = sample();
    let id = bench.id();
    fs::remove_file(&bench.log).unwrap();
    bench.open().unwrap();
    let text = String::from_utf8(bench.bytes()).unwrap();
    assert!(
        text.contains(&format!(
            "\"replaces\":{{\"log\":\"{id}\",\"size\":7,\"root\":\""
        )),
        "{text}"
    );
}

#[test]
fn an_unsigned_tail_that_was_lost_is_recorded() {
    let bench = sample();
    let whole = bench.bytes();
    bench
        .open()
        .unwrap()
        .append(&[exec(5), exec(6)], Seal::No)
        .unwrap();
    fs::write(&bench.log, &whole).unwrap();
    bench.open().unwrap().seal(false).unwrap();
    let report = bench.verify(&bench.bytes());
    assert_eq!(
        (report.outcome, report.warnings[0].detail.as_str()),
        (Outcome::Verified, "tail_lost")
    );
}

#[test]
fn forgotten_heads_are_rebuilt_and_recorded() {
    let bench = sample();
    fs::remove_file(bench.places.heads().join(bench.id())).unwrap();
    bench
        .open()
        .unwrap()
        .append(&[exec(5)], Seal::Sign)
        .unwrap();
    let report = bench.verify(&bench.bytes());
    assert_eq!(
        (report.outcome, report.warnings[0].detail.as_str()),
        (Outcome::Verified, "memory_lost")
    );
}

#[test]
fn links_strangers_and_open_doors_are_refused() {
    let bench = sample();
    let elsewhere = bench.dir.path().join("elsewhere");
    fs::hard_link(&bench.log, &elsewhere).unwrap();
    refused(bench.open(), "hard links");
    fs::remove_file(&bench.log).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &bench.log).unwrap();
    refused(bench.open(), "symbolic link");
    fs::remove_file(&bench.log).unwrap();
    fs::rename(&elsewhere, &bench.log).unwrap();
    fs::set_permissions(&bench.log, fs::Permissions::from_mode(0o622)).unwrap();
    refused(bench.open(), "chmod 600");
    fs::set_permissions(&bench.log, fs::Permissions::from_mode(0o600)).unwrap();
    bench.open().unwrap();
    let other = Places {
        data: bench.dir.path().join("other"),
        state: bench.dir.path().join("other-state"),
    };
    refused(Writer::open(&bench.log, &other), "signed by another key");
    fs::remove_file(&bench.log).unwrap();
    fs::create_dir(&bench.log).unwrap();
    refused(bench.open(), "directory");
}

#[test]
fn a_log_removed_or_linked_while_it_is_written_is_noticed() {
    let bench = sample();
    let mut writer = bench.open().unwrap();
    fs::remove_file(&bench.log).unwrap();
    assert!(
        writer
            .append(&[exec(1)], Seal::No)
            .unwrap_err()
            .to_string()
            .contains("removed")
    );
}

#[test]
fn a_clock_that_goes_back_is_recorded() {
    let bench = sample();
    let mut writer = bench.open().unwrap();
    let now = Stamp::now();
    let ahead = Stamp {
        wall: now.wall + 60_000_000,
        mono: now.mono,
    };
    writer.append(&[exec(1).at(ahead)], Seal::No).unwrap();
    let positions = writer.append(&[exec(2)], Seal::Sign).unwrap();
    assert_eq!(
        writer.append(&[exec(3)], Seal::Sign).unwrap().first,
        positions.first + 1
    );
    let report = bench.verify(&bench.bytes());
    assert_eq!(
        (report.outcome, report.warned, report.warnings[0].kind),
        (Outcome::Verified, 1, "clock")
    );
    assert_eq!(report.warnings[0].seq + 1, positions.first);
}

#[test]
fn what_was_lost_is_a_gap() {
    let bench = sample();
    let mut writer = bench.open().unwrap();
    writer.lose(Stamp::now(), 3, "the queue was full");
    writer.append(&[exec(1)], Seal::Sign).unwrap();
    let report = bench.verify(&bench.bytes());
    assert_eq!(
        report.warnings[0].detail,
        "3 events lost: the queue was full"
    );
}

#[test]
fn an_invalid_entry_writes_nothing_and_breaks_nothing() {
    let bench = sample();
    let before = bench.bytes();
    let mut writer = bench.open().unwrap();
    for bad in [
        Entry::new("log.created", None),
        Entry::new("Bad", None),
        exec(1).with("n", 2u8),
    ] {
        assert!(matches!(
            writer.append(&[exec(0), bad], Seal::Sign),
            Err(Error::Entry { .. })
        ));
    }
    assert_eq!(bench.bytes(), before);
    writer.append(&[exec(1)], Seal::Sign).unwrap();
    assert_eq!(
        (bench.outcome(), bench.verify(&bench.bytes()).warned),
        (Outcome::Verified, 0)
    );
}

#[test]
fn foreign_bytes_at_the_end_are_refused_not_followed() {
    let bench = sample();
    OpenOptions::new()
        .append(true)
        .open(&bench.log)
        .unwrap()
        .write_all(b"hello\n")
        .unwrap();
    refused(bench.open(), "not a block header");
    assert_eq!(bench.outcome(), Outcome::Malformed);
}

#[test]
fn secrets_never_reach_the_disk() {
    let bench = Bench::new();
    let command = vec![
        "curl",
        "-H",
        "Authorization: Bearer s3cr3tvalue",
        "https://u:hunter2@host/?token=abc123",
    ];
    let started = Entry::new("run.started", Some("r-1"))
        .with("command", command)
        .with("environment", vec!["API_KEY=xyzzy"]);
    bench
        .open()
        .unwrap()
        .append(&[started], Seal::Sync)
        .unwrap();
    let text = String::from_utf8(bench.bytes()).unwrap();
    for secret in ["s3cr3tvalue", "hunter2", "abc123", "xyzzy"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert!(text.matches("[redacted:").count() == 4 && text.contains("host/?token="));
}

fn lines(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_change_is_found(which in 0usize..6, a in any::<usize>(), b in any::<usize>(), bit in 0u8..8) {
        thread_local!(static BENCH: Bench = sample());
        BENCH.with(|bench| {
            let whole = bench.bytes();
            let (mut bytes, mut rows) = (whole.clone(), lines(&whole));
            let (x, y) = (a % rows.len(), b % rows.len());
            match which {
                0 => bytes[a % whole.len()] ^= 1 << bit,
                1 => { rows.remove(x); bytes = rows.concat(); }
                2 => { rows.swap(x, y); bytes = rows.concat(); }
                3 => { let row = rows[x].clone(); rows.insert(y, row); bytes = rows.concat(); }
                4 => { bytes.insert(a % whole.len(), b as u8); }
                _ => bytes.truncate(a % whole.len()),
            }
            if bytes != whole {
                let outcome = bench.verify(&bytes).outcome;
                prop_assert!(outcome != Outcome::Verified, "kind {} at {} {}", which, a % whole.len(), b);
            }
            Ok(())
        })?;
    }
}

/// Deterministic mutations of every shared vector: no panic, and nothing but the sound one verifies.
#[test]
fn mutated_logs_never_verify_and_never_panic() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/audit");
    let sound = fs::read(dir.join("sound.log")).unwrap();
    let expected: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(dir.join("expected.json")).unwrap()).unwrap();
    let key = VKey::parse(expected[0]["key"].as_str().unwrap()).unwrap();
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let mut seeds: Vec<Vec<u8>> = fs::read_dir(&dir)
        .unwrap()
        .map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect();
    seeds.retain(|seed| seed.len() < 20_000 && !seed.is_empty());
    seeds.sort();
    let scratch = tempfile::tempfile().unwrap();
    for _ in 0..1500 {
        let mut bytes = seeds[random() % seeds.len()].clone();
        for _ in 0..1 + random() % 4 {
            let at = random() % bytes.len().max(1);
            match random() % 5 {
                0 if !bytes.is_empty() => bytes[at] = random() as u8,
                1 => bytes.insert(at.min(bytes.len()), b"\n\"{}[],:0-\\u\xff"[random() % 13]),
                2 => bytes.truncate(at),
                3 => {
                    let other = &seeds[random() % seeds.len()];
                    let from = random() % other.len();
                    bytes.extend_from_slice(&other[from..]);
                }
                _ => {
                    bytes.drain(at.min(bytes.len())..(at + random() % 300).min(bytes.len()));
                }
            }
        }
        scratch.set_len(0).unwrap();
        scratch.write_all_at(&bytes, 0).unwrap();
        let genesis = genesis::read(&scratch, "x".as_ref()).ok().flatten();
        let options = Options {
            key: Some((key.clone(), "given")),
            ..Options::default()
        };
        let report = verify(
            &scratch,
            bytes.len() as u64,
            &options,
            genesis.as_ref(),
            &mut |_| {},
        )
        .unwrap()
        .report;
        // A sound beginning verifies: cutting is what remembered heads are for.
        assert!(
            report.outcome != Outcome::Verified || sound.starts_with(&bytes),
            "{}",
            String::from_utf8_lossy(&bytes)
        );
    }
}
