//! What a verification comes to: one outcome with its exit code, what was checked, what deserves a look.

use serde_json::{Value, json};

use super::scan::{Fault, Kind};

/// The one thing a verification comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Authenticated and complete up to the named checkpoint.
    Verified,
    /// Internally consistent; no key was given or known.
    Unauthenticated,
    /// A line that is not of this format.
    Malformed,
    /// A block does not match the hash after it.
    ChainBroken,
    /// A checkpoint is not the tree's.
    TreeBroken,
    /// A signature does not fit.
    BadSignature,
    /// Signed by a key that is not the one given.
    UnknownKey,
    /// Shorter than a remembered or given head.
    Truncated,
    /// An older, complete copy.
    RolledBack,
    /// Differs from a remembered or given head.
    Forked,
    /// Names other algorithms.
    Algorithm,
    /// Ends within a block.
    Torn,
    /// Sound entries after the last checkpoint.
    Unsealed,
}

impl Outcome {
    /// Its name and its exit code.
    pub fn code(self) -> (&'static str, u8) {
        match self {
            Outcome::Verified => ("verified", 0),
            Outcome::Unauthenticated => ("unauthenticated", 3),
            Outcome::Malformed => ("malformed", 10),
            Outcome::ChainBroken => ("chain_broken", 11),
            Outcome::TreeBroken => ("tree_broken", 12),
            Outcome::BadSignature => ("bad_signature", 13),
            Outcome::UnknownKey => ("unknown_key", 14),
            Outcome::Truncated => ("truncated", 15),
            Outcome::RolledBack => ("rolled_back", 16),
            Outcome::Forked => ("forked", 17),
            Outcome::Algorithm => ("algorithm", 18),
            Outcome::Torn => ("torn", 19),
            Outcome::Unsealed => ("unsealed", 20),
        }
    }
}

impl From<Kind> for Outcome {
    fn from(kind: Kind) -> Outcome {
        match kind {
            Kind::Malformed => Outcome::Malformed,
            Kind::Chain => Outcome::ChainBroken,
            Kind::Tree => Outcome::TreeBroken,
            Kind::Signature => Outcome::BadSignature,
            Kind::Key => Outcome::UnknownKey,
            Kind::Algorithm => Outcome::Algorithm,
            Kind::Torn => Outcome::Torn,
        }
    }
}

/// Something that deserves a look, though it breaks nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// `unclosed`, `gap`, `recovery`, `clock`, `policy_changed`, `degraded` or `replaced`.
    pub kind: &'static str,
    /// Where.
    pub seq: u64,
    /// The run, or what it says.
    pub detail: String,
}

/// Everything a verification found.
#[derive(Debug, Clone)]
pub struct Report {
    /// What it comes to.
    pub outcome: Outcome,
    /// Why, when it is not `verified`.
    pub fault: Option<Fault>,
    /// The log's id, if it could be read.
    pub log: Option<String>,
    /// Sound entries.
    pub entries: u64,
    /// Sound blocks.
    pub blocks: u64,
    /// Sound bytes.
    pub bytes: u64,
    /// Checkpoints found good.
    pub checkpoints: u64,
    /// How many entries the newest of them covers.
    pub sealed: u64,
    /// The newest checkpoint, a signed note; empty when there is none.
    pub note: String,
    /// Whose key was used: `given`, `own`, `remembered` or `log` (the log's own word).
    pub key_from: &'static str,
    /// The vkey.
    pub key: Option<String>,
    /// The size of the head that was remembered here.
    pub remembered: Option<u64>,
    /// The size of the checkpoint that was given.
    pub since: Option<u64>,
    /// Whether only the chain was checked.
    pub quick: bool,
    /// At most [`MAX_WARNINGS`] of what deserves a look.
    pub warnings: Vec<Warning>,
    /// How many there were.
    pub warned: u64,
}

/// So many warnings are kept; the rest are counted.
pub const MAX_WARNINGS: usize = 100;

/// One kind of attack, what finds it, and whether that was checked.
pub struct Row {
    /// The attack.
    pub attack: &'static str,
    /// Whether this verification would have found it.
    pub checked: bool,
    /// In words: up to where, or what would be needed.
    pub how: String,
}

impl Report {
    /// The report of a log that was not looked at, because what it was to be compared with does not fit it.
    pub fn unread(outcome: Outcome, why: String, log: Option<String>) -> Report {
        Report {
            outcome,
            fault: Some(Fault {
                kind: Kind::Malformed,
                block: 0,
                seq: 0,
                offset: 0,
                why,
            }),
            log,
            entries: 0,
            blocks: 0,
            bytes: 0,
            checkpoints: 0,
            sealed: 0,
            note: String::new(),
            key_from: "none",
            key: None,
            remembered: None,
            since: None,
            quick: false,
            warnings: Vec::new(),
            warned: 0,
        }
    }

    /// The table of attacks: which of them this verification could and could not have found.
    pub fn rows(&self) -> Vec<Row> {
        let signed = self.checkpoints > 0 && self.key_from != "log";
        let held = self.remembered.max(self.since);
        let row = |attack, checked, yes: String, no: &str| Row {
            attack,
            checked,
            how: if checked { yes } else { no.to_owned() },
        };
        let against = |size: u64| format!("against a head of {size} entries");
        vec![
            row(
                "edited, dropped, reordered or inserted in the middle",
                true,
                format!("{} blocks", self.blocks),
                "",
            ),
            row(
                "tail cut",
                held.is_some(),
                against(held.unwrap_or(0)),
                "no head of this log is remembered here: give one you kept with --since",
            ),
            row(
                "rebuilt without the key",
                signed,
                format!(
                    "{} signed checkpoints, the newest over {} entries",
                    self.checkpoints, self.sealed
                ),
                "no key is known: give the log's with --key",
            ),
            row(
                "rolled back to an older copy",
                held.is_some(),
                against(held.unwrap_or(0)),
                "no head of this log is remembered here: give one you kept with --since",
            ),
            row(
                "rebuilt with the key",
                self.since.is_some(),
                against(self.since.unwrap_or(0)),
                "only a checkpoint kept elsewhere finds it: give one with --since",
            ),
            row(
                "an event never written",
                false,
                String::new(),
                "no log can show it",
            ),
        ]
    }

    /// The process's exit code.
    pub fn exit(&self, strict: bool) -> u8 {
        match self.outcome.code().1 {
            0 if strict && self.warned > 0 => 21,
            code => code,
        }
    }

    /// As one JSON object.
    pub fn json(&self, path: &str, strict: bool) -> Value {
        json!({
            "capsule": 1,
            "outcome": self.outcome.code().0,
            "exit": self.exit(strict),
            "log": {"path": path, "id": self.log, "entries": self.entries, "blocks": self.blocks, "bytes": self.bytes},
            "fault": self.fault.as_ref().map(|fault| json!({"block": fault.block, "seq": fault.seq, "offset": fault.offset, "why": fault.why})),
            "checkpoints": self.checkpoints,
            "sealed": self.sealed,
            "checkpoint": if self.note.is_empty() { Value::Null } else { Value::from(self.note.as_str()) },
            "key": self.key,
            "key_from": self.key_from,
            "remembered": self.remembered,
            "since": self.since,
            "quick": self.quick,
            "warnings": self.warnings.iter().map(|warning| json!({"kind": warning.kind, "seq": warning.seq, "detail": warning.detail})).collect::<Vec<_>>(),
            "warnings_total": self.warned,
            "attacks": self.rows().iter().map(|row| json!({"attack": row.attack, "checked": row.checked, "how": row.how})).collect::<Vec<_>>(),
        })
    }
}
