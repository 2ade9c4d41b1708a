//! `capsule record`: appends what a trusted local process has to record. It alone holds the key; it parses one JSON
//! object a line and nothing else.
//!
//! Refuses: entry types that only a run may write, lines over 64 KiB, JSON that could be read in two ways. What is
//! refused is not passed over in silence: a `gap` on the log says how many lines, and the exit code is 1.
//!
//! `echo '{"type":"egress.http","run":"r-1","host":"example.org"}' | capsule record --log capsule.log`

use crate::dispatch::ExitCode;
use std::ffi::OsString;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::audit::block::MAX_ENTRIES;
use crate::audit::{Entry, Error, Places, Positions, Seal, Stamp, Value, Writer};
use crate::log_terminal as terminal;

const HELP: &str = "\
usage: capsule record [--log LOG] [--wait] [--ahead] [--json] < ENTRIES

Appends entries to LOG (default ./capsule.log) for a trusted local process: one JSON object a line, with `type`, `run`
(or null) and any other fields. Types: exec read write denied connect limit call.started call.ended policy.changed gap,
and any that begin with egress. or machine.

Entries are on the log within 100 ms, under a signed checkpoint within a second, and on the disk at the end. An empty
line asks for both now.

  --wait   where the disk is full, keep what was handed over and read no more until there is room again, as long as
           whoever writes is there, and 5 s longer
  --ahead  open the log when the first line comes; where none ever does, none is made
  --json   at the end, one JSON object: the log's id, how many entries, the seqs of the first and the last

exit: 0 all recorded, 1 some lines were refused (a gap says how many), 64 usage, 125 the log cannot be written

example: echo '{\"type\":\"call.started\",\"run\":null}' | capsule record --log ./capsule.log
";

/// What others than a run may record.
const TYPES: [&str; 10] = [
    "exec",
    "read",
    "write",
    "denied",
    "connect",
    "limit",
    "call.started",
    "call.ended",
    "policy.changed",
    "gap",
];
const PREFIXES: [&str; 3] = ["egress.", "machine.", "guest."];
/// Entries wait at most this long to be written …
const WAIT: Duration = Duration::from_millis(100);
/// … and at most this long to be signed.
const SIGN: Duration = Duration::from_millis(900);
/// How often a full disk is tried again …
const AGAIN: Duration = Duration::from_millis(200);
/// … and for how long once nobody writes any more.
const PARTING: Duration = Duration::from_secs(5);
/// Nobody is kept waiting for more than these.
const BATCH: usize = 256;

/// Runs the verb.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    // A wrong line may be the one that does not come to its `--json`.
    let asked = super::wants_json(&arguments);
    let (log, wait, ahead, json) = match parse(arguments) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => {
            terminal::print(HELP);
            return ExitCode::SUCCESS;
        }
        Err(why) => return super::usage(&why, "capsule record --help", asked),
    };
    let mut first = Vec::new();
    if ahead {
        match first_of_it() {
            Ok(found) => first = found,
            Err(why) => return super::refuse(&why, asked),
        }
        if first.is_empty() {
            if json {
                report(None, None, 0, 0);
            }
            return ExitCode::SUCCESS;
        }
    }
    let mut recorder = match Places::from_env().and_then(|places| Writer::open(&log, &places)) {
        Ok(writer) => Recorder::new(writer, wait),
        Err(why) => return super::refuse(&why.to_string(), asked),
    };
    if let Err(why) = recorder.run(&first) {
        return super::refuse(&why, asked);
    }
    if json {
        let (id, span) = (Some(recorder.writer.id()), recorder.span);
        report(id, span, recorder.count, recorder.refused);
    }
    ExitCode::from(u8::from(recorder.refused > 0))
}

fn report(log: Option<&str>, span: Option<(u64, u64)>, recorded: u64, refused: u64) {
    let report = serde_json::json!({
        "log": log, "recorded": recorded, "refused": refused,
        "first": span.map(|(first, _)| first), "last": span.map(|(_, last)| last),
    });
    terminal::print_json(&report);
}

