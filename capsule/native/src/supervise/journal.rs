//! The run's entries on the audit log: start before anything runs, events within 100 ms, end.
//!
//! It refuses to lose an event: when the log cannot take one, the run is ended. What the monitor says about time is
//! believed only within the run.

use super::control::Denied;
use super::dial::Reachable;
use super::egress::fitting;
use super::excess::{self, Excess, Gap};
use super::ledger::Ledger;
use super::listening;
use super::observation::Observation;
use super::recorder::Recorder;
use super::report::{Exit, LogPlace, Usage};
use crate::audit::{Entry, Error, Hurry, Positions, Seal, Stamp, Value, Writer, clock};
use crate::monitor::wire::{self, Event, Operation, Target};
use serde::Serialize;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Entries held back at most before they are written without waiting for the clock.
const MOST_WAITING: usize = 512;
/// Entries held back at most while another writer holds the log's lock.
const MOST_KEPT: usize = 64 * MOST_WAITING;
/// How long the record of a call waits for another writer when the run's own time is over.
const LATE: Duration = Duration::from_secs(2);

/// One run on the log.
pub struct Journal {
    writer: Writer,
    path: PathBuf,
    run: String,
    pending: Vec<Entry>,
    hurry: Hurry,
    started: Stamp,
    /// `CLOCK_BOOTTIME` minus the monitor's `CLOCK_MONOTONIC`, in microseconds.
    offset: u64,
    place: Option<Positions>,
    /// Records of calls were written since the last checkpoint.
    unsealed: bool,
    /// Refusals since the program's calls were last told of them; none where no program drives the run.
    refusals: Vec<Denied>,
    driven: bool,
    reachable: Reachable,
    /// Lines that went on the log, for somebody who wants them.
    forwarded: Option<Vec<Vec<u8>>>,
    /// What is counted for `capsule trace`.
    pub observation: Option<Observation>,
    /// Counts for the report.
    pub ledger: Ledger,
    /// What is counted instead of listed.
    excess: Excess,
}

/// A serialisable value as a value of the log; what the log cannot hold (none is made here) becomes null.
pub fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of)
        .ok()
        .and_then(|json| serde_json::from_value(json).ok())
        .unwrap_or(Value::Null)
}

impl Journal {
    /// For the run named `run`, whose command may reach `reachable`.
    #[must_use]
    pub fn new(writer: Writer, path: &Path, run: String, reachable: Reachable) -> Journal {
        let started = Stamp::now();
        Journal {
            writer,
            path: path.to_owned(),
            run,
            pending: Vec::new(),
            hurry: Hurry::default(),
            started,
            offset: started.mono.saturating_sub(monotonic()),
            place: None,
            unsealed: false,
            refusals: Vec::new(),
            driven: false,
            reachable,
            forwarded: None,
            observation: None,
            ledger: Ledger::default(),
            excess: Excess::default(),
        }
    }

    /// A program drives the run and wants to know of refusals as they come.
    pub fn driven(&mut self) {
        self.driven = true;
    }

    /// Every line that goes on the log from now on is kept until it is taken.
    pub fn forward(&mut self) {
        self.forwarded = Some(Vec::new());
    }

    fn entry(&self, kind: &'static str) -> Entry {
        Entry::new(kind, Some(&self.run))
    }

