//! Blocks as bytes: the header, and where a block ends, without reading a line of it.
//!
//! Refuses headers that are not byte for byte what [`Header::render`] writes, blocks over 64 KiB, checkpoint
//! lines that are not the one way to write a note. `split(bytes, true)` finds the first block.

use super::chain::{Digest, hex, unhex};
use super::checkpoint::{Note, decimal};

/// The most bytes a block's entries take together, and so the most one line takes.
pub const MAX_ENTRIES: usize = 64 * 1024;
/// The most bytes a header line takes.
pub const MAX_HEADER: usize = 256;
/// The most bytes a checkpoint line takes.
pub const MAX_CHECKPOINT: usize = 4096;
/// No block is longer.
pub const MAX_BLOCK: usize = MAX_HEADER + MAX_ENTRIES + MAX_CHECKPOINT;

const BLOCK: &[u8] = b"{\"block\":";
const NOTE: &[u8] = b"{\"note\":\"";

/// The line that opens a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Its number, from 0.
    pub block: u64,
    /// The digest of the block before.
    pub prev: Digest,
    /// The seq of its first entry.
    pub first: u64,
    /// How many entries it has.
    pub count: u64,
    /// How many bytes they take, newlines included.
    pub bytes: usize,
}

impl Header {
    /// The line, with its newline.
    pub fn render(&self) -> String {
        format!(
            "{{\"block\":{},\"prev\":\"blake3:{}\",\"first\":{},\"count\":{},\"bytes\":{}}}\n",
            self.block,
            hex(&self.prev),
            self.first,
            self.count,
            self.bytes
        )
    }

    /// Reads the line (without its newline); `None` for any other way of writing it.
    pub fn parse(line: &[u8]) -> Option<Header> {
        let rest = std::str::from_utf8(line)
            .ok()?
            .strip_prefix("{\"block\":")?
            .strip_suffix('}')?;
        let (block, rest) = rest.split_once(",\"prev\":\"blake3:")?;
        let (prev, rest) = rest.split_once("\",\"first\":")?;
        let (first, rest) = rest.split_once(",\"count\":")?;
        let (count, bytes) = rest.split_once(",\"bytes\":")?;
        let header = Header {
            block: decimal(block)?,
            prev: unhex(prev.as_bytes())?,
            first: decimal(first)?,
            count: decimal(count)?,
            bytes: usize::try_from(decimal(bytes)?).ok()?,
        };
        (header.count >= 1 && header.bytes >= 2 && header.bytes <= MAX_ENTRIES).then_some(header)
    }
}

/// A block found in a run of bytes: its parts' lengths, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The header, read.
    pub header: Header,
    /// The header line's length.
    pub head: usize,
    /// The checkpoint line's length; 0 when there is none.
    pub note: usize,
}

impl Extent {
    /// The whole block's length.
    pub fn len(&self) -> usize {
        self.head + self.header.bytes + self.note
    }

    /// Blocks are never empty.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The entries within the block's bytes.
    pub fn entries<'a>(&self, block: &'a [u8]) -> &'a [u8] {
        &block[self.head..self.head + self.header.bytes]
    }

    /// The checkpoint line within the block's bytes, without its newline.
    pub fn checkpoint<'a>(&self, block: &'a [u8]) -> Option<&'a [u8]> {
        (self.note > 0).then(|| &block[self.head + self.header.bytes..self.len() - 1])
    }
}

/// What a run of bytes begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// A block.
    Block(Extent),
    /// Too few bytes to tell; more follow.
    More,
    /// The beginning of a block, and the file ends within it.
    Torn,
    /// Not a block.
    Malformed {
        /// Offset of what is wrong.
        at: usize,
        /// What is wrong.
        why: &'static str,
    },
}

