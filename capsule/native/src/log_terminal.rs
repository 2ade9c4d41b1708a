//! What a person reads about the log: entries as lines, verifications as a short page, progress as a bar.
//!
//! Nothing recorded reaches a terminal raw: control characters and characters that disguise text are escaped.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::audit::line::disguises;
use crate::audit::outcome::{Outcome, Report};

const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const CYAN: &str = "\x1b[36m";
const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// Lines of one failure that are told.
const MOST_LINES: usize = 100;

/// Whether standard output is a terminal that wants colour.
pub fn colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::io::stdout().is_terminal()
}

/// What an error of the system says, without its number.
#[must_use]
pub fn words(error: &io::Error) -> String {
    numberless(&error.to_string())
}

/// A sentence without the numbers that errors of the system end in, which say nothing to a person.
#[must_use]
pub fn numberless(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                out.push_str(rest);
            }
            _ => {
                out.push_str(" (os error ");
                out.push_str(part);
            }
        }
    }
    out
}

/// Control characters, and characters that turn text around, as escapes; ends of lines and tabs as everybody writes them.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\n' | '\t' | '\r') {
            out.extend(c.escape_default());
        } else if c.is_control() || disguises(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// A name as a person reads it.
pub fn shown(path: &Path) -> String {
    clean(&path.to_string_lossy())
}

/// A line of JSON in which characters that could drive a terminal are escaped as JSON escapes them.
pub fn json_line(line: &str) -> Cow<'_, str> {
    let odd = |c: char| c.is_control() || disguises(c);
    if !line.contains(odd) {
        return Cow::Borrowed(line);
    }
    let mut out = String::with_capacity(line.len() + 16);
    for c in line.chars() {
        if odd(c) {
            // None of them is beyond the first plane.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// An answer for programs, as one line on standard output.
pub fn print_json(answer: &Value) -> bool {
    print(&format!("{}\n", json_line(&answer.to_string())))
}

/// Whether something that was to be printed could not be, but for a reader that left.
static UNWRITTEN: AtomicBool = AtomicBool::new(false);

/// Writes to standard output; false when the reader has left, or when nothing can be written there, which is said.
pub fn print(text: &str) -> bool {
    // Rust's own would take a closed one for one that took everything.
    // SAFETY: nothing else closes or owns descriptor 1, and this does not close it either.
    let mut out = ManuallyDrop::new(unsafe { File::from_raw_fd(1) });
    let Err(why) = out.write_all(text.as_bytes()) else {
        return true;
    };
    if why.kind() != io::ErrorKind::BrokenPipe && !UNWRITTEN.swap(true, Ordering::Relaxed) {
        error(&format!(
            "the answer cannot be written to standard output: {}; see that there is room and that it can be written",
            words(&why)
        ));
    }
    false
}

/// Whether an answer is lost that somebody may wait for.
pub fn unwritten() -> bool {
    UNWRITTEN.load(Ordering::Relaxed)
}

/// One line about a failure, on standard error.
pub fn error(text: &str) {
    // A reader that left is no fault.
    let _ = writeln!(std::io::stderr(), "capsule: {}", clean(&numberless(text)));
}

/// A failure that is told in several lines, on standard error; each of them is clean.
pub fn error_lines(text: &str) {
    for (number, line) in text.lines().take(MOST_LINES).enumerate() {
        if number == 0 {
            error(line);
        } else {
            let _ = writeln!(std::io::stderr(), "{}", clean(&numberless(line)));
        }
    }
}

/// How many columns a line may have: those of the terminal, or 0 where standard output is none.
pub fn width() -> usize {
    // SAFETY: all-zero is a valid structure, which the call fills.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the request takes a pointer to a `winsize`, which outlives the call.
    let asked = unsafe { libc::ioctl(1, libc::TIOCGWINSZ, &raw mut size) };
    if asked == 0 { size.ws_col.into() } else { 0 }
}

/// Colours of a log's lines, or none.
#[derive(Debug, Clone, Copy)]
pub struct Style(bool);

impl Style {
    /// As standard output wants it.
    pub fn wanted() -> Style {
        Style(colour())
    }

    /// None.
    pub fn plain() -> Style {
        Style(false)
    }

    /// Less important.
    pub fn dim(self, text: &str) -> String {
        self.paint(DIM, text)
    }

    /// More important.
    pub fn bold(self, text: &str) -> String {
        self.paint(BOLD, text)
    }

    /// The name of an entry's type, in its colour.
    pub fn of_kind(self, kind: &str, text: &str) -> String {
        self.paint(colour_of(kind), text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if text.is_empty() || code.is_empty() {
            return text.to_owned();
        }
        paint(self.0, code, text)
    }
}

fn colour_of(kind: &str) -> &'static str {
    match kind {
        "denied" | "limit" | "egress.finding" => RED,
        "gap" | "recovery" | "clock" | "policy.changed" | "egress.ask" | "egress.lost" => YELLOW,
        "run.started" | "run.ended" | "log.created" => CYAN,
        _ => "",
    }
}

fn paint(colour: bool, code: &str, text: &str) -> String {
    if colour {
        format!("{code}{text}{PLAIN}")
    } else {
        text.to_owned()
    }
}

/// One entry with all its fields, as one line. `line` is its JSON.
pub fn entry(line: &[u8], colour: bool) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(line) else {
        return format!("{}\n", clean(&String::from_utf8_lossy(line)));
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or("");
    let kind = text("type");
    let code = colour_of(kind);
    let run: String = text("run").chars().take(10).collect();
    let seq = fields.get("seq").map_or(String::new(), value_text);
    let time = text("time").get(..23).unwrap_or("").replace('T', " ");
    let mut out = format!(
        "{} {} {} {}",
        paint(colour, DIM, &format!("{seq:>6}")),
        clean(&time),
        paint(colour, DIM, &format!("{:<10}", clean(&run))),
        paint(colour, code, &format!("{:<12}", clean(kind))),
    );
    let first: &[&str] = match kind {
        "run.started" => &["command", "cwd"],
        "run.ended" => &["exit", "code", "cause"],
        "denied" => &["program", "operation", "target", "layer", "errno"],
        "exec" | "read" | "write" => &["program", "path", "target"],
        "recovery" | "gap" => &["why", "lost"],
        _ => &[],
    };
    let bold = if kind == "denied" { BOLD } else { PLAIN };
    for value in first.iter().filter_map(|name| fields.get(*name)) {
        let _ = write!(out, " {}", paint(colour, bold, &value_text(value)));
    }
    for (name, value) in &fields {
        let head = ["seq", "time", "mono", "run", "type"].contains(&name.as_str());
        if !head && !first.contains(&name.as_str()) && !value.is_null() {
            let name = paint(colour, DIM, &format!("{}=", clean(name)));
            let _ = write!(out, " {name}{}", shorten(&value_text(value)));
        }
    }
    out.push('\n');
    out
}

fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() || text.contains([' ', '"']) => {
            format!("\"{}\"", clean(text).replace('"', "\\\""))
        }
        Value::String(text) => clean(text),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            items.iter().map(value_text).collect::<Vec<_>>().join(" ")
        }
        other => clean(&other.to_string()),
    }
}

