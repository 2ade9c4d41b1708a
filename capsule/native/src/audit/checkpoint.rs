//! Checkpoints: C2SP `tlog-checkpoint` bodies in C2SP `signed-note`s, signed with Ed25519.
//!
//! The first lines are the origin (`capsule.log/<log id>`), the size, the root; one more line,
//! `blake3 <hex>`, ties the note to the chain of blocks. Refuses notes with anything that could be written
//! in two ways: other base64 paddings, leading zeros, further extension lines, missing newlines.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::chain::{Digest, hex, unhex};
use super::merkle::Node;

/// The signed-note signature type of Ed25519.
const ED25519: u8 = 0x01;
/// No checkpoint is longer.
pub const MAX_NOTE: usize = 16 * 1024;

/// What a checkpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// `capsule.log/<log id>`.
    pub origin: String,
    /// The number of entries.
    pub size: u64,
    /// The root of the tree over them.
    pub root: Node,
    /// The chain digest of the last block's header and entries.
    pub chain: Digest,
}

/// A checkpoint with its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it says.
    pub body: Body,
    /// Key name, key hash, signature, in the order found.
    pub signatures: Vec<(String, [u8; 4], Vec<u8>)>,
    text: String,
}

/// A public key with its name: C2SP "vkey".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VKey {
    /// The name: the origin of the log it signs.
    pub name: String,
    key: VerifyingKey,
    hash: [u8; 4],
}

/// Why a note was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No signature is by this key.
    UnknownKey,
    /// This key's signature does not fit.
    BadSignature,
}

/// The origin of the log with this id.
pub fn origin(log: &str) -> String {
    format!("capsule.log/{log}")
}

impl Body {
    fn render(&self) -> String {
        format!(
            "{}\n{}\n{}\nblake3 {}\n",
            self.origin,
            self.size,
            STANDARD.encode(self.root),
            hex(&self.chain)
        )
    }

    /// The signed note of this body.
    pub fn sign(&self, key: &SigningKey, vkey: &VKey) -> String {
        let body = self.render();
        let mut signature = vkey.hash.to_vec();
        signature.extend(key.sign(body.as_bytes()).to_bytes());
        format!(
            "{body}\n\u{2014} {} {}\n",
            vkey.name,
            STANDARD.encode(signature)
        )
    }
}

impl Note {
    /// Reads a note; `None` for anything that is not exactly one.
    pub fn parse(text: &str) -> Option<Note> {
        if text.len() > MAX_NOTE {
            return None;
        }
        let (body, signatures) = text.split_once("\n\n")?;
        let mut lines = body.split('\n');
        let origin = lines.next().filter(|name| plain_name(name))?.to_owned();
        let size = decimal(lines.next()?)?;
        let root = STANDARD.decode(lines.next()?).ok()?.try_into().ok()?;
        let chain = unhex(lines.next()?.strip_prefix("blake3 ")?.as_bytes())?;
        if lines.next().is_some() {
            return None;
        }
        let signatures = signatures
            .strip_suffix('\n')?
            .split('\n')
            .map(|line| {
                let (name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
                let signature = STANDARD.decode(signature).ok()?;
                let (hash, signature) = signature.split_first_chunk::<4>()?;
                plain_name(name).then(|| (name.to_owned(), *hash, signature.to_vec()))
            })
            .collect::<Option<Vec<_>>>()?;
        let text = text.to_owned();
        (!signatures.is_empty()).then_some(Note {
            body: Body {
                origin,
                size,
                root,
                chain,
            },
            signatures,
            text,
        })
    }

    /// The note as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether `key` signed this note.
    ///
    /// # Errors
    /// Which of the two ways it did not.
    pub fn verify(&self, key: &VKey) -> Result<(), Refusal> {
        let (_, _, signature) = self
            .signatures
            .iter()
            .find(|(name, hash, _)| *name == key.name && *hash == key.hash)
            .ok_or(Refusal::UnknownKey)?;
        let signature = Signature::from_slice(signature).map_err(|_| Refusal::BadSignature)?;
        // Strict: keys and commitments of small order verify under messages nobody signed.
        key.key
            .verify_strict(self.body.render().as_bytes(), &signature)
            .map_err(|_| Refusal::BadSignature)
    }
}

impl VKey {
    /// The public half of `key` under `name`.
    pub fn of(name: &str, key: &VerifyingKey) -> VKey {
        VKey {
            name: name.to_owned(),
            key: *key,
            hash: key_hash(name, key.as_bytes()),
        }
    }

