//! What a run was seen to use: `docs/formats/observation.md`.
//!
//! Gathered from the monitor's events, which come from a process that parses hostile bytes: names are only ever
//! written down. Names under which something was read are followed on the host where they are links, so that a
//! suggestion grants what is really read. It refuses nothing; what cannot be kept is counted as lost.

use crate::monitor::wire::{Event, Layer, Operation, SeenFile};
use serde::Serialize;
use std::collections::BTreeMap;

/// Names that are kept.
const MOST_NAMES: usize = 400_000;

/// Uses of one name.
#[derive(Debug, Default, Clone, Serialize, PartialEq, Eq)]
pub struct File {
    path: String,
    read: u64,
    write: u64,
    create: u64,
    remove: u64,
    change: u64,
    execute: u64,
    list: u64,
    absent: u64,
    refused: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Address {
    count: u64,
    refused: u64,
}

/// Everything seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    syscalls: BTreeMap<String, u64>,
    files: BTreeMap<String, File>,
    programs: BTreeMap<String, u64>,
    addresses: BTreeMap<(String, &'static str), Address>,
    lost: u64,
}

/// What an observation says beside what was seen.
#[derive(Debug, Serialize)]
pub struct Frame<'a> {
    /// As in the report.
    pub command: &'a [String],
    /// What `./` means.
    pub workspace: &'a str,
    /// What `~/` means; empty without a home.
    pub home: &'a str,
    /// As in the report.
    pub cause: &'a serde_json::Value,
    /// As in the report.
    pub code: u8,
    /// System calls that were allowed and not watched.
    pub implied: &'a [String],
}

impl Observation {
    /// Take in one event.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Observed {
                syscalls,
                files,
                lost,
            } => {
                for (name, count) in syscalls {
                    *self.syscalls.entry(name.clone()).or_default() += count;
                }
                for seen in files {
                    self.merge(seen);
                }
                self.lost += lost;
            }
            Event::Exec { program, .. } => {
                *self.programs.entry(program.clone()).or_default() += 1;
                self.file(program, |file| file.execute += 1);
            }
            Event::Connect { target, .. } => {
                self.address(target, "connect", |address| address.count += 1)
            }
            // Nobody was there, inside or on the host: no rule is missing, and yet somebody may be meant to be there.
            Event::Denied { count, denial, .. }
                if denial.probe && denial.operation == Operation::Connect =>
            {
                self.address(&denial.target, "unanswered", |a| a.count += count)
            }
            Event::Denied { count, denial, .. } => match denial.operation {
                Operation::Connect => {
                    self.address(&denial.target, "connect", |a| refused(a, *count))
                }
                Operation::Bind => self.address(&denial.target, "bind", |a| refused(a, *count)),
                Operation::Send => self.address(&denial.target, "send", |a| refused(a, *count)),
                Operation::Syscall => {}
                // No line of a policy speaks to these.
                _ if matches!(denial.layer, Layer::Seccomp | Layer::Permissions) => {}
                _ => self.file(&denial.target, |file| file.refused += count),
            },
            _ => {}
        }
    }

    fn merge(&mut self, seen: &SeenFile) {
        let mut path = seen.path.clone();
        let mut directory = false;
        if seen.read > 0
            && let Ok(real) = std::fs::canonicalize(&path)
        {
            directory = real.is_dir();
            path = crate::monitor::wire::text(real.as_os_str().as_encoded_bytes());
        }
        self.file(&path, |file| {
            *if directory {
                &mut file.list
            } else {
                &mut file.read
            } += seen.read;
            file.write += seen.write;
            file.create += seen.create;
            file.remove += seen.remove;
            file.change += seen.change;
            file.absent += seen.absent;
        });
    }

    fn file(&mut self, path: &str, change: impl FnOnce(&mut File)) {
        if !path.starts_with('/') {
            return;
        }
        if !self.files.contains_key(path) && self.files.len() >= MOST_NAMES {
            self.lost += 1;
            return;
        }
        let file = self.files.entry(path.to_owned()).or_default();
        if file.path.is_empty() {
            path.clone_into(&mut file.path);
        }
        change(file);
    }

    fn address(
        &mut self,
        address: &str,
        operation: &'static str,
        change: impl FnOnce(&mut Address),
    ) {
        change(
            self.addresses
                .entry((address.to_owned(), operation))
                .or_default(),
        );
    }

    /// Names of the calls that were counted.
    #[must_use]
    pub fn counted(&self) -> std::collections::BTreeSet<String> {
        self.syscalls.keys().cloned().collect()
    }

    /// The document.
    #[must_use]
    pub fn document(&self, frame: &Frame) -> serde_json::Value {
        let pairs = |map: &BTreeMap<String, u64>, key: &str| -> Vec<serde_json::Value> {
            map.iter()
                .map(|(name, count)| serde_json::json!({key: name, "count": count}))
                .collect()
        };
        let addresses: Vec<serde_json::Value> = self
            .addresses
            .iter()
            .map(|((address, operation), seen)| {
                serde_json::json!({"address": address, "operation": operation, "count": seen.count, "refused": seen.refused})
            })
            .collect();
        let files: Vec<&File> = self.files.values().collect();
        serde_json::json!({
            "observation": 1,
            "runs": 1,
            "command": frame.command,
            "workspace": frame.workspace,
            "home": frame.home,
            "cause": frame.cause,
            "code": frame.code,
            "syscalls": pairs(&self.syscalls, "name"),
            "implied": frame.implied,
            "files": files,
            "programs": pairs(&self.programs, "path"),
            "addresses": addresses,
            "lost": self.lost,
        })
    }
}

fn refused(address: &mut Address, count: u64) {
    address.count += count;
    address.refused += count;
}
