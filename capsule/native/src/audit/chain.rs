//! The chain of blocks: one BLAKE3 digest over all bytes of a block, named in the header of the next.
//!
//! Domain-separated by BLAKE3's derive-key mode, so a digest made elsewhere over the same bytes is never
//! a link of a log. `Link::new()` then `update` with header, entries and checkpoint line.

/// The context of every chain digest (BLAKE3 derive-key mode).
pub const CONTEXT: &str = "capsule audit-log v1 block";

/// A 32-byte digest.
pub type Digest = [u8; 32];

/// What the first block names as its predecessor.
pub const START: Digest = [0; 32];

/// The digest of one block, as it is being fed.
#[derive(Clone)]
pub struct Link(blake3::Hasher);

impl Default for Link {
    fn default() -> Link {
        Link::new()
    }
}

impl Link {
    /// A digest of nothing yet.
    pub fn new() -> Link {
        thread_local! {
            // Deriving the context's key costs a hash; every block would pay it again.
            static FRESH: blake3::Hasher = blake3::Hasher::new_derive_key(CONTEXT);
        }
        FRESH.with(|fresh| Link(fresh.clone()))
    }

    /// Feeds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Link {
        self.0.update(bytes);
        self
    }

    /// The digest of all bytes so far; feeding may go on afterwards.
    pub fn digest(&self) -> Digest {
        *self.0.finalize().as_bytes()
    }
}

/// The digest of a whole block.
pub fn digest(block: &[u8]) -> Digest {
    Link::new().update(block).digest()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| {
            [
                DIGITS[usize::from(b >> 4)] as char,
                DIGITS[usize::from(b & 15)] as char,
            ]
        })
        .collect()
}

/// The bytes that lower-case hexadecimal `text` stands for; `None` for anything else.
pub fn unhex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let nibble = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (place, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *place = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_not_a_plain_digest() {
        assert_ne!(digest(b"x"), *blake3::hash(b"x").as_bytes());
        assert_eq!(
            digest(b"xy"),
            Link::new().update(b"x").update(b"y").digest()
        );
    }

    #[test]
    fn hexadecimal_is_strict() {
        assert_eq!(unhex::<2>(b"00ff"), Some([0, 255]));
        for text in [&b"00fF"[..], b"00f", b"00fg", b"00ff0"] {
            assert_eq!(unhex::<2>(text), None);
        }
        assert_eq!(hex(&[0, 255, 16]), "00ff10");
    }
}