/// The log, and whether `--wait`, `--ahead` and `--json` were given.
type Asked = (PathBuf, bool, bool, bool);

fn parse(arguments: Vec<OsString>) -> Result<Option<Asked>, String> {
    use lexopt::prelude::*;
    let mut log = PathBuf::from("capsule.log");
    let (mut wait, mut ahead, mut json) = (false, false, false);
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next().map_err(|why| why.to_string())? {
        match argument {
            Long("log") => log = parser.value().map_err(|why| why.to_string())?.into(),
            Long("wait") => wait = true,
            Long("ahead") => ahead = true,
            Long("json") => json = true,
            Long("help") | Short('h') => return Ok(None),
            other => return Err(other.unexpected().to_string()),
        }
    }
    Ok(Some((log, wait, ahead, json)))
}

struct Recorder {
    writer: Writer,
    waiting: Vec<Entry>,
    /// Since when the first of them waits.
    since: Instant,
    /// Since when something on the log waits for a checkpoint.
    unsigned: Option<Instant>,
    span: Option<(u64, u64)>,
    count: u64,
    refused: u64,
    line: u64,
    /// What has come of a line that has not ended, and whether that is too long to be kept.
    pending: Vec<u8>,
    skipping: bool,
    /// Whether a full disk is waited for.
    wait: bool,
    /// Until when it still is, once nobody writes any more.
    until: Option<Instant>,
}

impl Recorder {
    fn new(writer: Writer, wait: bool) -> Recorder {
        let (waiting, since) = (Vec::new(), Instant::now());
        Recorder {
            writer,
            waiting,
            since,
            unsigned: None,
            span: None,
            count: 0,
            refused: 0,
            line: 0,
            pending: Vec::new(),
            skipping: false,
            wait,
            until: None,
        }
    }

