//! Everything the user sees: one file owns the words.
//!
//! Colour only on a terminal. It refuses to pass control characters of the sandbox on: names and reasons are escaped.

use crate::log_terminal::clean;
use crate::monitor::wire::Layer;
use crate::supervise::report::{Cause, Denial, Report};
use std::io::{IsTerminal, Write};
use std::os::fd::RawFd;

/// The most denials told to a person.
const MOST_TOLD: usize = 10;

/// The report as one line of JSON on `descriptor`.
pub fn json(report: &Report, descriptor: RawFd) {
    let Ok(mut line) = serde_json::to_vec(report) else {
        return;
    };
    line.push(b'\n');
    let mut rest = &line[..];
    while !rest.is_empty() {
        // SAFETY: `rest` is valid memory of that length.
        let written = unsafe { libc::write(descriptor, rest.as_ptr().cast(), rest.len()) };
        match usize::try_from(written) {
            Ok(count) if count > 0 => rest = &rest[count..],
            _ if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
}

/// What a person needs to know after a run: why it ended when it was not the command's doing, and what was refused.
pub fn story(report: &Report) {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let colour = wanted && std::io::stderr().is_terminal();
    let mut text = String::new();
    if let Some(notice) = &report.notice {
        text.push_str(&format!("capsule: {}\n", clean(notice)));
    }
    if !matches!(report.exit.cause, Cause::Exited | Cause::Signalled) {
        for line in ending(report).lines() {
            text.push_str(&format!("capsule: {}\n", clean(line)));
        }
    }
    let told: Vec<&Denial> = report
        .denials
        .iter()
        .filter(|denial| !denial.probe)
        .collect();
    for denial in told.iter().take(MOST_TOLD) {
        text.push_str(&refusal(denial, colour));
    }
    if told.len() > MOST_TOLD {
        text.push_str(&format!(
            "capsule: and {} more denials; all are on the log\n",
            told.len() - MOST_TOLD
        ));
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn ending(report: &Report) -> String {
    let reason = report
        .exit
        .reason
        .as_deref()
        .unwrap_or("no reason was given");
    let command = report.command.first().map_or("", String::as_str);
    match report.exit.cause {
        Cause::NotFound => format!("{command}: command not found in the sandbox"),
        Cause::NotExecutable => format!("{command}: cannot be executed: {reason}"),
        // Each line of a policy's problems begins with its place, as an editor wants it.
        Cause::Refused if reason.contains('\n') => format!("{reason}\nrefused: nothing ran"),
        Cause::Refused => format!("refused: {reason}"),
        Cause::Failed => format!("failed: {reason}"),
        _ => format!("ended: {reason}"),
    }
}

fn refusal(denial: &Denial, colour: bool) -> String {
    let (red, plain) = if colour {
        ("\x1b[31m", "\x1b[0m")
    } else {
        ("", "")
    };
    let program = denial.program.rsplit('/').next().unwrap_or(&denial.program);
    let operation = serde_json::to_value(denial.operation).ok();
    let operation = operation
        .as_ref()
        .and_then(|value| value.as_str())
        .unwrap_or("?");
    let why = match &denial.rule {
        Some(rule) if rule.line > 0 => format!("{} at {}:{}", rule.text, rule.file, rule.line),
        Some(rule) => rule.text.clone(),
        None if denial.layer == Layer::Permissions => {
            "the file's owner and permissions; nothing in the policy can allow it".to_owned()
        }
        None => "nothing in the policy allows it".to_owned(),
    };
    let times = if denial.count > 1 {
        format!(" ×{}", denial.count)
    } else {
        String::new()
    };
    let target = if denial.operation == crate::monitor::wire::Operation::Syscall {
        format!("{} {}", denial.syscall, denial.target)
    } else {
        denial.target.clone()
    };
    let mut text = format!(
        "capsule: {red}denied{plain}  {}  {operation}  {}{times}   ({})\n",
        clean(program),
        clean(&target),
        clean(&why)
    );
    if let Some(allow) = &denial.allow {
        text.push_str(&format!("capsule:         to allow: {}\n", clean(allow)));
    }
    text
}
