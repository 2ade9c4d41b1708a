//! The RFC 6962 tree over SHA-256: roots while leaves arrive, inclusion proofs, consistency.
//!
//! Leaves and nodes are hashed under different prefixes (0x00, 0x01), so no leaf can pose as a node.
//! Refuses proofs that are too short, too long, or for an index beyond the tree.
//!
//! ```
//! use capsule::audit::merkle::{Frontier, leaf};
//! let mut tree = Frontier::default();
//! tree.push(leaf(b"one"));
//! assert_eq!(tree.root(), leaf(b"one"));
//! ```

use sha2::digest::generic_array::GenericArray;
use sha2::{Digest as _, Sha256, compress256};

/// A node of the tree.
pub type Node = [u8; 32];

/// RFC 6962 §2.1: the hash of a leaf's data.
pub fn leaf(data: &[u8]) -> Node {
    prefixed(0, &[data])
}

/// RFC 6962 §2.1: the hash of two children.
pub fn parent(left: &Node, right: &Node) -> Node {
    prefixed(1, &[left, right])
}

/// The longest message that is padded here; longer ones go through the streaming interface.
const SHORT: usize = 512 - 1 - 9;

/// SHA-256 of `prefix` and `parts`. Most messages are a few blocks long: padding them in one buffer and compressing
/// that at once costs two thirds of what the streaming interface does (`examples/floor.rs`).
fn prefixed(prefix: u8, parts: &[&[u8]]) -> Node {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > SHORT {
        let mut hash = Sha256::new();
        hash.update([prefix]);
        parts.iter().for_each(|part| hash.update(part));
        return hash.finalize().into();
    }
    let mut bytes = [0u8; 512];
    bytes[0] = prefix;
    let mut at = 1;
    for part in parts {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    // FIPS 180-4 §5.1.1: a one bit, zeros, the length in bits.
    bytes[at] = 0x80;
    let end = (at + 9).div_ceil(64) * 64;
    bytes[end - 8..end].copy_from_slice(&(at as u64 * 8).to_be_bytes());
    let mut state = INITIAL;
    for block in bytes[..end].chunks_exact(64) {
        compress256(
            &mut state,
            std::slice::from_ref(GenericArray::from_slice(block)),
        );
    }
    let mut node = [0; 32];
    for (place, word) in node.chunks_exact_mut(4).zip(state) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    node
}

/// FIPS 180-4 §5.3.3.
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// RFC 6962 §2.1: the root of the tree without leaves.
pub fn empty() -> Node {
    Sha256::digest([]).into()
}

/// The roots of the perfect subtrees of a growing tree, largest first: all that is needed to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Node>,
}

impl Frontier {
    /// A frontier from its parts; `None` unless there is one peak for each one-bit of `size`.
    pub fn from_parts(size: u64, peaks: Vec<Node>) -> Option<Frontier> {
        (peaks.len() == size.count_ones() as usize).then_some(Frontier { size, peaks })
    }

    /// Adds a leaf hash.
    pub fn push(&mut self, leaf: Node) {
        let mut node = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = parent(&left, &node);
            }
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the perfect subtrees, largest first.
    pub fn peaks(&self) -> &[Node] {
        &self.peaks
    }

    /// The root of the tree so far.
    pub fn root(&self) -> Node {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return empty();
        };
        peaks.fold(*last, |right, left| parent(left, &right))
    }
}

/// The hashes that prove leaf `index` in the tree of `size` leaves (RFC 6962 §2.1.1), gathered while all leaves pass by.
#[derive(Debug)]
pub struct InclusionBuilder {
    ranges: Vec<(u64, u64)>,
    next: u64,
    at: usize,
    current: Frontier,
    done: Vec<Node>,
}

impl InclusionBuilder {
    /// A builder for leaf `index` of `size`; `None` when there is no such leaf.
    pub fn new(index: u64, size: u64) -> Option<InclusionBuilder> {
        if index >= size {
            return None;
        }
        // Walk down from the root: at each split the half without the leaf is a sibling on its path.
        let (mut from, mut to, mut siblings) = (0, size, Vec::new());
        while to - from > 1 {
            let middle = from + split(to - from);
            if index < middle {
                siblings.push((middle, to));
                to = middle;
            } else {
                siblings.push((from, middle));
                from = middle;
            }
        }
        siblings.reverse();
        let done = vec![[0; 32]; siblings.len()];
        Some(InclusionBuilder {
            ranges: siblings,
            next: 0,
            at: 0,
            current: Frontier::default(),
            done,
        })
    }

