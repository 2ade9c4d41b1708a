//! Changes that happened at about the same time, equal ones once. Pure.
//!
//! What a new file gets at once is part of its making. Refuses more than so many different ones, and names that are too long;
//! both are counted.
//!
//! ```
//! use std::path::Path;
//! use capsem_agent::window::{What, Window};
//! let mut window = Window::default();
//! window.add(What::Create, Path::new("/a"), None);
//! window.add(What::Write, Path::new("/a"), None);
//! assert_eq!(window.close().0.len(), 1);
//! ```

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::files::escaped;

/// Changes of one window.
const MOST: usize = 4096;
/// Bytes of a path as it is told.
const PATH_LIMIT: usize = 4095;
const HEAD: usize = 16;

/// What happened to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum What {
    Create,
    Write,
    Remove,
    Rename,
    Attributes,
}

impl What {
    /// As the wire has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Write => "write",
            Self::Remove => "remove",
            Self::Rename => "rename",
            Self::Attributes => "attributes",
        }
    }
}

/// One change, with bytes that are no UTF-8 as `\xNN`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Change {
    pub what: What,
    pub path: String,
    pub from: Option<String>,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub struct Window {
    changes: Vec<Change>,
    known: HashSet<Change>,
    /// How many more there were, as far as it is known.
    pub lost: u64,
}

impl Window {
    /// One more.
    pub fn add(&mut self, what: What, path: &Path, from: Option<&Path>) {
        let (Some(path), Some(from)) = (
            shown(path),
            from.map_or(Some(None), |from| shown(from).map(Some)),
        ) else {
            self.lost += 1;
            return;
        };
        let mut change = Change { what, path, from };
        if matches!(what, What::Write | What::Attributes) {
            change.what = What::Create;
            if self.known.contains(&change) {
                return;
            }
            change.what = what;
        }
        if self.known.contains(&change) {
            return;
        }
        if self.changes.len() >= MOST {
            self.lost += 1;
            return;
        }
        if what == What::Remove {
            // It may be made again, and that is to be told.
            for what in [What::Create, What::Write, What::Attributes] {
                change.what = what;
                self.known.remove(&change);
            }
            change.what = What::Remove;
        } else {
            let (what, from) = (change.what, change.from.take());
            change.what = What::Remove;
            self.known.remove(&change);
            (change.what, change.from) = (what, from);
        }
        self.known.insert(change.clone());
        self.changes.push(change);
    }

    /// The changes in order, and how many more there were.
    pub fn close(self) -> (Vec<Change>, u64) {
        (self.changes, self.lost)
    }
}

fn shown(path: &Path) -> Option<String> {
    let text = escaped(path.as_os_str().as_bytes());
    (text.len() <= PATH_LIMIT).then_some(text)
}

/// One notice of the kernel.
#[derive(Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Raw<'a> {
    pub watch: i32,
    pub mask: u32,
    pub cookie: u32,
    pub name: &'a [u8],
}

impl Raw<'_> {
    /// The name as a path of one part.
    pub fn name_as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.name))
    }
}

/// The notices in what was read; one that is not whole ends them.
pub fn notices(mut bytes: &[u8]) -> impl Iterator<Item = Raw<'_>> {
    std::iter::from_fn(move || {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let (watch, mask, cookie) = (word(0)?, word(4)?, word(8)?);
        let length = usize::try_from(word(12)?).ok()?;
        let name = bytes.get(HEAD..HEAD.checked_add(length)?)?;
        bytes = &bytes[HEAD + length..];
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(length);
        let (watch, name) = (watch.cast_signed(), &name[..end]);
        Some(Raw {
            watch,
            mask,
            cookie,
            name,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(window: Window) -> Vec<(What, String)> {
        let (changes, _) = window.close();
        changes
            .into_iter()
            .map(|one| (one.what, one.path))
            .collect()
    }

    #[test]
    fn equal_changes_are_told_once_and_a_making_is_one() {
        let mut window = Window::default();
        let path = Path::new("/w/a");
        for what in [What::Create, What::Attributes, What::Write, What::Write] {
            window.add(what, path, None);
        }
        window.add(What::Write, Path::new("/w/b"), None);
        window.add(What::Write, Path::new("/w/b"), None);
        let told = words(window);
        assert_eq!(
            told,
            [
                (What::Create, "/w/a".to_owned()),
                (What::Write, "/w/b".to_owned())
            ]
        );
    }

    #[test]
    fn what_is_removed_and_made_again_is_told_again() {
        let mut window = Window::default();
        let path = Path::new("/w/a");
        let all = [What::Create, What::Remove, What::Create, What::Remove];
        for what in all {
            window.add(what, path, None);
        }
        assert_eq!(
            words(window).iter().map(|one| one.0).collect::<Vec<_>>(),
            all
        );
    }

    #[test]
    fn a_flood_is_counted() {
        let mut window = Window::default();
        for number in 0..5000 {
            window.add(What::Create, Path::new(&format!("/w/{number}")), None);
        }
        window.add(What::Create, Path::new(&"x".repeat(5000)), None);
        let (changes, lost) = window.close();
        assert_eq!((changes.len(), lost), (4096, 905));
    }

    #[test]
    fn names_that_are_no_text_are_shown() {
        let mut window = Window::default();
        let from = Path::new("/w/a");
        window.add(
            What::Rename,
            Path::new(OsStr::from_bytes(b"/w/\xff\x41")),
            Some(from),
        );
        let (changes, _) = window.close();
        assert_eq!(changes[0].path, "/w/\\xffA");
        assert_eq!(changes[0].from.as_deref(), Some("/w/a"));
    }

    #[test]
    fn notices_are_read_as_far_as_they_are_whole() {
        let mut bytes = Vec::new();
        for word in [3u32, 0x100, 0, 4] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(b"ab\0\0");
        let one = |bytes: &[u8]| {
            notices(bytes)
                .map(|raw| raw.name.to_vec())
                .collect::<Vec<_>>()
        };
        assert_eq!(one(&bytes), [b"ab".to_vec()]);
        for short in 0..bytes.len() {
            assert!(one(&bytes[..short]).is_empty());
        }
        bytes.extend_from_slice(&[0xff; 16]);
        assert_eq!(one(&bytes).len(), 1);
    }
}