/// Finds the block that `bytes` begins with. `end` says that the file ends with them.
pub fn split(bytes: &[u8], end: bool) -> Split {
    let short = if end { Split::Torn } else { Split::More };
    let Some(head) = bytes
        .iter()
        .take(MAX_HEADER)
        .position(|byte| *byte == b'\n')
    else {
        let begins = |with: &[u8]| {
            bytes[..bytes.len().min(with.len())] == with[..bytes.len().min(with.len())]
        };
        return match bytes.len() {
            // A checkpoint line that was being added to the block before, when the writer died.
            length if length < MAX_CHECKPOINT && begins(NOTE) && !bytes.contains(&b'\n') => short,
            length if length < MAX_HEADER && begins(BLOCK) => short,
            _ => Split::Malformed {
                at: 0,
                why: "a block header belongs here",
            },
        };
    };
    let Some(header) = Header::parse(&bytes[..head]) else {
        return Split::Malformed {
            at: 0,
            why: "not a block header",
        };
    };
    let (head, body) = (head + 1, head + 1 + header.bytes);
    if bytes.len() < body {
        return short;
    }
    if bytes[body - 1] != b'\n' {
        return Split::Malformed {
            at: body - 1,
            why: "the block's bytes do not end with a line",
        };
    }
    let rest = &bytes[body..];
    if rest.len() < NOTE.len() && !end {
        return Split::More;
    }
    if !rest.starts_with(NOTE) {
        return Split::Block(Extent {
            header,
            head,
            note: 0,
        });
    }
    match rest
        .iter()
        .take(MAX_CHECKPOINT)
        .position(|byte| *byte == b'\n')
    {
        Some(line) => Split::Block(Extent {
            header,
            head,
            note: line + 1,
        }),
        None if rest.len() >= MAX_CHECKPOINT => Split::Malformed {
            at: body,
            why: "a checkpoint line too long",
        },
        // The entries are whole: only the checkpoint line is torn, and the next call says so.
        None if end => Split::Block(Extent {
            header,
            head,
            note: 0,
        }),
        None => Split::More,
    }
}

/// The checkpoint line of a note, with its newline.
pub fn checkpoint_line(note: &str) -> String {
    format!("{{\"note\":\"{}\"}}\n", note.replace('\n', "\\n"))
}

/// Reads a checkpoint line (without its newline); `None` for any other way of writing it.
pub fn parse_checkpoint(line: &[u8]) -> Option<Note> {
    let text = std::str::from_utf8(line)
        .ok()?
        .strip_prefix("{\"note\":\"")?
        .strip_suffix("\"}")?;
    if text.contains(['"', '\n']) || text.replace("\\n", "").contains('\\') {
        return None;
    }
    let note = Note::parse(&text.replace("\\n", "\n"))?;
    // On the log a note has exactly the log's own signature: another could be changed unseen.
    (note.signatures.len() == 1).then_some(note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            block: 3,
            prev: [9; 32],
            first: 12,
            count: 2,
            bytes: 6,
        }
    }

    #[test]
    fn a_header_has_one_form() {
        let line = header().render();
        let line = line.trim_end();
        assert_eq!(Header::parse(line.as_bytes()), Some(header()));
        for (from, to) in [
            ("\"block\":3", "\"block\":03"),
            ("{\"block\"", "{ \"block\""),
            ("\"count\":2", "\"count\":0"),
            ("\"bytes\":6", "\"bytes\":65537"),
            ("0909", "0A09"),
            ("}", "},"),
            ("\"first\":12", "\"first\":9007199254740992"),
        ] {
            assert_eq!(
                Header::parse(line.replacen(from, to, 1).as_bytes()),
                None,
                "{to}"
            );
        }
    }

    #[test]
    fn a_block_is_found_cut_or_refused() {
        let block = header().render() + "{a}\n \n";
        let next = header().render();
        let whole = block.clone() + &next;
        let Split::Block(extent) = split(whole.as_bytes(), false) else {
            panic!()
        };
        assert_eq!((extent.len(), extent.note), (block.len(), 0));
        for cut in 1..block.len() {
            assert_eq!(split(&block.as_bytes()[..cut], true), Split::Torn, "{cut}");
            assert_eq!(split(&block.as_bytes()[..cut], false), Split::More, "{cut}");
        }
        assert_eq!(split(block.as_bytes(), false), Split::More);
        assert!(matches!(split(block.as_bytes(), true), Split::Block(_)));
        assert!(matches!(
            split(b"garbage", true),
            Split::Malformed { at: 0, .. }
        ));
        let noted = block.clone() + "{\"note\":\"x\"}\n";
        let Split::Block(extent) = split((noted.clone() + &next).as_bytes(), false) else {
            panic!()
        };
        assert_eq!((extent.len(), extent.note), (noted.len(), 13));
        let cut = &noted.as_bytes()[..noted.len() - 1];
        let Split::Block(extent) = split(cut, true) else {
            panic!()
        };
        assert_eq!((extent.note, split(cut, false)), (0, Split::More));
        assert_eq!(split(&cut[extent.len()..], true), Split::Torn);
    }

    proptest! {
        #[test]
        fn splitting_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600), end: bool) {
            split(&bytes, end);
        }

        #[test]
        fn splitting_changed_blocks_never_panics(at in any::<usize>(), byte: u8, end: bool) {
            let mut block = (header().render() + "{a}\n \n{\"note\":\"x\"}\n").into_bytes();
            let at = at % block.len();
            block[at] = byte;
            split(&block, end);
        }
    }
}