    /// The start, on the disk when this returns.
    ///
    /// # Errors
    /// Why nothing may run.
    pub fn start(&mut self, fields: Vec<(&'static str, Value)>) -> Result<(), String> {
        let entry = fields
            .into_iter()
            .fold(self.entry("run.started"), |entry, (name, value)| {
                entry.with(name, value)
            });
        self.writer.hold(&self.run).map_err(|error| told(&error))?;
        self.append(&[entry], Seal::Sync)
    }

    /// The end, on the disk when this returns.
    ///
    /// # Errors
    /// Why it is not on the log.
    pub fn end(&mut self, exit: &Exit, usage: &Usage) -> Result<(), String> {
        let mut entries = std::mem::take(&mut self.pending);
        for gap in self.excess.rest() {
            entries.push(self.gap(&gap, Stamp::now()));
        }
        entries.push(
            self.entry("run.ended")
                .with("exit", value(exit))
                .with("denials", self.ledger.denials_total)
                .with("executed", self.ledger.executed)
                .with("written", self.ledger.written)
                .with("repositories", value(&self.ledger.repositories()))
                .with("usage", value(usage)),
        );
        self.append(&entries, Seal::Sync)
    }

    /// Where the run is on the log.
    #[must_use]
    pub fn place(&self) -> Option<LogPlace> {
        let place = self.place?;
        let path = self.path.to_string_lossy().into_owned();
        Some(LogPlace {
            path,
            id: self.writer.id().to_owned(),
            first: place.first,
            last: place.last,
        })
    }

    fn append(&mut self, entries: &[Entry], seal: Seal) -> Result<(), String> {
        self.put(entries, seal).map_err(|error| told(&error))
    }

    fn put(&mut self, entries: &[Entry], seal: Seal) -> Result<(), Error> {
        let at = self.writer.append(entries, seal)?;
        if let Some(lines) = &mut self.forwarded {
            let numbered = entries.iter().zip(at.first..);
            let told = |entry: &Entry| !entry.kind().starts_with("egress.");
            let told = numbered.filter(|(entry, _)| told(entry));
            lines.extend(told.map(|(entry, seq)| self.writer.line(entry, seq)));
        }
        let first = self.place.map_or(at.first, |place| place.first);
        self.place = Some(Positions {
            first,
            last: at.last,
        });
        Ok(())
    }

    /// Whether an event becomes an entry; what else is to be said of it is pending then.
    fn listed(&mut self, kind: &str, count: u64, stamp: Stamp) -> bool {
        match self.excess.place(kind, count, stamp) {
            excess::Place::Listed => true,
            excess::Place::Counted(gap) => {
                if let Some(gap) = gap {
                    let entry = self.gap(&gap, stamp);
                    self.pending.push(entry);
                }
                false
            }
        }
    }

    fn gap(&self, gap: &Gap, to: Stamp) -> Entry {
        let time = |stamp: Stamp| String::from_utf8_lossy(&clock::render(stamp.wall)).into_owned();
        let why = format!(
            "more than {} entries of one kind ({}): counted, and not listed",
            excess::MOST,
            gap.kind
        );
        self.entry("gap")
            .with("from", time(gap.from))
            .with("to", time(to))
            .with("lost", gap.lost)
            .with("why", why)
            .at(to)
    }

    /// When the monitor says something happened: not before the run, not later than now.
    fn stamp(&self, mono: u64) -> Stamp {
        let now = Stamp::now();
        let mono = mono
            .saturating_add(self.offset)
            .clamp(self.started.mono, now.mono);
        Stamp {
            wall: now.wall.saturating_sub(now.mono - mono),
            mono,
        }
    }
}

fn told(error: &Error) -> String {
    format!("the log: {error}")
}

/// Events of which a command can make ever new ones: refusals, by what was tried and which line refused; repositories.
fn kind_of(event: &Event) -> (Option<String>, u64) {
    match event {
        Event::Denied { count, denial, .. } => {
            let tried = serde_json::to_value(denial.operation).unwrap_or_default();
            let tried = tried.as_str().unwrap_or_default();
            let by = match &denial.rule {
                Some(rule) if rule.line > 0 => {
                    format!("{} at {}:{}", rule.text, rule.file, rule.line)
                }
                Some(rule) => rule.text.clone(),
                None => format!("no line allows it, {}", denial.errno),
            };
            (Some(format!("denied {tried}: {by}")), *count)
        }
        Event::Repository { .. } => (Some("repository".to_owned()), 1),
        _ => (None, 0),
    }
}

/// Inside, what is hidden and what does not exist look alike. Here it can be told: a program that asked for a hidden
/// file of the host was kept from something, one that looked for settings nobody has was not. One that wanted to write
/// was kept from it either way.
fn tell_hidden_from_absent(denial: &mut wire::Denial) {
    if denial.probe
        && denial.layer == wire::Layer::View
        && (denial.operation != Operation::Read
            || std::fs::symlink_metadata(&denial.target).is_ok())
    {
        denial.probe = false;
    }
    // A connection that met nobody inside was kept from something only where somebody listens on the host.
    if denial.layer == wire::Layer::Network && denial.errno == "ECONNREFUSED" {
        denial.probe = !listening::on_host(&denial.target);
    }
}

fn monotonic() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid place for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_nsec.unsigned_abs() / 1000
}