    /// Does it, as often as there is no room for it and that is waited for.
    fn insist<T>(
        &mut self,
        mut act: impl FnMut(&mut Writer) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            match act(&mut self.writer) {
                // A limit on the size of files is none that passes.
                Err(Error::Full { source, .. })
                    if self.wait
                        && source.raw_os_error() != Some(libc::EFBIG)
                        && self.may_wait() =>
                {
                    std::thread::sleep(AGAIN);
                }
                other => return other,
            }
        }
    }

    /// Whether whoever writes is there, or has not been gone for long.
    fn may_wait(&mut self) -> bool {
        if !hung_up() {
            return true;
        }
        let until = *self.until.get_or_insert(Instant::now() + PARTING);
        Instant::now() < until
    }

    /// How long input may take before something is due: to be written, or to be signed.
    fn patience(&self) -> Option<Duration> {
        let write = (!self.waiting.is_empty()).then(|| WAIT.saturating_sub(self.since.elapsed()));
        let sign = self
            .unsigned
            .map(|since| SIGN.saturating_sub(since.elapsed()));
        write.into_iter().chain(sign).min()
    }

    /// Records what comes after `first`, which has been read already, and that.
    fn run(&mut self, first: &[u8]) -> Result<(), String> {
        let mut input = std::io::stdin().lock();
        let mut chunk = vec![0; MAX_ENTRIES];
        self.feed(first)?;
        loop {
            let patience = self.patience();
            if patience == Some(Duration::ZERO)
                || self.waiting.len() >= BATCH
                || !readable(&input, patience)?
            {
                self.flush()?;
                continue;
            }
            let count = read(&mut input, &mut chunk)?;
            self.feed(&chunk[..count])?;
            if count == 0 {
                if !self.pending.is_empty() || self.skipping {
                    self.take(Err("it does not end".into()));
                }
                return self.finish();
            }
        }
    }

    fn feed(&mut self, chunk: &[u8]) -> Result<(), String> {
        for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
            if !self.skipping {
                self.pending.extend_from_slice(piece);
            }
            if self.pending.len() > MAX_ENTRIES {
                self.skipping = true;
                self.pending.clear();
            }
            if !self.skipping && self.pending == b"\n" {
                self.pending.clear();
                self.sign()?;
                continue;
            }
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.pending);
                let line = if self.skipping {
                    Err("it is over 64 KiB".to_owned())
                } else {
                    Ok(&line[..])
                };
                self.take(line.map(|line| &line[..line.len() - 1]));
                self.skipping = false;
            }
        }
        Ok(())
    }

    fn take(&mut self, line: Result<&[u8], String>) {
        self.line += 1;
        if self.waiting.is_empty() {
            self.since = Instant::now();
        }
        match line.and_then(entry) {
            Ok(entry) => self.waiting.push(entry),
            Err(why) => self.refuse(1, &format!("line {} was not recorded: {why}", self.line)),
        }
    }

    fn refuse(&mut self, count: u64, why: &str) {
        self.refused += count;
        self.writer.lose(
            Stamp::now(),
            count,
            "what was handed to capsule record could not be recorded",
        );
        terminal::error(why);
    }

    fn flush(&mut self) -> Result<(), String> {
        let due = self.unsigned.is_some_and(|since| since.elapsed() >= SIGN);
        if self.waiting.is_empty() {
            self.unsigned = None;
            return self.seal(false);
        }
        self.append(if due { Seal::Sign } else { Seal::No })?;
        self.unsigned = if due {
            None
        } else {
            self.unsigned.or(Some(Instant::now()))
        };
        Ok(())
    }

    /// Everything so far, on the log and under a checkpoint.
    fn sign(&mut self) -> Result<(), String> {
        self.unsigned = None;
        if self.waiting.is_empty() {
            return self.seal(false);
        }
        self.append(Seal::Sign)
    }

    fn seal(&mut self, sync: bool) -> Result<(), String> {
        self.insist(|writer| writer.seal(sync))
            .map_err(|why| why.to_string())
    }

    fn append(&mut self, seal: Seal) -> Result<(), String> {
        let mut batch = std::mem::take(&mut self.waiting);
        let mut result = self.put(&batch, seal);
        if let Err(Error::Entry { why }) = &result {
            // One entry that cannot be written (nested too deep, a bad name) must not take the others with it.
            let (before, why) = (batch.len(), why.clone());
            batch.retain(|entry| self.writer.writable(entry));
            let lost = (before - batch.len()) as u64;
            self.refuse(lost, &format!("{lost} lines were not recorded: {why}"));
            result = self.put(&batch, seal);
        }
        let positions = result.map_err(|why| why.to_string())?;
        if !batch.is_empty() {
            let first = self.span.map_or(positions.first, |(first, _)| first);
            self.span = Some((first, positions.last));
            self.count += batch.len() as u64;
        }
        Ok(())
    }

    fn put(&mut self, batch: &[Entry], seal: Seal) -> Result<Positions, Error> {
        let waits = self.wait;
        self.insist(|writer| {
            let result = writer.append(batch, seal);
            if waits && matches!(result, Err(Error::Full { .. })) {
                writer.keep(batch.len() as u64);
            }
            result
        })
    }

    /// Everything, and a gap for what was refused, signed and on the disk.
    fn finish(&mut self) -> Result<(), String> {
        if !self.waiting.is_empty() || self.refused > 0 {
            self.append(Seal::Sync)?;
        }
        self.seal(true)
    }
}

/// Whether nobody writes to standard input any more; of a file nobody ever does.
fn hung_up() -> bool {
    let mut poll = libc::pollfd {
        fd: 0,
        events: 0,
        revents: 0,
    };
    // SAFETY: one valid pollfd, and its count; it does not wait.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    let file = std::fs::metadata("/dev/stdin").is_ok_and(|about| about.is_file());
    file || (ready == 1 && poll.revents & (libc::POLLHUP | libc::POLLERR) != 0)
}