fn shorten(text: &str) -> String {
    if text.chars().count() <= 120 {
        return text.to_owned();
    }
    text.chars().take(117).chain("…".chars()).collect()
}

/// A verification as a short page.
pub fn page(report: &Report, path: &str, exit: u8, colour: bool) -> String {
    let (name, _) = report.outcome.code();
    let code = match report.outcome {
        Outcome::Verified => GREEN,
        Outcome::Unauthenticated | Outcome::Unsealed | Outcome::Torn => YELLOW,
        _ => RED,
    };
    let mut out = format!(
        "{}  {}\n",
        paint(colour, code, &name.replace('_', " ")),
        clean(path)
    );
    let mut row = |name: &str, text: String| {
        let _ = writeln!(out, "  {name:<12} {}", clean(&text));
    };
    if let Some(fault) = &report.fault {
        row("because", fault.why.clone());
        row(
            "at",
            format!(
                "block {}, seq {}, byte {}",
                fault.block, fault.seq, fault.offset
            ),
        );
        let begun = report.entries > 0;
        row("next", next_step(report.outcome, begun).to_owned());
    }
    row(
        "log",
        report
            .log
            .clone()
            .unwrap_or_else(|| "its id cannot be read".into()),
    );
    let (entries, blocks, bytes) = (report.entries, report.blocks, report.bytes);
    row(
        "sound",
        format!("{entries} entries in {blocks} blocks, {bytes} bytes"),
    );
    let whose = match report.key_from {
        "given" => "the key you gave",
        "own" => "this machine's key",
        "remembered" => "the key remembered for this log",
        "log" => "the key the log names itself, which proves nothing",
        _ => "no key",
    };
    row(
        "checkpoints",
        format!(
            "{}, over the first {} entries, by {whose}",
            report.checkpoints, report.sealed
        ),
    );
    if report.quick {
        row(
            "quick",
            "only the chain and the newest checkpoint: no line, no tree".into(),
        );
    }
    let _ = writeln!(out, "  what this could find");
    for row in report.rows() {
        let mark = if row.checked {
            paint(colour, GREEN, "yes")
        } else {
            paint(colour, YELLOW, "no ")
        };
        let _ = writeln!(
            out,
            "    {mark}  {:<52} {}",
            row.attack,
            paint(colour, DIM, &row.how)
        );
    }
    if report.warned > 0 {
        let _ = writeln!(
            out,
            "  {}",
            paint(colour, YELLOW, &format!("{} to look at", report.warned))
        );
        for warning in report.warnings.iter().take(20) {
            let detail = clean(&warning.detail);
            let _ = writeln!(
                out,
                "    seq {:<8} {:<14} {detail}",
                warning.seq, warning.kind
            );
        }
        if report.warned > 20 {
            let _ = writeln!(out, "    … and {} more", report.warned - 20);
        }
    }
    if exit == 21 {
        let _ = writeln!(
            out,
            "  --strict: something above deserves a look, so this does not pass"
        );
    }
    out
}

