//! Going through a log block by block, checking each: the one definition of "sound".
//!
//! Refuses, in this order within a block: bytes that are no block, a block that does not follow the one before,
//! lines outside the dialect, a checkpoint that does not fit the chain, the tree, the key. Holds one block in memory.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::block::{self, Extent, MAX_BLOCK, Split};
use super::chain::{Digest, Link, START};
use super::checkpoint::{Note, Refusal, VKey};
use super::json::{self, View};
use super::merkle::{Frontier, Node, leaf};

/// Where in a log one stands: with the tree so far, everything needed to check, or to write, the next block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The next block's number.
    pub block: u64,
    /// How many entries are before it.
    pub size: u64,
    /// The digest of the last block (all its bytes).
    pub chain: Digest,
    /// The byte offset of the next block.
    pub offset: u64,
    /// The byte offset of the last block.
    pub last: u64,
}

impl Default for Place {
    fn default() -> Place {
        Place {
            block: 0,
            size: 0,
            chain: START,
            offset: 0,
            last: 0,
        }
    }
}

/// In which way a block is not sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Not of this format.
    Malformed,
    /// Does not match the digest that names it.
    Chain,
    /// A checkpoint's size or root is not the tree's.
    Tree,
    /// A signature does not fit.
    Signature,
    /// Signed by another key.
    Key,
    /// Names other algorithms.
    Algorithm,
    /// The file ends within the block.
    Torn,
}

/// What is not sound, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// In which way.
    pub kind: Kind,
    /// The block's number.
    pub block: u64,
    /// The seq of the entry, or of the block's first.
    pub seq: u64,
    /// Byte offset in the file.
    pub offset: u64,
    /// In words.
    pub why: String,
}

impl Place {
    pub(super) fn fault(&self, kind: Kind, within: usize, why: impl Into<String>) -> Fault {
        let offset = self.offset + within as u64;
        Fault {
            kind,
            block: self.block,
            seq: self.size,
            offset,
            why: why.into(),
        }
    }

    /// The fault of bytes that [`block::split`] found to be no block here.
    pub(super) fn unsplit(&self, at: usize, why: &str) -> Fault {
        self.fault(Kind::Malformed, at, why)
    }

    /// Checks that the block with this header follows here.
    pub(super) fn follows(&self, extent: &Extent) -> Result<(), Fault> {
        let header = &extent.header;
        if header.prev != self.chain {
            let why = "the next block names another digest for this block";
            let mut fault = self.fault(Kind::Chain, 0, why);
            if self.block == 0 {
                fault.why = "the first block names a block before it".into();
            } else {
                fault.block -= 1;
                fault.offset = self.last;
            }
            return Err(fault);
        }
        if header.block != self.block || header.first != self.size {
            let why = format!(
                "this block should be number {} and begin with seq {}",
                self.block, self.size
            );
            return Err(self.fault(Kind::Chain, 0, why));
        }
        Ok(())
    }

    /// Checks the entries' lines, handing each with its bytes (no newline) to `each`.
    pub(super) fn lines<'a>(
        &self,
        extent: &Extent,
        bytes: &'a [u8],
        mut each: impl FnMut(&View<'a>, &'a [u8]),
    ) -> Result<(), Fault> {
        let entries = extent.entries(bytes);
        if let Err(why) = std::str::from_utf8(entries) {
            return Err(self.fault(
                Kind::Malformed,
                extent.head + why.valid_up_to(),
                "not UTF-8",
            ));
        }
        let (mut seq, mut at) = (extent.header.first, extent.head);
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', entries) {
            let line = &entries[from..end];
            from = end + 1;
            let view = json::entry(line).map_err(|fault| Fault {
                seq,
                ..self.fault(Kind::Malformed, at + fault.at, fault.why)
            })?;
            if view.seq != seq {
                return Err(Fault {
                    seq,
                    ..self.fault(
                        Kind::Malformed,
                        at,
                        format!("the entry should have seq {seq}"),
                    )
                });
            }
            each(&view, line);
            seq += 1;
            at += line.len() + 1;
        }
        if seq - extent.header.first != extent.header.count {
            return Err(self.fault(
                Kind::Malformed,
                0,
                "the block has another number of entries than its header says",
            ));
        }
        Ok(())
    }

    /// Checks the block's checkpoint against the chain, then the tree with the block's entries, then the key.
    pub(super) fn checkpoint(
        &self,
        extent: &Extent,
        bytes: &[u8],
        sealed: &Digest,
        root: impl FnOnce() -> Node,
        trust: Option<&Trust>,
    ) -> Result<Option<Note>, Fault> {
        let Some(line) = extent.checkpoint(bytes) else {
            return Ok(None);
        };
        self.checkpoint_line(extent, line, sealed, Some(root), trust)
            .map(Some)
    }

    /// Checks a checkpoint line (without its newline); without `root`, not against the tree.
    pub(super) fn checkpoint_line(
        &self,
        extent: &Extent,
        line: &[u8],
        sealed: &Digest,
        root: Option<impl FnOnce() -> Node>,
        trust: Option<&Trust>,
    ) -> Result<Note, Fault> {
        let (at, size) = (extent.len() - extent.note, self.size + extent.header.count);
        let fault = |kind, why: &str| Fault {
            seq: size - 1,
            ..self.fault(kind, at, why)
        };
        let note = block::parse_checkpoint(line)
            .ok_or_else(|| fault(Kind::Malformed, "not a checkpoint"))?;
        if note.body.chain != *sealed {
            return Err(fault(
                Kind::Chain,
                "the checkpoint names another digest for this block",
            ));
        }
        if note.body.size != size {
            return Err(fault(
                Kind::Tree,
                "the checkpoint is for another number of entries",
            ));
        }
        if root.is_some_and(|root| note.body.root != root()) {
            return Err(fault(Kind::Tree, "the checkpoint's root is not the tree's"));
        }
        if let Some(trust) = trust {
            if note.body.origin != trust.origin {
                return Err(fault(Kind::Tree, "the checkpoint is of another log"));
            }
            note.verify(&trust.key).map_err(|refusal| match refusal {
                Refusal::UnknownKey => fault(Kind::Key, "the checkpoint is signed by another key"),
                Refusal::BadSignature => {
                    fault(Kind::Signature, "the signature does not fit the checkpoint")
                }
            })?;
        }
        Ok(note)
    }

    /// Goes on to after the block.
    pub(super) fn pass(&mut self, extent: &Extent, chain: Digest) {
        self.block += 1;
        self.size += extent.header.count;
        self.chain = chain;
        self.last = self.offset;
        self.offset += extent.len() as u64;
    }
}

