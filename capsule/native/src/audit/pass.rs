//! The verifier's first half: reads the file in pieces, finds the blocks, follows the chain, checks every line.
//!
//! Stops at the first block that is not sound. Holds a few pieces of a megabyte each, which go round.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, SyncSender};

use super::block::{self, Extent, MAX_BLOCK, Split};
use super::chain::Digest;
use super::genesis::{Genesis, Unfit};
use super::grow::Grown;
use super::merkle::Frontier;
use super::scan::{self, Fault, Kind, Place, Trust};
use super::verifier::Known;
use super::watch::Watch;

/// How much is read at once: little enough to stay in a core's cache until it is hashed.
const CHUNK: usize = 512 * 1024;

/// Some whole blocks on their way to the tree.
#[derive(Default)]
pub(super) struct Piece {
    /// Room for what was left of the piece before, then what was read.
    pub(super) bytes: Vec<u8>,
    filled: usize,
    last: bool,
    /// The length of each entry's line, newline included.
    pub(super) lines: Vec<u32>,
    /// Where each block begins in `bytes`, its place, its parts, the digest its checkpoint names.
    pub(super) blocks: Vec<(usize, Place, Extent, Digest)>,
}

/// Reads the first `length` bytes of `file` into pieces, taking used ones back; ends when nobody wants more.
pub(super) fn read(
    file: &File,
    length: u64,
    pieces: &SyncSender<io::Result<Piece>>,
    given_back: &Receiver<Piece>,
) {
    let mut at = 0;
    loop {
        let mut piece = given_back.try_recv().unwrap_or_default();
        piece.bytes.resize(MAX_BLOCK + CHUNK, 0);
        let want = usize::try_from(length - at)
            .unwrap_or(usize::MAX)
            .min(CHUNK);
        let got = match fill(file, &mut piece.bytes[MAX_BLOCK..MAX_BLOCK + want], at) {
            Ok(got) => got,
            Err(why) => {
                // Nobody left to tell: then it does not matter.
                let _ = pieces.send(Err(why));
                return;
            }
        };
        at += got as u64;
        piece.filled = MAX_BLOCK + got;
        piece.last = got < want || at >= length;
        let last = piece.last;
        if pieces.send(Ok(piece)).is_err() || last {
            return;
        }
    }
}

/// Fill the bytes from a place in the file; how many there were.
pub(super) fn fill(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < bytes.len() {
        match file.read_at(&mut bytes[got..], at + got as u64) {
            Ok(0) => break,
            Ok(count) => got += count,
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
    }
    Ok(got)
}

/// The pass over the file.
#[derive(Default)]
pub(super) struct Pass {
    pub(super) place: Place,
    pub(super) watch: Watch,
    pub(super) fault: Option<Fault>,
    newest: Option<(Place, Extent, Vec<u8>, Digest)>,
}

impl Pass {
    /// Goes through the pieces; with `tree`, checks lines too and sends the blocks on to it.
    pub(super) fn run(
        &mut self,
        known: &mut [Known],
        pieces: &Receiver<io::Result<Piece>>,
        tree: Option<SyncSender<Piece>>,
        give_back: &SyncSender<Piece>,
        progress: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        let mut rest: Vec<u8> = Vec::new();
        while let Ok(piece) = pieces.recv() {
            let mut piece = piece?;
            piece.lines.clear();
            piece.blocks.clear();
            let from = MAX_BLOCK - rest.len();
            piece.bytes[from..MAX_BLOCK].copy_from_slice(&rest);
            let used = self.blocks(&mut piece, from, known, tree.is_some());
            rest.clear();
            rest.extend_from_slice(&piece.bytes[used..piece.filled]);
            progress(self.place.offset);
            let over = self.fault.is_some() || piece.last;
            if let Some(tree) = &tree {
                // The tree's thread is gone only when it found a fault, which then is the earlier one.
                if tree.send(piece).is_err() {
                    return Ok(());
                }
            } else {
                // When the reader has ended, nobody needs the piece back.
                let _ = give_back.try_send(piece);
            }
            if over {
                break;
            }
        }
        Ok(())
    }

    /// Takes the whole blocks of the piece from byte `used` on; where they end.
    fn blocks(
        &mut self,
        piece: &mut Piece,
        mut used: usize,
        known: &mut [Known],
        lines: bool,
    ) -> usize {
        let end = piece.last;
        while used < piece.filled {
            let bytes = &piece.bytes[used..piece.filled];
            let extent = match block::split(bytes, end) {
                Split::Block(extent) => extent,
                Split::More => break,
                Split::Torn => {
                    self.fault = Some(self.place.fault(
                        Kind::Torn,
                        0,
                        "the file ends within a block",
                    ));
                    break;
                }
                Split::Malformed { at, why } => {
                    self.fault = Some(self.place.unsplit(at, why));
                    break;
                }
            };
            let bytes = &bytes[..extent.len()];
            let lengths = lines.then_some(&mut piece.lines);
            let before = lengths.as_ref().map_or(0, |lengths| lengths.len());
            if let Err(fault) = self.block(&extent, bytes, lengths) {
                piece.lines.truncate(before);
                self.fault = Some(fault);
                break;
            }
            let (sealed, whole) = scan::digests(&extent, bytes);
            let place = self.place;
            if let Some(line) = extent.checkpoint(bytes).filter(|_| !lines) {
                self.newest = Some((place, extent, line.to_vec(), sealed));
            }
            piece.blocks.push((used, place, extent, sealed));
            self.place.pass(&extent, whole);
            for head in known.iter_mut().filter(|head| head.size == self.place.size) {
                head.chained = head.chain == sealed || head.chain == whole;
                head.covered = head.sealed == Some(sealed);
            }
            used += extent.len();
        }
        used
    }

    fn block(
        &mut self,
        extent: &Extent,
        bytes: &[u8],
        lengths: Option<&mut Vec<u32>>,
    ) -> Result<(), Fault> {
        let place = self.place;
        place.follows(extent)?;
        if let Some(lengths) = lengths {
            let watch = &mut self.watch;
            place.lines(extent, bytes, |view, line| {
                lengths.push(line.len() as u32 + 1);
                watch.see(view, line);
            })?;
        }
        if place.block == 0 {
            let line = extent.entries(bytes);
            if extent.header.count != 1 {
                return Err(place.fault(Kind::Malformed, 0, "the first block is not one entry"));
            }
            Genesis::parse(&line[..line.len() - 1]).map_err(|unfit| match unfit {
                Unfit::Malformed(why) => place.fault(Kind::Malformed, extent.head, why),
                Unfit::Algorithm(what) => place.fault(
                    Kind::Algorithm,
                    extent.head,
                    format!("of another version: {what}"),
                ),
            })?;
        }
        Ok(())
    }

    /// After a pass without lines: the newest checkpoint, checked against the chain and the key, not the tree.
    pub(super) fn newest_checkpoint(&self, trust: Option<&Trust>) -> Grown {
        let mut grown = Grown {
            tree: Frontier::default(),
            checkpoints: 0,
            note: None,
            fault: None,
            roots: Vec::new(),
        };
        let Some((place, extent, line, sealed)) = &self.newest else {
            return grown;
        };
        match place.checkpoint_line(
            extent,
            line,
            sealed,
            None::<fn() -> super::merkle::Node>,
            trust,
        ) {
            Ok(note) => {
                grown.checkpoints = 1;
                grown.note = Some(note);
            }
            Err(fault) => grown.fault = Some(fault),
        }
        grown
    }
}