fn next_step(outcome: Outcome, begun: bool) -> &'static str {
    match outcome {
        Outcome::Malformed if !begun => {
            "make sure that this is the file which a run wrote; if it is, its beginning was changed: compare it with a copy"
        }
        Outcome::Verified => "nothing",
        Outcome::Unauthenticated => {
            "get the log's key from whoever ran it (`capsule log --key`) and give it with --key"
        }
        Outcome::Unsealed => "the next run, or `capsule record </dev/null`, signs them",
        Outcome::Torn => "a writer died here; the next run sets the torn tail aside and records it",
        Outcome::Algorithm => "read it with the version that wrote it",
        Outcome::UnknownKey => {
            "make sure of the key: it must be this log's own, from whoever ran it"
        }
        _ => "keep the file as it is: it was changed after it was written; compare it with a copy",
    }
}

/// A bar on standard error while a big log is verified; nothing when it is no terminal.
pub struct Progress {
    length: u64,
    shown: bool,
    last: Instant,
    start: Instant,
}

impl Progress {
    /// For a file of `length` bytes.
    pub fn new(length: u64) -> Progress {
        let now = Instant::now();
        Progress {
            length,
            shown: false,
            last: now,
            start: now,
        }
    }

    /// `done` bytes are verified.
    pub fn at(&mut self, done: u64) {
        // A verification that is over in a moment needs no bar.
        let early = self.start.elapsed() < Duration::from_millis(400);
        if early
            || self.last.elapsed() < Duration::from_millis(100)
            || !std::io::stderr().is_terminal()
        {
            return;
        }
        self.last = Instant::now();
        self.shown = true;
        let share = done.min(self.length) * 100 / self.length.max(1);
        let filled = "█".repeat(usize::try_from(share / 4).unwrap_or(25));
        let _ = write!(std::io::stderr(), "\r  verifying {filled:<25} {share:>3} %");
    }

    /// Takes the bar away.
    pub fn done(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_data_cannot_reach_the_terminal_raw() {
        let line = br#"{"seq":1,"time":"2026-11-22T12:00:00.000000Z","mono":5,"run":"r-a","type":"denied","program":"\u001b]0;x\u0007","target":"a\u202eb\u009b2J","n":["\n"]}"#;
        let text = entry(line, false);
        assert!(
            text.trim_end_matches('\n')
                .chars()
                .all(|c| !c.is_control() && !disguises(c)),
            "{text:?}"
        );
        assert!(text.contains("denied"));
        let odd = "{\"seq\":\"1\u{9b}2J\",\"type\":\"denied\"}";
        assert!(!entry(odd.as_bytes(), false).contains('\u{9b}'));
        assert_eq!(json_line(odd), odd.replace('\u{9b}', "\\u009b"));
        assert_eq!(
            clean("a\n\tb\r\u{1b}[2J\u{202e}"),
            "a\\n\\tb\\r\\u{1b}[2J\\u{202e}"
        );
    }

    #[test]
    fn numbers_of_errors_are_not_told() {
        let missing = io::Error::from_raw_os_error(libc::ENOENT);
        assert_eq!(words(&missing), "No such file or directory");
        for (told, wanted) in [
            (
                format!("a: {missing}; b: {missing}."),
                "a: No such file or directory; b: No such file or directory.",
            ),
            (
                "a (os error x) (os error".to_owned(),
                "a (os error x) (os error",
            ),
            ("plain".to_owned(), "plain"),
        ] {
            assert_eq!(numberless(&told), wanted);
        }
    }

    #[test]
    fn colour_is_only_ours() {
        let line = br#"{"seq":1,"time":"2026-11-22T12:00:00.000000Z","mono":5,"run":null,"type":"exec","path":"/bin/ls"}"#;
        assert!(!entry(line, false).contains('\x1b'));
        assert!(entry(line, true).contains("/bin/ls"));
    }
}
