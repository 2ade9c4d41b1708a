//! What can go wrong while the log is written, each with its cause, its place and the next step.

use crate::log_terminal::words;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A failure of the writer's stage. Nothing was appended unless it says so.
#[derive(Debug)]
pub enum Error {
    /// A system call failed.
    Io {
        /// What was being done, as in "while {doing}".
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file system has no room, or allows no writing.
    Full {
        /// Where.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file is not what it must be: a link, somebody else's, writable by others.
    Unsafe {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
        /// What to do.
        next: String,
    },
    /// The log is not the one this signer signed: shorter, different, or not sound.
    Contradiction {
        /// Which log.
        path: PathBuf,
        /// What contradicts what.
        why: String,
    },
    /// A copy of the log was gone on with elsewhere.
    Copied {
        /// Which log.
        path: PathBuf,
        /// Where it was gone on with.
        other: PathBuf,
        /// Entries that were signed there.
        signed: u64,
    },
    /// The log belongs to another key.
    Foreign {
        /// Which log.
        path: PathBuf,
        /// The key it names.
        key: String,
    },
    /// Another process holds the log's lock for longer than it was waited for.
    Busy {
        /// Which log.
        path: PathBuf,
        /// Whether a deadline or a signal ended the wait: nothing is lost yet.
        interrupted: bool,
    },
    /// An entry cannot be written in the log's dialect.
    Entry {
        /// What is wrong with it.
        why: String,
    },
    /// The environment does not say where things are kept.
    Environment {
        /// What is missing.
        why: String,
    },
}

impl Error {
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Error {
        let path = path.to_owned();
        match source.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT | libc::EROFS | libc::EFBIG) => {
                Error::Full { path, source }
            }
            _ => Error::Io {
                doing,
                path,
                source,
            },
        }
    }

    pub(super) fn contradiction(path: &Path, why: impl Into<String>) -> Error {
        Error::Contradiction {
            path: path.to_owned(),
            why: why.into(),
        }
    }
}

/// A free name beside a log, to keep it under.
fn aside(path: &Path) -> PathBuf {
    let name = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".copied-{n}"));
        PathBuf::from(name)
    };
    (1..)
        .map(name)
        .find(|name| std::fs::symlink_metadata(name).is_err())
        .unwrap_or_else(|| name(1))
}

/// As a word for a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ',');
    if text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io {
                doing,
                path,
                source,
            } => write!(
                f,
                "the log cannot be written: {} while {doing} {path:?}; check the path and its permissions, or choose another with --log",
                words(source)
            ),
            Error::Full { path, source } if source.raw_os_error() == Some(libc::EFBIG) => write!(
                f,
                "the log cannot be written: {} at {path:?}; start it where files may grow that far (`ulimit -f` says how far), or choose another place with --log",
                words(source)
            ),
            Error::Full { path, source } => write!(
                f,
                "the log cannot be written: {} at {path:?}; make room there, or choose another place with --log",
                words(source)
            ),
            Error::Unsafe { path, why, next } => write!(f, "{path:?} {why}; {next}"),
            Error::Contradiction { path, why } => write!(
                f,
                "{path:?} is not the log that was signed here: {why}; look with `capsule verify {}`, keep the file as evidence by moving it away, and a new log will be started that names this one",
                path.display()
            ),
            Error::Copied {
                path,
                other,
                signed,
            } => write!(
                f,
                "{path:?} and {other:?} were one log, and {other:?} was gone on with: {signed} entries were signed there, and this is not how they end; to go on here with a log of its own that names this one: mv {} {}",
                quoted(path),
                quoted(&aside(path))
            ),
            Error::Foreign { path, key } => write!(
                f,
                "{path:?} is signed by another key ({key}); choose another log with --log, or set XDG_DATA_HOME to where its key is"
            ),
            Error::Busy { path, .. } => write!(
                f,
                "another process has held the lock of {path:?} for too long; look which `capsule` is stopped or stuck (fuser, ps) and end it, or choose another log with --log"
            ),
            Error::Entry { why } => write!(f, "an entry cannot be recorded: {why}"),
            Error::Environment { why } => {
                write!(f, "{why}; set HOME, or XDG_DATA_HOME and XDG_STATE_HOME")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } | Error::Full { source, .. } => Some(source),
            _ => None,
        }
    }
}