impl Recorder for Journal {
    fn event(&mut self, mut event: Event) -> Result<(), String> {
        if let Event::Denied { denial, .. } = &mut event {
            tell_hidden_from_absent(denial);
        }
        if let Some(observation) = &mut self.observation {
            observation.take(&event);
        }
        let mono = match &event {
            Event::Denied { mono, .. }
            | Event::Exec { mono, .. }
            | Event::File { mono, .. }
            | Event::Repository { mono, .. }
            | Event::Connect { mono, .. } => *mono,
            _ => return Ok(()),
        };
        let stamp = self.stamp(mono);
        self.ledger.count(&event, stamp);
        if let (true, Event::Denied { count, denial, .. }) = (self.driven, &event) {
            let report = Ledger::denial(*count, denial, stamp);
            self.refusals.push(Denied {
                pid: denial.pid,
                report: serde_json::to_value(&report).unwrap_or_default(),
            });
        }
        let (kind, count) = kind_of(&event);
        if let Some(kind) = kind
            && !self.listed(&kind, count, stamp)
        {
            return Ok(());
        }
        let entry = match event {
            Event::Denied { count, denial, .. } => self
                .entry("denied")
                .with("program", denial.program)
                .with("pid", denial.pid)
                .with("operation", value(&denial.operation))
                .with("syscall", denial.syscall)
                .with("target", denial.target)
                .with("layer", value(&denial.layer))
                .with("errno", denial.errno)
                .with("rule", value(&denial.rule))
                .with("allow", value(&denial.allow))
                .with("probe", denial.probe)
                .with("count", count),
            Event::Exec {
                pid,
                program,
                argv,
                truncated,
                parent,
                ..
            } => self
                .entry("exec")
                .with("pid", pid)
                .with("program", program)
                .with("argv", value(&argv))
                .with("truncated", truncated)
                .with("parent", value(&parent)),
            Event::File {
                pid,
                program,
                operation,
                target,
                from,
                ..
            } => {
                let kind = if operation == Operation::Read {
                    "read"
                } else {
                    "write"
                };
                self.entry(kind)
                    .with("pid", pid)
                    .with("program", program)
                    .with("operation", value(&operation))
                    .with("target", target)
                    .with("from", value(&from))
            }
            Event::Repository {
                pid,
                program,
                number,
                target,
                ..
            } => self
                .entry("repository")
                .with("pid", pid)
                .with("program", program)
                .with("number", number)
                .with("target", value(&target)),
            Event::Connect {
                pid,
                program,
                target,
                errno,
                ..
            } => self
                .entry("connect")
                .with("pid", pid)
                .with("program", program)
                .with("target", target)
                .with("errno", value(&errno)),
            _ => return Ok(()),
        };
        self.pending.push(entry.at(stamp));
        if self.pending.len() >= MOST_WAITING {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn limit(&mut self, name: &'static str) -> Result<(), String> {
        self.pending
            .push(self.entry("limit").with("limit", name).at(Stamp::now()));
        self.flush()
    }

    fn hurry(&mut self, hurry: Hurry) {
        self.hurry = hurry;
    }

    fn flush(&mut self) -> Result<(), String> {
        let entries = std::mem::take(&mut self.pending);
        let unsealed = std::mem::take(&mut self.unsealed);
        self.writer.hurry(self.hurry);
        let written = if !entries.is_empty() {
            self.put(&entries, Seal::Sign)
        } else if unsealed {
            self.writer.seal(false)
        } else {
            Ok(())
        };
        self.writer.hurry(Hurry::default());
        match written {
            // Another writer has the lock, and there is something else to do: the next flush has them.
            Err(Error::Busy {
                interrupted: true, ..
            }) if entries.len() < MOST_KEPT => {
                self.pending = entries;
                self.unsealed = unsealed;
                Ok(())
            }
            other => other.map_err(|error| told(&error)),
        }
    }

    fn waiting(&self) -> bool {
        self.unsealed || !self.pending.is_empty()
    }

    fn call(
        &mut self,
        kind: &'static str,
        fields: Vec<(&'static str, serde_json::Value)>,
    ) -> Result<u64, String> {
        let mut entries = std::mem::take(&mut self.pending);
        let entry = fields
            .into_iter()
            .fold(self.entry(kind), |entry, (name, field)| {
                entry.with(name, value(&field))
            });
        entries.push(entry);
        let until = self.hurry.until.map(|at| at.max(Instant::now() + LATE));
        self.writer.hurry(Hurry {
            until,
            signals: None,
        });
        let written = self.append(&entries, Seal::No);
        self.writer.hurry(Hurry::default());
        written?;
        self.unsealed = true;
        Ok(self.place.map_or(0, |place| place.last))
    }

    fn egress(
        &mut self,
        kind: String,
        fields: serde_json::Map<String, serde_json::Value>,
    ) -> Result<bool, String> {
        let stamp = Stamp::now();
        let refused = self.ledger.crossed(&kind, &fields, stamp);
        let counted = refused.as_ref().map(|report| report.count);
        if let (Some(report), true) = (refused, self.driven) {
            self.refusals.push(Denied {
                pid: report.pid,
                report: serde_json::to_value(&report).unwrap_or_default(),
            });
        }
        let mut entry = Entry::new(kind, Some(&self.run));
        for (name, field) in fields {
            let Some(field) = fitting::value(field) else {
                return Ok(false);
            };
            entry = entry.with(fitting::name(&name), field);
        }
        if !self.writer.writable(&entry) {
            return Ok(false);
        }
        if let Some(count) = counted
            && !self.listed(&format!("{} refused", entry.kind()), count, stamp)
        {
            return Ok(true);
        }
        self.pending.push(entry.at(stamp));
        if self.pending.len() >= MOST_WAITING {
            self.flush()?;
        }
        Ok(true)
    }

    fn secret(&mut self, value: &str) {
        self.writer.know(value);
    }

    fn forwarded(&mut self) -> Vec<Vec<u8>> {
        self.forwarded
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn refusals(&mut self) -> Vec<Denied> {
        std::mem::take(&mut self.refusals)
    }

    fn commitment(&self, bytes: &[u8]) -> String {
        self.writer.commitment(bytes)
    }

    fn dial(&mut self, target: &Target) -> Result<OwnedFd, i32> {
        self.reachable.dial(target)
    }
}
