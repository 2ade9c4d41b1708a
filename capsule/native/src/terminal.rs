//! Everything the user sees: one file owns the words.
//!
//! Colour only on a terminal. It refuses to pass control characters of the sandbox on: names and reasons are escaped.

use crate::log_terminal::{clean, json_line, numberless};
use crate::monitor::wire::Layer;
use crate::supervise::report::{Cause, Denial, Finding, Report};
use std::io::{IsTerminal, Write};
use std::os::fd::RawFd;

/// The most denials told to a person.
const MOST_TOLD: usize = 10;
/// The most findings told to a person.
const MOST_FOUND: usize = 10;

/// The report as one line of JSON on `descriptor`.
pub fn json(report: &Report, descriptor: RawFd) {
    let Ok(line) = serde_json::to_string(report) else {
        return;
    };
    let line = format!("{}\n", json_line(&line));
    let mut rest = line.as_bytes();
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

/// Tell who sits at a terminal that the command stands still, and what to do: it has no shell that could see it. `raw`: the
/// terminal is in raw mode.
pub fn stopped(raw: bool) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let end = if raw { "\r\n" } else { "\n" };
    let text = format!(
        "{end}capsule: the command has stopped; Ctrl-Z and then fg, or `kill -CONT {}`, lets it go on; Ctrl-C three times ends the run{end}",
        std::process::id()
    );
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// What a person needs to know after a run: why it ended when it was not the command's doing, and what was refused.
pub fn story(report: &Report) {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let colour = wanted && std::io::stderr().is_terminal();
    let mut text = String::new();
    if let Some(notice) = &report.notice {
        text.push_str(&format!("capsule: {}\n", clean(&numberless(notice))));
    }
    if !matches!(report.exit.cause, Cause::Exited | Cause::Signalled) {
        for line in numberless(&ending(report)).lines() {
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
    let shown: u64 = told.iter().take(MOST_TOLD).map(|denial| denial.count).sum();
    text.push_str(&untold(report, shown));
    for repository in report.repositories.iter().take(MOST_TOLD) {
        text.push_str(&made(repository, &report.cwd));
    }
    if report.repositories.len() > MOST_TOLD {
        text.push_str(&format!(
            "capsule: and {} more repositories; all are on the log\n",
            report.repositories.len() - MOST_TOLD
        ));
    }
    for finding in report.findings.iter().take(MOST_FOUND) {
        text.push_str(&found(finding, colour));
    }
    if report.findings.len() > MOST_FOUND {
        text.push_str(&format!(
            "capsule: and {} more findings; all are on the log\n",
            report.findings.len() - MOST_FOUND
        ));
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// How many refusals were not shown, and the command that shows all of them. Besides what is too much to show, these
/// are looks at names that the host has not got either, which are no warning.
fn untold(report: &Report, shown: u64) -> String {
    let rest = report.denials_total.saturating_sub(shown);
    let (Some(run), Some(log), 1..) = (&report.run, &report.log, rest) else {
        return String::new();
    };
    let what = if shown > 0 {
        format!("{rest} more")
    } else if rest == 1 {
        "refused a look for what is not there;".to_owned()
    } else {
        format!("refused {rest} looks for what is not there;")
    };
    let from = if log.path == format!("{}/capsule.log", report.cwd) {
        String::new()
    } else {
        format!(" {}", quoted(&log.path))
    };
    format!(
        "capsule: {what} on the record: capsule log{} --run {run} --denied\n",
        clean(&from)
    )
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn made(repository: &str, cwd: &str) -> String {
    let below = repository.strip_prefix(cwd);
    let name = below.and_then(|rest| rest.strip_prefix('/'));
    format!(
        "capsule: made a repository: {}; git runs what its hooks and config name: look before you use git there\n",
        clean(name.unwrap_or(repository))
    )
}

fn found(finding: &Finding, colour: bool) -> String {
    let (yellow, plain) = if colour {
        ("\x1b[33m", "\x1b[0m")
    } else {
        ("", "")
    };
    let times = if finding.count > 1 {
        format!(" ×{}", finding.count)
    } else {
        String::new()
    };
    let title = if finding.title.is_empty() {
        &finding.id
    } else {
        &finding.title
    };
    format!(
        "capsule: {yellow}found{plain}   {}  {}{times}   ({}:{})\n",
        clean(&finding.level),
        clean(title),
        clean(&finding.file),
        finding.line
    )
}

fn ending(report: &Report) -> String {
    let reason = report
        .exit
        .reason
        .as_deref()
        .unwrap_or("no reason was given");
    // Lines of the reason are capsule's; a name has none.
    let command = clean(report.command.first().map_or("", String::as_str));
    let command = if command.is_empty() { "\"\"" } else { &command };
    match report.exit.cause {
        Cause::NotFound | Cause::NotExecutable => {
            let found = report.exit.cause != Cause::NotFound;
            let what = if found {
                "cannot be executed"
            } else {
                "command not found in the sandbox"
            };
            match reason.split_once("; to allow: ") {
                Some((why, allow)) => {
                    format!("{command}: {what}: {why}\n        to allow: {allow}")
                }
                // Why a program that is there does not start; of one that is not, the words say it.
                None if found || reason.starts_with("it is ") => {
                    format!("{command}: {what}: {reason}")
                }
                None => format!("{command}: {what}"),
            }
        }
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
    // A name is asked for in a datagram that says nothing of who sent it.
    let program = if program.is_empty() { "-" } else { program };
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
        None if asks_for_a_name(denial) => {
            "a host's name was looked up, and the policy names no hosts".to_owned()
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

/// Whether it was kept from a resolver where there is no network: which name it wanted, nobody was told.
fn asks_for_a_name(denial: &Denial) -> bool {
    use crate::monitor::wire::Operation;
    let port = denial.target.rsplit_once(':').map(|(_, port)| port);
    denial.layer == Layer::Network
        && matches!(denial.operation, Operation::Connect | Operation::Send)
        && port == Some("53")
        && denial
            .allow
            .as_deref()
            .is_some_and(|allow| allow.starts_with("network: hosts:"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::report::{Exit, LogPlace, Usage};

    fn report(total: u64, path: &str) -> Report {
        Report {
            capsule: 1,
            run: Some("r-1".into()),
            command: vec!["true".into()],
            cwd: "/w".into(),
            exit: Exit::from_status(0, false),
            policy: None,
            enforced: None,
            denials: vec![],
            denials_total: total,
            findings: vec![],
            repositories: vec![],
            executed: 1,
            written: 0,
            usage: Usage::default(),
            log: Some(LogPlace {
                path: path.into(),
                id: "i".into(),
                first: 1,
                last: 2,
            }),
            seen: None,
            notice: None,
        }
    }

    #[test]
    fn a_name_that_was_looked_up_without_a_network_is_told_as_that() {
        let mut denial = Denial {
            time: String::new(),
            program: "/usr/bin/curl".into(),
            pid: 2,
            operation: crate::monitor::wire::Operation::Connect,
            syscall: "connect".into(),
            target: "udp:10.255.255.53:53".into(),
            layer: Layer::Network,
            errno: "EACCES".into(),
            rule: None,
            allow: Some("network: hosts: [NAME]".into()),
            count: 1,
            probe: false,
        };
        let told = refusal(&denial, false);
        assert!(told.contains("(a host's name was looked up, and the policy names no hosts)"));
        assert!(told.ends_with("to allow: network: hosts: [NAME]\n"));
        denial.target = "tcp:192.0.2.1:5353".into();
        assert!(refusal(&denial, false).contains("(nothing in the policy allows it)"));
    }

    #[test]
    fn a_name_writes_no_line_of_its_own() {
        let mut report = report(0, "/w/capsule.log");
        report.command = vec!["x\ncapsule: y\u{1b}[2J".into()];
        report.exit = Exit::of_capsule(Cause::NotExecutable, "it is /w/x\ncapsule: y here");
        assert_eq!(
            ending(&report),
            "x\\ncapsule: y\\u{1b}[2J: cannot be executed: it is /w/x\\ncapsule: y here"
        );
        report.exit = Exit::of_capsule(Cause::Refused, "mount /w/x\ncapsule: y");
        assert_eq!(ending(&report), "refused: mount /w/x\\ncapsule: y");
        report.exit = Exit::in_lines(Cause::Refused, "a:1:1: no\nb:2:1: no\u{9b}");
        assert_eq!(
            ending(&report),
            "a:1:1: no\nb:2:1: no\\u{9b}\nrefused: nothing ran"
        );
    }

    #[test]
    fn what_was_not_shown_is_counted_with_the_command_that_shows_it() {
        let usual = "/w/capsule.log";
        assert_eq!(untold(&report(0, usual), 0), "");
        assert_eq!(untold(&report(3, usual), 3), "");
        assert_eq!(
            untold(&report(4, usual), 3),
            "capsule: 1 more on the record: capsule log --run r-1 --denied\n"
        );
        let alone = untold(&report(2, "/l/it's here"), 0);
        assert!(
            alone.starts_with("capsule: refused 2 looks for what is not there; on the record:")
        );
        assert!(alone.ends_with("capsule log '/l/it'\\''s here' --run r-1 --denied\n"));
    }
}