    /// Feeds the next leaf hash, from leaf 0 on.
    pub fn push(&mut self, leaf: Node) {
        let place = self.next;
        self.next += 1;
        let holds = |range: &(u64, u64)| range.0 <= place && place < range.1;
        if !self.ranges.get(self.at).is_some_and(holds) {
            let Some(found) = self.ranges.iter().position(holds) else {
                return;
            };
            self.at = found;
            self.current = Frontier::default();
        }
        self.current.push(leaf);
        if place + 1 == self.ranges[self.at].1 {
            self.done[self.at] = self.current.root();
        }
    }

    /// The proof, sibling of the leaf first.
    pub fn proof(self) -> Vec<Node> {
        self.done
    }
}

/// The largest power of two smaller than `size` (which is at least 2).
fn split(size: u64) -> u64 {
    1 << (63 - (size - 1).leading_zeros())
}

/// The root that `proof` leads to from leaf hash `leaf` at `index` of `size`; `None` when its length is wrong.
/// The caller compares it with a root it trusts. (RFC 9162 §2.1.3.2.)
pub fn root_from_inclusion(index: u64, size: u64, leaf: Node, proof: &[Node]) -> Option<Node> {
    if index >= size {
        return None;
    }
    let (mut place, mut last, mut node) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if place & 1 == 1 || place == last {
            node = parent(sibling, &node);
            while place & 1 == 0 && place != 0 {
                place >>= 1;
                last >>= 1;
            }
        } else {
            node = parent(&node, sibling);
        }
        place >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition of RFC 6962 §2.1, word for word, as the oracle.
    fn tree(leaves: &[Node]) -> Node {
        match leaves.len() {
            0 => empty(),
            1 => leaves[0],
            n => {
                let k = split(n as u64) as usize;
                parent(&tree(&leaves[..k]), &tree(&leaves[k..]))
            }
        }
    }

    fn leaves(count: u64) -> Vec<Node> {
        (0..count).map(|n| leaf(&n.to_le_bytes())).collect()
    }

    #[test]
    fn roots_and_proofs_agree_with_the_definition() {
        for size in 1..70 {
            let leaves = leaves(size);
            let mut frontier = Frontier::default();
            leaves.iter().for_each(|leaf| frontier.push(*leaf));
            assert_eq!(frontier.root(), tree(&leaves));
            for index in 0..size {
                let mut builder = InclusionBuilder::new(index, size).unwrap();
                leaves.iter().for_each(|leaf| builder.push(*leaf));
                let proof = builder.proof();
                assert_eq!(
                    root_from_inclusion(index, size, leaves[index as usize], &proof),
                    Some(frontier.root())
                );
            }
        }
    }

    #[test]
    fn hashes_of_every_length_are_those_of_the_streaming_interface() {
        let data: Vec<u8> = (0..1200u32).map(|n| n as u8).collect();
        for length in 0..data.len() {
            let expected: Node = Sha256::new()
                .chain_update([0])
                .chain_update(&data[..length])
                .finalize()
                .into();
            assert_eq!(leaf(&data[..length]), expected, "{length}");
        }
    }

    #[test]
    fn a_leaf_cannot_pose_as_a_node() {
        let (a, b) = (leaf(b"a"), leaf(b"b"));
        let mut posed = a.to_vec();
        posed.extend(b);
        assert_ne!(leaf(&posed), parent(&a, &b));
        assert_eq!(
            chain_hex(&empty()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    fn chain_hex(node: &Node) -> String {
        super::super::chain::hex(node)
    }

    proptest! {
        #[test]
        fn a_changed_proof_leads_elsewhere(size in 2u64..200, pick in any::<u64>(), which in any::<usize>(), bit in 0usize..256) {
            let index = pick % size;
            let all = leaves(size);
            let mut builder = InclusionBuilder::new(index, size).unwrap();
            all.iter().for_each(|leaf| builder.push(*leaf));
            let mut proof = builder.proof();
            let root = root_from_inclusion(index, size, all[index as usize], &proof);
            prop_assert_eq!(root_from_inclusion(size, size, all[0], &proof), None);
            let n = which % proof.len();
            proof[n][bit / 8] ^= 1 << (bit % 8);
            prop_assert_ne!(root_from_inclusion(index, size, all[index as usize], &proof), root);
            proof[n][bit / 8] ^= 1 << (bit % 8);
            proof.push([0; 32]);
            prop_assert_eq!(root_from_inclusion(index, size, all[index as usize], &proof), None);
            proof.truncate(proof.len() - 2);
            prop_assert_eq!(root_from_inclusion(index, size, all[index as usize], &proof), None);
        }
    }
}
