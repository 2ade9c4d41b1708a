//! One command-line verb a file. Each parses its own arguments and returns the exit code.

pub mod log;
pub mod prove;
pub mod record;
pub mod run;
pub mod trace;
pub mod verify;

use crate::dispatch::ExitCode;

/// A command line that was not understood: exit 64.
fn usage(why: &str, help: &str) -> ExitCode {
    crate::log_terminal::error(&format!("{why}; see {help}"));
    ExitCode::from(64)
}

/// Something that could not be done: exit 125.
fn refuse(why: &str) -> ExitCode {
    crate::log_terminal::error(why);
    ExitCode::from(125)
}
