//! The verifier's second half: hashes every leaf, grows the tree, checks every checkpoint against it and the key.
//!
//! Stops at the first checkpoint that does not fit; dropping its end of the channel stops the first half.

use std::sync::mpsc::{Receiver, SyncSender};

use super::checkpoint::Note;
use super::merkle::{Frontier, Node, leaf};
use super::pass::Piece;
use super::scan::{Fault, Trust};

/// What the tree came to.
#[derive(Debug)]
pub(super) struct Grown {
    pub(super) tree: Frontier,
    pub(super) checkpoints: u64,
    pub(super) note: Option<Note>,
    pub(super) fault: Option<Fault>,
    /// The roots at the sizes that were asked for.
    pub(super) roots: Vec<(u64, Node)>,
}

impl Grown {
    /// How many entries the newest checkpoint covers.
    pub(super) fn sealed(&self) -> u64 {
        self.note.as_ref().map_or(0, |note| note.body.size)
    }
}

/// Takes pieces until there are no more; keeps the roots at the `wanted` sizes.
pub(super) fn grow(
    pieces: &Receiver<Piece>,
    give_back: &SyncSender<Piece>,
    trust: Option<&Trust>,
    wanted: &[u64],
) -> Grown {
    let mut grown = Grown {
        tree: Frontier::default(),
        checkpoints: 0,
        note: None,
        fault: None,
        roots: Vec::new(),
    };
    while let Ok(piece) = pieces.recv() {
        let mut lengths = piece.lines.iter();
        for (at, place, extent, sealed) in &piece.blocks {
            let block = &piece.bytes[*at..*at + extent.len()];
            let mut from = extent.head;
            for length in lengths
                .by_ref()
                .take(usize::try_from(extent.header.count).unwrap_or(usize::MAX))
            {
                let to = from + *length as usize;
                grown.tree.push(leaf(&block[from..to - 1]));
                from = to;
                if wanted.contains(&grown.tree.size()) {
                    grown.roots.push((grown.tree.size(), grown.tree.root()));
                }
            }
            match place.checkpoint(extent, block, sealed, || grown.tree.root(), trust) {
                Ok(None) => {}
                Ok(Some(note)) => {
                    grown.checkpoints += 1;
                    grown.note = Some(note);
                }
                Err(fault) => {
                    grown.fault = Some(fault);
                    return grown;
                }
            }
        }
        // When the first half has ended, nobody needs the piece back.
        let _ = give_back.try_send(piece);
    }
    grown
}