    /// Reads `name+hash+base64`; `None` when it is not an Ed25519 vkey, or one of a weak key.
    pub fn parse(text: &str) -> Option<VKey> {
        let mut parts = text.splitn(3, '+');
        let (name, hash, key) = (parts.next()?, parts.next()?, parts.next()?);
        let key = STANDARD.decode(key).ok()?;
        let (&kind, key) = key.split_first()?;
        let key: [u8; 32] = key.try_into().ok()?;
        if key[31] & 0x7f == 0x7f && key[1..31] == [0xff; 30] && key[0] >= 0xed {
            // A y-coordinate from p on: a second way to write a point.
            return None;
        }
        let vkey = VKey::of(name, &VerifyingKey::from_bytes(&key).ok()?);
        let sound =
            kind == ED25519 && plain_name(name) && unhex(hash.as_bytes()) == Some(vkey.hash);
        (sound && !vkey.key.is_weak()).then_some(vkey)
    }

    /// `name+hash+base64`.
    pub fn render(&self) -> String {
        let mut key = vec![ED25519];
        key.extend(self.key.as_bytes());
        format!("{}+{}+{}", self.name, hex(&self.hash), STANDARD.encode(key))
    }

    /// Whether both are the same key, whatever they are called.
    pub fn same_key(&self, other: &VKey) -> bool {
        self.key == other.key
    }
}

fn key_hash(name: &str, key: &[u8; 32]) -> [u8; 4] {
    let mut hash = Sha256::new();
    hash.update(name);
    hash.update([b'\n', ED25519]);
    hash.update(key);
    let digest = hash.finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

/// C2SP: a key name is not empty and has neither spaces nor plus; ours are also printable ASCII.
fn plain_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'+')
}

/// A decimal number below 2^53 without leading zeros.
pub fn decimal(text: &str) -> Option<u64> {
    let plain = text == "0"
        || (!text.starts_with('0') && text.len() <= 16 && text.bytes().all(|b| b.is_ascii_digit()));
    text.parse()
        .ok()
        .filter(|number| plain && *number < 1 << 53)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn signed() -> (String, VKey) {
        let key = SigningKey::from_bytes(&[7; 32]);
        let vkey = VKey::of("capsule.log/00", &key.verifying_key());
        let body = Body {
            origin: "capsule.log/00".into(),
            size: 12,
            root: [3; 32],
            chain: [4; 32],
        };
        (body.sign(&key, &vkey), vkey)
    }

    #[test]
    fn a_note_reads_back_and_verifies() {
        let (text, vkey) = signed();
        let note = Note::parse(&text).unwrap();
        assert_eq!(note.verify(&vkey), Ok(()));
        assert_eq!(VKey::parse(&vkey.render()), Some(vkey.clone()));
        let other = VKey::of(
            "capsule.log/00",
            &SigningKey::from_bytes(&[8; 32]).verifying_key(),
        );
        assert_eq!(note.verify(&other), Err(Refusal::UnknownKey));
        let renamed = VKey::of(
            "capsule.log/01",
            &SigningKey::from_bytes(&[7; 32]).verifying_key(),
        );
        assert_eq!(note.verify(&renamed), Err(Refusal::UnknownKey));
    }

    #[test]
    fn weak_keys_and_other_algorithms_are_refused() {
        let mut identity = [0u8; 32];
        identity[0] = 1;
        let weak = VKey::of("n", &VerifyingKey::from_bytes(&identity).unwrap());
        assert_eq!(VKey::parse(&weak.render()), None);
        let (_, vkey) = signed();
        let mut raw = vec![0x02];
        raw.extend(vkey.key.as_bytes());
        assert_eq!(
            VKey::parse(&format!(
                "{}+{}+{}",
                vkey.name,
                hex(&vkey.hash),
                STANDARD.encode(raw)
            )),
            None
        );
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_found(at in any::<usize>(), bit in 0u8..8) {
            let (text, vkey) = signed();
            let mut bytes = text.into_bytes();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            let accepted = String::from_utf8(bytes).ok().and_then(|text| Note::parse(&text)).map(|note| note.verify(&vkey));
            prop_assert_ne!(accepted, Some(Ok(())));
        }

        #[test]
        fn whatever_the_text_reading_never_panics(text in ".*") {
            let _ = (Note::parse(&text), VKey::parse(&text));
        }
    }
}