/// The first that comes, waited for; nothing when the input ends without any.
fn first_of_it() -> Result<Vec<u8>, String> {
    let (mut input, mut chunk) = (std::io::stdin().lock(), vec![0; MAX_ENTRIES]);
    let count = read(&mut input, &mut chunk)?;
    chunk.truncate(count);
    Ok(chunk)
}

fn read(input: &mut impl std::io::Read, chunk: &mut [u8]) -> Result<usize, String> {
    loop {
        match input.read(chunk) {
            Err(why) if why.kind() == std::io::ErrorKind::Interrupted => {}
            done => {
                return done.map_err(|why| {
                    format!("standard input cannot be read: {why}; check who writes to it")
                });
            }
        }
    }
}

fn entry(line: &[u8]) -> Result<Entry, String> {
    let text = std::str::from_utf8(line).map_err(|_| "it is not UTF-8")?;
    let Value::Map(fields) = serde_json::from_str(text).map_err(|why| why.to_string())? else {
        return Err("it is not a JSON object".into());
    };
    let (mut kind, mut run, mut rest) = (None, None, Vec::new());
    for (name, value) in fields {
        match (name.as_ref(), value) {
            ("type", Value::Text(text)) => kind = Some(text.into_owned()),
            ("run", Value::Text(text)) => run = Some(text.into_owned()),
            ("run", Value::Null) => {}
            ("type" | "run" | "seq" | "time" | "mono", _) => {
                return Err(format!("{name} is not for others to give"));
            }
            (_, value) => rest.push((name, value)),
        }
    }
    let kind = kind.ok_or("it has no type")?;
    if !TYPES.contains(&kind.as_str()) && !PREFIXES.iter().any(|prefix| kind.starts_with(prefix)) {
        return Err(format!("{kind:?} is not a type that others may record"));
    }
    Ok(rest
        .into_iter()
        .fold(Entry::new(kind, run.as_deref()), |entry, (name, value)| {
            entry.with(name, value)
        }))
}

/// Waits until there is something to read; false when `patience` ran out first.
fn readable(input: &impl std::os::fd::AsFd, patience: Option<Duration>) -> Result<bool, String> {
    let mut poll = libc::pollfd {
        fd: input.as_fd().as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // Rounded up: waking just before something is due would be waking for nothing.
    let timeout = patience.map_or(-1, |patience| {
        i32::try_from(patience.as_micros().div_ceil(1000)).unwrap_or(1)
    });
    loop {
        // SAFETY: one valid pollfd, and its count.
        match unsafe { libc::poll(&raw mut poll, 1, timeout) } {
            0 => return Ok(false),
            1 => return Ok(true),
            _ => {
                let why = std::io::Error::last_os_error();
                if why.kind() != std::io::ErrorKind::Interrupted {
                    return Err(format!(
                        "standard input cannot be waited for: {why}; check who writes to it"
                    ));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::entry;

    #[test]
    fn only_what_others_may_record_is_taken() {
        for line in [
            r#"{"type":"egress.http","run":"r-1","host":"h"}"#,
            r#"{ "type": "exec", "run": null }"#,
        ] {
            assert!(entry(line.as_bytes()).is_ok(), "{line}");
        }
        for line in [
            "",
            "[]",
            "{}",
            "nonsense",
            r#"{"type":"run.started"}"#,
            r#"{"type":"log.created"}"#,
            r#"{"type":"exec","seq":1}"#,
            r#"{"type":"exec","run":3}"#,
            r#"{"type":"exec","a":1,"a":1}"#,
            r#"{"type":"exec","a":1.5}"#,
            r#"{"type":"recovery"}"#,
        ] {
            assert!(entry(line.as_bytes()).is_err(), "{line}");
        }
        assert!(entry(b"{\"type\":\"exec\",\"a\":\"\xff\"}").is_err());
    }
}
