//! What the file that a log was last written to says about another file of the same log.
//!
//! A remembered head says how far a log had come, not what was in it: a file with fewer entries may be an older copy, or
//! one that was gone on with while the other was too. Where the other file can still be read the two are compared.
//! It refuses to judge either: which of two histories is the log no file can say.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::heads::At;
use super::pass::fill;
use super::{genesis, json};

/// How two files of one log stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kin {
    /// All of this one is in the other, which goes on.
    Older,
    /// They have this many entries in common, and then different ones.
    Parted(u64),
    /// The other is gone, or cannot be read, or is of another log.
    Unknown,
}

/// Compares the first `length` bytes of `file`, of log `id`, with the file it was last written to; `None` where that
/// is this very file.
#[must_use]
pub fn kin(file: &File, length: u64, id: &str, at: &At) -> Option<Kin> {
    let here = file.metadata().ok()?;
    if (here.dev(), here.ino()) == (at.dev, at.ino) {
        return None;
    }
    let path = Path::new(&at.path);
    let open = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let Ok(other) = open else {
        return Some(Kin::Unknown);
    };
    let same_log = genesis::read(&other, path)
        .ok()
        .flatten()
        .is_some_and(|found| found.log == id);
    let Ok(meta) = other.metadata() else {
        return Some(Kin::Unknown);
    };
    if !same_log || !meta.is_file() {
        return Some(Kin::Unknown);
    }
    if (meta.dev(), meta.ino()) == (here.dev(), here.ino()) {
        return None;
    }
    Some(compare(file, &other, length).unwrap_or(Kin::Unknown))
}

fn compare(file: &File, other: &File, length: u64) -> io::Result<Kin> {
    let (mut ours, mut theirs) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut at = 0;
    while at < length {
        let wanted = usize::try_from(length - at).map_or(ours.len(), |left| left.min(ours.len()));
        let got = fill(file, &mut ours[..wanted], at)?;
        let found = fill(other, &mut theirs[..got], at)?;
        let equal = ours[..got]
            .iter()
            .zip(&theirs[..found])
            .take_while(|(a, b)| a == b)
            .count();
        at += equal as u64;
        if equal < wanted {
            return Ok(Kin::Parted(entries(file, at)?));
        }
    }
    Ok(Kin::Older)
}

/// How many entries lie whole in the first `end` bytes. A block has at most 64 KiB of them and a checkpoint.
fn entries(file: &File, end: u64) -> io::Result<u64> {
    const BACK: u64 = 256 << 10;
    let from = end.saturating_sub(BACK);
    let mut bytes = vec![0; usize::try_from(end - from).unwrap_or(0)];
    let got = fill(file, &mut bytes, from)?;
    let whole = bytes[..got].split_inclusive(|byte| *byte == b'\n');
    let lines: Vec<&[u8]> = whole.filter_map(|line| line.strip_suffix(b"\n")).collect();
    let last = lines.iter().rev().find_map(|line| json::entry(line).ok());
    Ok(last.map_or(0, |view| view.seq + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn line(seq: u64, text: &str) -> String {
        format!(
            "{{\"seq\":{seq},\"time\":\"2026-11-26T10:34:40.622700Z\",\"mono\":1,\"run\":null,\"type\":\"{text}\"}}\n"
        )
    }

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn an_older_copy_is_told_from_one_that_was_gone_on_with() {
        let begun = format!("{{\"block\":0}}\n{}{}", line(0, "a"), line(1, "b"));
        let (one, two) = (
            format!("{begun}{}", line(2, "c")),
            format!("{begun}{}{}", line(2, "d"), line(3, "e")),
        );
        let kin = |ours: &str, theirs: &str| {
            compare(&file(ours), &file(theirs), ours.len() as u64).unwrap()
        };
        assert_eq!(kin(&begun, &one), Kin::Older);
        assert_eq!(kin(&one, &two), Kin::Parted(2));
        assert_eq!(kin(&two, &one), Kin::Parted(2));
        assert_eq!(
            kin(&one, &begun),
            Kin::Parted(2),
            "it goes on, the other does not"
        );
        assert_eq!(kin("x\n", &one), Kin::Parted(0));
    }

    #[test]
    fn far_back_is_found_too() {
        let begun: String = (0..5000).map(|seq| line(seq, "a")).collect();
        let (one, two) = (
            format!("{begun}{}", line(5000, "b")),
            format!("{begun}{}", line(5000, "c")),
        );
        let found = compare(&file(&one), &file(&two), one.len() as u64).unwrap();
        assert_eq!(found, Kin::Parted(5000));
    }
}
