//! One command-line verb a file. Each parses its own arguments and returns the exit code.
//!
//! Where JSON was asked for and there is no answer, standard output says so as JSON, beside the words on standard error:
//! `{"ok":false,"error":{"message":…,"next_step":…},"exit":125}`.

pub mod log;
pub mod prove;
pub mod record;
pub mod run;
pub mod trace;
pub mod verify;

use crate::dispatch::{ExitCode, USAGE};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// A command line that was not understood: exit 64.
fn usage(why: &str, help: &str, json: bool) -> ExitCode {
    crate::log_terminal::error(&format!("{why}; see {help}"));
    if json {
        unanswered(why, &format!("see {help}"), USAGE);
    }
    ExitCode::from(USAGE)
}

/// Something that could not be done: exit 125. What comes after the last `; ` of `why` is what to do about it.
fn refuse(why: &str, json: bool) -> ExitCode {
    failed(why, crate::dispatch::FAILED, json)
}

/// As [`refuse`], with an exit code of its own.
fn failed(why: &str, exit: u8, json: bool) -> ExitCode {
    crate::log_terminal::error(why);
    if json {
        let (message, next) = why.rsplit_once("; ").unwrap_or((why, ""));
        unanswered(message, next, exit);
    }
    ExitCode::from(exit)
}

fn unanswered(message: &str, next_step: &str, exit: u8) {
    let message = crate::log_terminal::numberless(message);
    let error = serde_json::json!({"message": message, "next_step": next_step});
    let answer = serde_json::json!({"ok": false, "error": error, "exit": exit});
    crate::log_terminal::print_json(&answer);
}

/// A log to read. It waits for nobody: what is no regular file is refused.
fn open_log(path: &Path) -> io::Result<File> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is not a regular file"))
    }
}

/// Whether JSON is asked for in a command line that is not understood.
fn wants_json(arguments: &[OsString]) -> bool {
    let ours = arguments.iter().take_while(|word| *word != "--");
    ours.into_iter().any(|word| word == "--json")
}
