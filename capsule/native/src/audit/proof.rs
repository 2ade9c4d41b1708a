//! Inclusion proofs as C2SP `tlog-proof` text: one entry, its path in the tree, the signed checkpoint; checked offline.
//!
//! The entry's line travels in the bundle's `extra`, so the text alone is enough. Refuses bundles with anything that
//! could be written in two ways, and paths over 63 hashes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::{Note, Refusal, VKey, decimal};
use super::merkle::{InclusionBuilder, Node, leaf, root_from_inclusion};

/// The first line of every bundle.
const MAGIC: &str = "c2sp.org/tlog-proof@v1";
/// No bundle is longer.
pub const MAX_BUNDLE: usize = 256 * 1024;

/// One entry's proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The entry's line, without its newline; empty when it is not in the bundle.
    pub entry: Vec<u8>,
    /// The entry's seq.
    pub index: u64,
    /// The hashes from the leaf's sibling up.
    pub path: Vec<Node>,
    /// The checkpoint.
    pub note: Note,
}

/// Why a proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The path does not lead from the entry to the checkpoint's root.
    Path,
    /// The checkpoint is signed by another key.
    Key,
    /// The signature does not fit.
    Signature,
}

impl Bundle {
    /// The text.
    pub fn render(&self) -> String {
        let hashes: String = self
            .path
            .iter()
            .map(|node| format!("{}\n", STANDARD.encode(node)))
            .collect();
        let extra = if self.entry.is_empty() {
            String::new()
        } else {
            format!("extra {}\n", STANDARD.encode(&self.entry))
        };
        format!(
            "{MAGIC}\n{extra}index {}\n{hashes}\n{}",
            self.index,
            self.note.text()
        )
    }

    /// Reads a bundle; `None` for anything that is not exactly one.
    pub fn parse(text: &str) -> Option<Bundle> {
        if text.len() > MAX_BUNDLE {
            return None;
        }
        let (head, note) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        if lines.next()? != MAGIC {
            return None;
        }
        let mut line = lines.next()?;
        let mut entry = Vec::new();
        if let Some(extra) = line.strip_prefix("extra ") {
            entry = STANDARD.decode(extra).ok()?;
            line = lines.next()?;
        }
        let index = decimal(line.strip_prefix("index ")?)?;
        let path = lines
            .map(|line| STANDARD.decode(line).ok()?.try_into().ok())
            .collect::<Option<Vec<Node>>>()?;
        let note = Note::parse(note)?;
        (path.len() <= 63).then_some(Bundle {
            entry,
            index,
            path,
            note,
        })
    }

    /// Whether the path leads from `entry` to the checkpoint's root, whoever signed that.
    pub fn leads_from(&self, entry: &[u8]) -> bool {
        let body = &self.note.body;
        root_from_inclusion(self.index, body.size, leaf(entry), &self.path) == Some(body.root)
    }

    /// Checks that `entry` is at the index of the tree that `key` signed.
    ///
    /// # Errors
    /// Why it is not shown.
    pub fn check(&self, entry: &[u8], key: &VKey) -> Result<(), Broken> {
        if !self.leads_from(entry) {
            return Err(Broken::Path);
        }
        self.note.verify(key).map_err(|refusal| match refusal {
            Refusal::UnknownKey => Broken::Key,
            Refusal::BadSignature => Broken::Signature,
        })
    }
}

/// Gathers a proof while the log's entries pass by.
pub struct Prover {
    builder: InclusionBuilder,
    index: u64,
    next: u64,
    entry: Vec<u8>,
    note: Note,
}

impl Prover {
    /// A proof for entry `index` under `note`; `None` when the note does not cover it.
    pub fn new(index: u64, note: Note) -> Option<Prover> {
        let builder = InclusionBuilder::new(index, note.body.size)?;
        Some(Prover {
            builder,
            index,
            next: 0,
            entry: Vec::new(),
            note,
        })
    }

    /// Takes the next entry's line (without its newline), from seq 0 on.
    pub fn push(&mut self, line: &[u8]) {
        self.builder.push(leaf(line));
        if self.next == self.index {
            self.entry = line.to_vec();
        }
        self.next += 1;
    }

    /// The proof; `None` unless every entry under the checkpoint has passed and the path leads to its root.
    pub fn bundle(self) -> Option<Bundle> {
        let bundle = Bundle {
            entry: self.entry,
            index: self.index,
            path: self.builder.proof(),
            note: self.note,
        };
        let body = &bundle.note.body;
        let root = root_from_inclusion(bundle.index, body.size, leaf(&bundle.entry), &bundle.path);
        (self.next >= body.size && root == Some(body.root)).then_some(bundle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::checkpoint::Body;
    use crate::audit::merkle::Frontier;
    use ed25519_dalek::SigningKey;
    use proptest::prelude::*;

    fn bundle(index: u64, size: u64) -> (Bundle, VKey) {
        let lines: Vec<String> = (0..size).map(|n| format!("entry {n}")).collect();
        let mut tree = Frontier::default();
        lines
            .iter()
            .for_each(|line| tree.push(leaf(line.as_bytes())));
        let key = SigningKey::from_bytes(&[7; 32]);
        let vkey = VKey::of("capsule.log/00", &key.verifying_key());
        let body = Body {
            origin: vkey.name.clone(),
            size,
            root: tree.root(),
            chain: [0; 32],
        };
        let mut prover = Prover::new(index, Note::parse(&body.sign(&key, &vkey)).unwrap()).unwrap();
        lines.iter().for_each(|line| prover.push(line.as_bytes()));
        (prover.bundle().unwrap(), vkey)
    }

    #[test]
    fn a_proof_survives_as_text_and_shows_only_its_entry() {
        let (bundle, key) = bundle(5, 13);
        let read = Bundle::parse(&bundle.render()).unwrap();
        assert_eq!(read, bundle);
        assert_eq!(read.check(b"entry 5", &key), Ok(()));
        assert_eq!(read.check(b"entry 6", &key), Err(Broken::Path));
        let other = VKey::of(
            "capsule.log/00",
            &SigningKey::from_bytes(&[8; 32]).verifying_key(),
        );
        assert_eq!(read.check(b"entry 5", &other), Err(Broken::Key));
    }

    #[test]
    fn entries_beyond_the_checkpoint_have_no_proof() {
        let (bundle, _) = bundle(5, 13);
        assert!(Prover::new(13, bundle.note).is_none());
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_found(at in any::<usize>(), bit in 0u8..8) {
            let (bundle, key) = bundle(3, 11);
            let mut text = bundle.render().into_bytes();
            let at = at % text.len();
            text[at] ^= 1 << bit;
            let held = String::from_utf8(text).ok().and_then(|text| Bundle::parse(&text)).map(|read| read.check(&read.entry, &key));
            prop_assert_ne!(held, Some(Ok(())));
        }
    }
}