/// The digests of a block: of header and entries (what its checkpoint names), of all its bytes (what the next names).
pub(super) fn digests(extent: &Extent, bytes: &[u8]) -> (Digest, Digest) {
    let mut link = Link::new();
    let sealed = link.update(&bytes[..extent.len() - extent.note]).digest();
    if extent.note == 0 {
        return (sealed, sealed);
    }
    (
        sealed,
        link.update(&bytes[extent.len() - extent.note..extent.len()])
            .digest(),
    )
}

/// Whose checkpoints are believed.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The origin that checkpoints must name.
    pub origin: String,
    /// The key that must have signed them.
    pub key: VKey,
}

/// A walk over the blocks of a file, in order, each checked before it is handed out.
pub struct Scanner<'a> {
    file: &'a File,
    /// Where the walk stands.
    pub place: Place,
    /// The tree so far.
    pub tree: Frontier,
    /// Whose checkpoints are believed; `None` while that is not known.
    pub trust: Option<Trust>,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
    end: bool,
}

/// One sound block.
pub struct Sound<'a> {
    /// Its extent.
    pub extent: Extent,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// The offset of its first byte.
    pub offset: u64,
    /// Its checkpoint.
    pub note: Option<Note>,
}

impl<'a> Scanner<'a> {
    /// A walk that begins at `place`, with the tree so far.
    pub fn new(
        file: &'a File,
        (place, tree): (Place, Frontier),
        trust: Option<Trust>,
    ) -> Scanner<'a> {
        Scanner {
            file,
            place,
            tree,
            trust,
            buffer: vec![0; 4 * MAX_BLOCK],
            from: 0,
            to: 0,
            end: false,
        }
    }

    /// The next block; `None` at the end.
    ///
    /// # Errors
    /// Outside: the file cannot be read. Inside: the block is not sound; the walk is over.
    pub fn advance(&mut self) -> std::io::Result<Result<Option<Sound<'_>>, Fault>> {
        let extent = loop {
            let bytes = &self.buffer[self.from..self.to];
            if bytes.is_empty() && self.end {
                return Ok(Ok(None));
            }
            match block::split(bytes, self.end) {
                Split::Block(extent) => break extent,
                Split::More => self.fill()?,
                Split::Torn => {
                    return Ok(Err(self.place.fault(
                        Kind::Torn,
                        0,
                        "the file ends within a block",
                    )));
                }
                Split::Malformed { at, why } => return Ok(Err(self.place.unsplit(at, why))),
            }
        };
        let bytes = &self.buffer[self.from..self.from + extent.len()];
        self.from += extent.len();
        let (place, mut tree) = (&mut self.place, self.tree.clone());
        let offset = place.offset;
        let checked = place.follows(&extent).and_then(|()| {
            place.lines(&extent, bytes, |_, line| tree.push(leaf(line)))?;
            let (sealed, whole) = digests(&extent, bytes);
            let root = || tree.root();
            let note = place.checkpoint(&extent, bytes, &sealed, root, self.trust.as_ref())?;
            Ok((note, whole))
        });
        Ok(checked.map(|(note, whole)| {
            place.pass(&extent, whole);
            self.tree = tree;
            Some(Sound {
                extent,
                bytes,
                offset,
                note,
            })
        }))
    }

    fn fill(&mut self) -> std::io::Result<()> {
        self.buffer.copy_within(self.from..self.to, 0);
        self.to -= self.from;
        self.from = 0;
        let at = self.place.offset + self.to as u64;
        match self.file.read_at(&mut self.buffer[self.to..], at) {
            Ok(0) => self.end = true,
            Ok(count) => self.to += count,
            Err(why) if why.kind() == std::io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
        }
        Ok(())
    }
}
