//! From the first argument to the verb: native ones here, the others in Python's place of this process.
//!
//! ```
//! let code = capsule::dispatch::main(vec!["--version".into()]);
//! assert_eq!(code, capsule::dispatch::ExitCode::SUCCESS);
//! ```

use crate::plan::{interpreter, verb};
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;

/// What a wrong command line ends with.
pub const USAGE: u8 = 64;
/// What capsule's own failure ends with.
pub const FAILED: u8 = 125;

/// What the process ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitCode(u8);

impl ExitCode {
    /// All went well.
    pub const SUCCESS: ExitCode = ExitCode(0);

    /// End the process with it, with everything written that waits to be.
    pub fn exit(self) -> ! {
        std::process::exit(self.0.into())
    }
}

impl From<u8> for ExitCode {
    fn from(code: u8) -> ExitCode {
        ExitCode(code)
    }
}

type Verb = fn(Vec<OsString>) -> ExitCode;

/// Verbs of this binary.
const NATIVE: &[(&str, Verb)] = &[
    ("log", crate::verbs::log::main),
    ("prove", crate::verbs::prove::main),
    ("record", crate::verbs::record::main),
    ("run", crate::verbs::run::main),
    ("trace", crate::verbs::trace::main),
    ("verify", crate::verbs::verify::main),
];

/// Verbs of the Python side.
const PYTHON: &[&str] = &[
    "answer",
    "asks",
    "policy",
    "rules",
    "profile",
    "doctor",
    "attack",
    "completion",
    "sessions",
    "hunt",
    "learn",
    "replay",
    "diff",
    "apply",
    "discard",
];

/// What `capsule --help` prints.
pub const HELP: &str = "\
capsule: one command, or one Python tool call, under a policy, on the record

  capsule run [--policy F] -- CMD…   run a command in the sandbox
  capsule diff | apply | discard     review what a run with --overlay wrote
  capsule log                        read the log
  capsule verify                     check the log
  capsule prove N                    prove an entry of the log
  capsule record                     put entries of another program on the log
  capsule sessions …                 what ran: list, show, timeline, query, export
  capsule hunt RULES…                look through past runs for what rules describe
  capsule learn SESSION…             the smallest policy that past runs would have needed
  capsule replay --policy F SESSION… what another policy would have decided
  capsule trace -- CMD…              observe what a command uses
  capsule profile -- CMD…            suggest a policy from what commands use
  capsule rules list | lint | test   the rules that decide during a run
  capsule asks | answer ID allow     what runs wait for an answer to
  capsule policy …                   check, compile, explain, test, compare policies
  capsule doctor                     what this machine can enforce
  capsule attack                     try the attack corpus against your policy
  capsule completion SHELL           completion for bash, zsh, fish

  capsule VERB --help                more about one of them
  capsule --version
";

/// Do what the arguments (without the program's name) say.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    // A shell that completes asks without a verb; Python's side knows all of them.
    if std::env::var_os("_CAPSULE_COMPLETE").is_some() {
        return python(arguments);
    }
    let verb = arguments
        .first()
        .map(|verb| verb.to_string_lossy().into_owned());
    match verb.as_deref() {
        None => {
            let _ = std::io::stderr().write_all(HELP.as_bytes());
            ExitCode::from(USAGE)
        }
        Some("--help" | "-h" | "help") => say(HELP),
        Some("--version" | "-V") => say(concat!("capsule ", env!("CARGO_PKG_VERSION"), "\n")),
        Some(verb) => match NATIVE.iter().find(|(name, _)| *name == verb) {
            Some((_, main)) => told(main(arguments.into_iter().skip(1).collect())),
            None if PYTHON.contains(&verb) => python(arguments),
            None => fail(
                &format!("there is no command {verb:?}; see: capsule --help"),
                USAGE,
            ),
        },
    }
}

/// Become Python's side of capsule; comes back only when that fails.
fn python(arguments: Vec<OsString>) -> ExitCode {
    match interpreter() {
        Ok(path) => {
            let error = verb(&path).args(arguments).exec();
            fail(&format!("{}: {error}", path.display()), FAILED)
        }
        Err(error) => fail(&error.to_string(), FAILED),
    }
}

fn say(text: &str) -> ExitCode {
    crate::log_terminal::print(text);
    told(ExitCode::SUCCESS)
}

/// Success, unless its answer was lost: what could not be written is no answer.
fn told(code: ExitCode) -> ExitCode {
    if code == ExitCode::SUCCESS && crate::log_terminal::unwritten() {
        return ExitCode::from(FAILED);
    }
    code
}

fn fail(text: &str, code: u8) -> ExitCode {
    crate::log_terminal::error(text);
    ExitCode::from(code)
}
