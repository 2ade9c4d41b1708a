//! `capsule run`: one command under a policy, on the record.
//!
//! It refuses options it does not know and values it does not understand; nothing runs then.

use crate::dispatch::ExitCode;
use crate::plan::{Audit, Require};
use crate::supervise::report::Report;
use crate::supervise::{Request, control, launch, tier};
use crate::{log_terminal, terminal};
use lexopt::prelude::*;
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// What `--help` prints.
pub const HELP: &str = "\
Run one command under a policy, on the record.

usage: capsule run [options] [--] COMMAND [ARGUMENT…]

  --policy FILE|PRESET     the policy; else capsule.yaml upward to the repository's root, else `workspace`
  --tool NAME              with the policy's overrides for one tool
  --log FILE               the audit log (default: ./capsule.log)
  --json                   the report as one line of JSON, last on standard error
  --report-fd N            the report as JSON on descriptor N instead
  --timeout SECONDS        end the command after this long (exit 124)
  --env NAME=VALUE         set a variable for the command; may be repeated
  --overlay                keep what is written apart; review it with capsule diff, apply, discard
  --audit LEVEL            run, writes or all: record more than the policy asks for
  --allow-degraded LAYER   run without a layer this host cannot give; may be repeated; is recorded
  --read DIRECTORY         may be read and executed from, beyond the policy; may be repeated; is recorded
  --program FILE           may be executed where the policy names programs; may be repeated; is recorded
  --pass-fd N              the command inherits descriptor N; may be repeated; is recorded
  --control-fd N           a program drives this run over descriptor N and ends it (docs/formats/control.md)
  --worker                 with --control-fd: the command is a worker
  -h, --help               this text

The exit code is the command's own; 124 when a limit was reached, 125 when capsule refused or failed,
126 when the command cannot be executed, 127 when there is none, 128+N when it died of signal N.
Ctrl-C goes to the command. Typed three times within two seconds, where the command ignores it or says nothing to it,
it ends the run and all that was started (exit 130).

example: capsule run --timeout 60 -- python3 script.py
";

/// Where the report goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Output {
    #[default]
    Person,
    Json,
    Descriptor(RawFd),
}

/// Run the verb with the arguments after its name.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let json = super::wants_json(&arguments);
    let mut output = Output::default();
    let request = match parse(arguments, &mut output) {
        Ok(Some(request)) => request,
        Ok(None) => {
            log_terminal::print(HELP);
            return ExitCode::SUCCESS;
        }
        Err(why) => {
            let report = launch::refused(&format!("{why}; see capsule run --help"));
            match output {
                Output::Person if json => tell(&report, Output::Json),
                Output::Person => {
                    log_terminal::error(&format!("run: {why}; see capsule run --help"));
                }
                output => tell(&report, output),
            }
            return ExitCode::from(report.exit.code);
        }
    };
    let report = launch::run(&request);
    if let (true, Some(number)) = (request.worker, request.control) {
        control::report(number, &serde_json::to_vec(&report).unwrap_or_default());
    } else {
        tell(&report, output);
    }
    ExitCode::from(report.exit.code)
}

fn tell(report: &Report, output: Output) {
    match output {
        Output::Person => terminal::story(report),
        Output::Json => terminal::json(report, 2),
        Output::Descriptor(number) => terminal::json(report, number),
    }
}

/// Options that take a value.
const WITH_VALUE: [&str; 12] = [
    "pass-fd",
    "read",
    "program",
    "policy",
    "tool",
    "log",
    "report-fd",
    "control-fd",
    "timeout",
    "env",
    "audit",
    "allow-degraded",
];

/// `None`: help was asked for.
fn parse(arguments: Vec<OsString>, output: &mut Output) -> Result<Option<Request>, String> {
    let mut request = Request::default();
    let mut parser = lexopt::Parser::from_args(arguments);
    let text = |error: lexopt::Error| error.to_string();
    while let Some(argument) = parser.next().map_err(text)? {
        let option = match argument {
            Short('h') | Long("help") => return Ok(None),
            Long("json") => {
                *output = Output::Json;
                continue;
            }
            Long("overlay") => {
                request.overlay = true;
                continue;
            }
            Long("worker") => {
                request.worker = true;
                continue;
            }
            Value(first) => {
                request.command.push(first);
                request.command.extend(parser.raw_args().map_err(text)?);
                break;
            }
            Long(name) if WITH_VALUE.contains(&name) => name.to_owned(),
            other => return Err(other.unexpected().to_string()),
        };
        let value = parser.value().map_err(text)?;
        match option.as_str() {
            "policy" => request.policy = Some(value),
            "tool" => request.tool = Some(value.to_string_lossy().into_owned()),
            "log" if value.is_empty() => return Err("--log: the name is empty".to_owned()),
            "log" => request.log = Some(value.into()),
            "report-fd" => *output = Output::Descriptor(descriptor("--report-fd", &value)?),
            "control-fd" => request.control = Some(descriptor("--control-fd", &value)?),
            "pass-fd" => request.passed.push(descriptor("--pass-fd", &value)?),
            "read" => request.read.push(absolute("--read", &value)?),
            "program" => request.programs.push(absolute("--program", &value)?),
            "timeout" => request.timeout_ms = Some(milliseconds(&value)?),
            "env" => request.environment.push(assignment(&value)?),
            "audit" => request.audit = Some(level(&value)?),
            _ => {
                request.waived.insert(layer(&value)?);
            }
        }
    }
    if request.command.is_empty() {
        return Err("no command".to_owned());
    }
    if request
        .passed
        .iter()
        .any(|number| request.control == Some(*number) || *output == Output::Descriptor(*number))
    {
        return Err(
            "--pass-fd: this descriptor is the control connection or the report's".to_owned(),
        );
    }
    if request.worker && request.control.is_none() {
        return Err("--worker: only a program with --control-fd can drive one".to_owned());
    }
    Ok(Some(request))
}

