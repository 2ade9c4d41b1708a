//! `capsule trace`: run a command as `capsule run` does, and write down what it used.
//!
//! The same walls stand: what the policy refuses stays refused, and is counted. It refuses to run without a monitor.

use super::{refuse, usage};
use crate::dispatch::ExitCode;
use crate::supervise::observation::Frame;
use crate::supervise::{Request, launch};
use crate::terminal;
use lexopt::prelude::*;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What `--help` prints.
pub const HELP: &str = "\
Run one command under a policy and write down what it used: docs/formats/observation.md.

usage: capsule trace [options] [--] COMMAND [ARGUMENT…]

  --out FILE               where to (default: observation.json)
  --policy FILE|PRESET     the policy in force meanwhile, as for capsule run
  --log FILE               the audit log (default: ./capsule.log)
  --json                   the report as one line of JSON at the end of standard error, as of capsule run
  -h, --help               this text

The exit code is as of capsule run.

example: capsule trace --out seen.json -- make test
";

/// Run the verb with the arguments after its name.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let wants_json = super::wants_json(&arguments);
    let (request, out, json) = match parse(arguments) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => {
            crate::log_terminal::print(HELP);
            return ExitCode::SUCCESS;
        }
        Err(why) => return usage(&format!("trace: {why}"), "capsule trace --help", wants_json),
    };
    let report = launch::run(&request);
    if json {
        terminal::json(&report, 2);
    } else {
        terminal::story(&report);
    }
    let Some(seen) = &report.seen else {
        return ExitCode::from(report.exit.code);
    };
    let cause = serde_json::to_value(report.exit.cause).unwrap_or_default();
    let document = seen.observation.document(&Frame {
        command: &report.command,
        workspace: &seen.workspace,
        home: &seen.home,
        cause: &cause,
        code: report.exit.code,
        implied: &seen.implied,
    });
    match write(&out, &document) {
        Ok(()) => ExitCode::from(report.exit.code),
        Err(error) => refuse(&format!("{}: {error}", out.display()), json),
    }
}

fn write(out: &Path, document: &serde_json::Value) -> std::io::Result<()> {
    let mut options = std::fs::File::options();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(out)?;
    let mut text = serde_json::to_vec(document)?;
    text.push(b'\n');
    file.write_all(&text)
}

/// `None`: help was asked for.
fn parse(arguments: Vec<OsString>) -> Result<Option<(Request, PathBuf, bool)>, String> {
    let mut request = Request {
        observe: true,
        ..Request::default()
    };
    let mut json = false;
    let mut out = PathBuf::from("observation.json");
    let mut parser = lexopt::Parser::from_args(arguments);
    let text = |error: lexopt::Error| error.to_string();
    while let Some(argument) = parser.next().map_err(text)? {
        match argument {
            Short('h') | Long("help") => return Ok(None),
            Long("json") => json = true,
            Long("out") => out = parser.value().map_err(text)?.into(),
            Long("policy") => request.policy = Some(parser.value().map_err(text)?),
            Long("log") => request.log = Some(parser.value().map_err(text)?.into()),
            Value(first) => {
                request.command.push(first);
                request.command.extend(parser.raw_args().map_err(text)?);
                break;
            }
            other => return Err(other.unexpected().to_string()),
        }
    }
    if request.command.is_empty() {
        return Err("no command".to_owned());
    }
    Ok(Some((request, out, json)))
}
