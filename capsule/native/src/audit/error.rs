//! What can go wrong while the log is written, each with its cause, its place and the next step.

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
    /// The log belongs to another key.
    Foreign {
        /// Which log.
        path: PathBuf,
        /// The key it names.
        key: String,
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io {
                doing,
                path,
                source,
            } => write!(
                f,
                "the log cannot be written: {source} while {doing} {path:?}; check the path and its permissions, or choose another with --log"
            ),
            Error::Full { path, source } => write!(
                f,
                "the log cannot be written: {source} at {path:?}; make room there, or choose another place with --log"
            ),
            Error::Unsafe { path, why, next } => write!(f, "{path:?} {why}; {next}"),
            Error::Contradiction { path, why } => write!(
                f,
                "{path:?} is not the log that was signed here: {why}; look with `capsule verify {}`, keep the file as evidence by moving it away, and a new log will be started that names this one",
                path.display()
            ),
            Error::Foreign { path, key } => write!(
                f,
                "{path:?} is signed by another key ({key}); choose another log with --log, or set XDG_DATA_HOME to where its key is"
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