fn layer(value: &OsString) -> Result<Require, String> {
    value.to_str().and_then(tier::parse).ok_or_else(|| {
        format!("--allow-degraded: {value:?} is none of namespaces, network, landlock, seccomp, supervisor")
    })
}

fn descriptor(option: &str, value: &OsString) -> Result<RawFd, String> {
    let number = value
        .to_str()
        .and_then(|text| text.parse::<RawFd>().ok())
        .filter(|number| *number > 2);
    let number = number
        .ok_or_else(|| format!("{option}: {value:?} is not the number of a descriptor above 2"))?;
    // SAFETY: plain integers.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(format!("{option}: descriptor {number} is not open"));
    }
    Ok(number)
}

/// An absolute path as a grant holds it.
fn absolute(option: &str, value: &OsString) -> Result<String, String> {
    let text = value
        .to_str()
        .filter(|text| text.starts_with('/') && text.len() > 1);
    let plain = text.filter(|text| {
        text[1..]
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
    });
    plain.map(str::to_owned).ok_or_else(|| {
        format!("{option}: {value:?} is not an absolute path without `.`, `..` and a slash at the end, or is everything")
    })
}

/// So many seconds a command may be given, less one millisecond: 31 years.
const MOST_SECONDS: f64 = 1e9;

fn milliseconds(value: &OsString) -> Result<u64, String> {
    let seconds = value.to_str().and_then(|text| text.parse::<f64>().ok());
    let wrong = match seconds.filter(|seconds| !seconds.is_nan()) {
        None => "is not a number of seconds; write 90 or 1.5, without a unit",
        Some(seconds) if seconds <= 0.0 => {
            "leaves the command no time; give it more than 0 seconds"
        }
        Some(seconds) if seconds >= MOST_SECONDS => {
            "is more than the 999999999 seconds that can be counted; without --timeout there is no end"
        }
        Some(seconds) => return Ok((seconds * 1000.0).ceil() as u64),
    };
    Err(format!("--timeout: {value:?} {wrong}"))
}

fn assignment(value: &OsString) -> Result<(OsString, OsString), String> {
    let bytes = value.as_bytes();
    let Some(at) = bytes
        .iter()
        .position(|byte| *byte == b'=')
        .filter(|at| *at > 0)
    else {
        return Err(format!("--env: {value:?} is not NAME=VALUE"));
    };
    Ok((
        OsString::from_vec(bytes[..at].to_vec()),
        OsString::from_vec(bytes[at + 1..].to_vec()),
    ))
}

fn level(value: &OsString) -> Result<Audit, String> {
    match value.to_str() {
        Some("run") => Ok(Audit::Run),
        Some("writes") => Ok(Audit::Writes),
        Some("all") => Ok(Audit::All),
        _ => Err(format!("--audit: {value:?} is none of run, writes, all")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<(Request, Output)>, String> {
        let mut output = Output::default();
        let request = parse(words.iter().map(OsString::from).collect(), &mut output)?;
        Ok(request.map(|request| (request, output)))
    }

    #[test]
    fn the_command_begins_at_the_first_word() {
        let (request, output) = parsed(&["--json", "ls", "-l", "--json"]).unwrap().unwrap();
        assert_eq!(request.command, ["ls", "-l", "--json"]);
        assert_eq!(output, Output::Json);
        let (request, _) = parsed(&["--timeout", "1.5", "--", "--odd", "x"])
            .unwrap()
            .unwrap();
        assert_eq!(request.command, ["--odd", "x"]);
        assert_eq!(request.timeout_ms, Some(1500));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for words in [
            &["--frobnicate", "ls"][..],
            &[],
            &["--timeout", "soon", "ls"],
            &["--log", "", "ls"],
            &["--env", "=x", "ls"],
            &["--env", "x", "ls"],
            &["--audit", "off", "ls"],
            &["--allow-degraded", "selinux", "ls"],
            &["--report-fd", "2", "ls"],
            &["--report-fd", "999", "ls"],
        ] {
            assert!(parsed(words).is_err(), "{words:?}");
        }
        assert!(parsed(&["--help"]).unwrap().is_none());
    }

    #[test]
    fn a_time_that_cannot_be_kept_is_told_as_what_it_is() {
        for (words, told) in [
            ("soon nan 5s 0x10", "is not a number"),
            ("0 -0 -1 -inf", "leaves the command no time"),
            ("1e400 inf 1e9", "is more than"),
        ] {
            for word in words.split(' ') {
                let why = milliseconds(&word.into()).unwrap_err();
                assert!(why.contains(word) && why.contains(told), "{why}");
            }
        }
        assert_eq!(milliseconds(&"1e-9".into()), Ok(1));
        assert_eq!(milliseconds(&"999999999".into()), Ok(999_999_999_000));
    }

    #[test]
    fn json_is_asked_for_before_the_command() {
        let wants = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            super::super::wants_json(&words)
        };
        assert!(wants(&["--frobnicate", "--json"]));
        assert!(!wants(&["--frobnicate", "--", "x", "--json"]));
    }

    #[test]
    fn values_keep_their_equals_signs() {
        let (request, _) = parsed(&["--env", "A=b=c", "--env=D=", "ls"])
            .unwrap()
            .unwrap();
        let pair = |n: &str, v: &str| (OsString::from(n), OsString::from(v));
        assert_eq!(request.environment, [pair("A", "b=c"), pair("D", "")]);
    }
}
