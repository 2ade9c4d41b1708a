//! A log of its own for each test, and what the verifier says of it.

#![allow(dead_code, reason = "each test program uses a part")]

use std::fs::{self, File};
use std::path::PathBuf;

use capsule::audit::checkpoint::VKey;
use capsule::audit::heads::Memory;
use capsule::audit::outcome::{Outcome, Report};
use capsule::audit::verifier::{Options, verify};
use capsule::audit::{Entry, Error, Places, Seal, Writer, genesis};

pub struct Bench {
    pub dir: tempfile::TempDir,
    pub places: Places,
    pub log: PathBuf,
}

impl Bench {
    pub fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let places = Places {
            data: dir.path().join("data"),
            state: dir.path().join("state"),
        };
        let log = dir.path().join("capsule.log");
        Bench { dir, places, log }
    }

    pub fn open(&self) -> Result<Writer, Error> {
        Writer::open(&self.log, &self.places)
    }

    pub fn bytes(&self) -> Vec<u8> {
        fs::read(&self.log).unwrap()
    }

    /// What the verifier says of `bytes`, knowing the key and what is remembered.
    pub fn verify(&self, bytes: &[u8]) -> Report {
        let path = self.dir.path().join("copy.log");
        fs::write(&path, bytes).unwrap();
        let id = self.id();
        let head = Memory::existing(&self.places, &id)
            .unwrap()
            .unwrap()
            .read()
            .unwrap()
            .unwrap();
        let file = File::open(&path).unwrap();
        let genesis = genesis::read(&file, &path).ok().flatten();
        let key = VKey::parse(&head.key).map(|key| (key, "remembered"));
        let options = Options {
            key,
            remembered: Some(head),
            ..Options::default()
        };
        verify(
            &file,
            bytes.len() as u64,
            &options,
            genesis.as_ref(),
            &mut |_| {},
        )
        .unwrap()
        .report
    }

    pub fn id(&self) -> String {
        fs::read_dir(self.places.heads())
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .file_name()
            .into_string()
            .unwrap()
    }

    pub fn outcome(&self) -> Outcome {
        self.verify(&self.bytes()).outcome
    }
}

pub fn exec(n: u64) -> Entry {
    Entry::new("exec", Some("r-1"))
        .with("n", n)
        .with("program", "/usr/bin/true")
}

pub fn sample() -> Bench {
    let bench = Bench::new();
    let mut writer = bench.open().unwrap();
    writer
        .append(&[Entry::new("run.started", Some("r-1"))], Seal::Sign)
        .unwrap();
    writer
        .append(&[exec(1), exec(2), exec(3)], Seal::No)
        .unwrap();
    writer.append(&[exec(4)], Seal::No).unwrap();
    writer
        .append(&[Entry::new("run.ended", Some("r-1"))], Seal::Sync)
        .unwrap();
    bench
}
