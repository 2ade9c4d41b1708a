//! What happens in the machine, told to the host on port 5004: programs that start and end, files that change.
//!
//! It waits for nobody: what is not told is counted, and the count is told. Refuses to tell anything before the identity is in
//! force: what happened in a template is nobody's.

use std::collections::BTreeMap;
use std::io::Result;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::agent::{Agent, Place};
use crate::allowance::Allowance;
use crate::changes::Changes;
use crate::message::Guest;
use crate::port::HIGH_WATER;
use crate::processes::{self, Line};
use crate::sys;

/// The port of the wire.
const LIFECYCLE: u16 = 5004;
/// Changes that are told a second, and how many more at once.
const A_SECOND: u32 = 500;
const AT_ONCE: u32 = 4000;
/// Bytes of lines that are not whole.
const LINES_LIMIT: usize = 64 << 10;
/// Reads of the lines before the machine stands still.
const LAST_READS: usize = 64;
/// How often it is told that something was lost, and how soon what reports processes is begun again.
const EACH: Duration = Duration::from_secs(1);

/// What is reported.
#[derive(Debug)]
pub struct Reports {
    lines: Option<(Child, OwnedFd)>,
    held: Vec<u8>,
    /// Whether processes are to be reported; when it is begun again where it has ended.
    processes: bool,
    again: Option<Instant>,
    changes: Option<Changes>,
    allowance: Allowance,
    lost: BTreeMap<&'static str, u64>,
    lost_told: Instant,
    /// The `watch` that is answered when all directories have been looked into.
    asked: Option<u32>,
}

impl Reports {
    /// Nothing yet.
    pub fn new(now: Instant) -> Self {
        Self {
            lines: None,
            held: Vec::new(),
            processes: false,
            again: None,
            changes: None,
            allowance: Allowance::new(A_SECOND, AT_ONCE, now),
            lost: BTreeMap::new(),
            lost_told: now,
            asked: None,
        }
    }

    fn lose(&mut self, what: &'static str, count: u64) {
        if count > 0 {
            *self.lost.entry(what).or_insert(0) += count;
        }
    }

    fn begin(&mut self) -> Result<()> {
        self.lines = Some(processes::begin()?);
        self.held.clear();
        self.again = None;
        Ok(())
    }

    fn end(&mut self) {
        self.again = None;
        if let Some((mut child, _)) = self.lines.take() {
            // It is reaped with everything else that ends.
            let _ = child.kill();
        }
    }

    fn watch(&mut self, processes: bool, changes: &[String]) -> Result<()> {
        if processes && self.lines.is_none() {
            self.begin()?;
        } else if !processes {
            self.end();
        }
        self.processes = processes;
        match &mut self.changes {
            Some(watched) if watched.among(changes) && !changes.is_empty() => watched.also(changes),
            _ if changes.is_empty() => self.changes = None,
            _ => self.changes = Some(Changes::of(changes)?),
        }
        Ok(())
    }
}

impl Agent {
    /// Begins to offer reports, as far as this machine can make them.
    pub(crate) fn offer_reports(&mut self) {
        if !self.ports.contains_key(&LIFECYCLE) {
            return;
        }
        if self.machine && processes::told() {
            self.capabilities.push("processes");
        }
        if sys::notices::changes().is_ok() {
            self.capabilities.push("changes");
        }
    }

    pub(crate) fn watch(&mut self, id: u32, processes: bool, changes: &[String]) {
        self.answer_watch();
        let cannot = [(processes, "processes"), (!changes.is_empty(), "changes")]
            .iter()
            .any(|(wanted, what)| *wanted && !self.capabilities.contains(what));
        if cannot {
            let reason = "this machine cannot report that".to_owned();
            return self.failed(LIFECYCLE, id, libc::EOPNOTSUPP, reason);
        }
        match self.reports.watch(processes, changes) {
            Ok(()) => self.reports.asked = Some(id),
            Err(error) => {
                let number = error.raw_os_error().unwrap_or(libc::EIO);
                self.failed(LIFECYCLE, id, number, error.to_string());
            }
        }
    }

    fn answer_watch(&mut self) {
        if let Some(id) = self.reports.asked.take() {
            self.say(LIFECYCLE, &Guest::Done { id });
        }
    }

    pub(crate) fn report_interests(&self, add: &mut impl FnMut(RawFd, i16, Place)) {
        if let Some((_, lines)) = &self.reports.lines {
            add(lines.as_raw_fd(), libc::POLLIN, Place::Processes);
        }
        if let Some(fd) = self.reports.changes.as_ref().and_then(Changes::interest) {
            add(fd, libc::POLLIN, Place::Changes);
        }
    }

    pub(crate) fn report_deadline(&self, now: Instant) -> Option<Instant> {
        let reports = &self.reports;
        let lost = (!reports.lost.is_empty() && self.reports_are_heard())
            .then(|| reports.lost_told + EACH);
        let changes = reports.changes.as_ref();
        [
            changes.and_then(|changes| changes.deadline(now)),
            reports.again,
            lost,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Something has changed; it is looked at in a while.
    pub(crate) fn changes_woken(&mut self) {
        if let Some(changes) = &mut self.reports.changes {
            changes.woken(Instant::now());
        }
    }

    pub(crate) fn report_time(&mut self, now: Instant) {
        if self.reports.again.is_some_and(|again| again <= now) && self.ending.is_none() {
            self.reports.again = None;
            if self.reports.begin().is_err() {
                self.reports.again = Some(now + EACH);
            }
        }
        if let Some(changes) = &mut self.reports.changes {
            changes.walk(now);
            if changes.is_due(now) {
                self.look();
            }
        }
        if self.reports.changes.as_ref().is_none_or(Changes::walked) {
            self.answer_watch();
        }
        if now.saturating_duration_since(self.reports.lost_told) >= EACH {
            self.tell_lost(now);
        }
    }

    /// Everything that has happened by now is told, or counted.
    pub(crate) fn settle_reports(&mut self) {
        self.answer_watch();
        self.take_reports();
        self.tell_lost(Instant::now());
    }

    /// Takes everything that has happened by now; before the identity that is nobody's.
    pub(crate) fn take_reports(&mut self) {
        for _ in 0..LAST_READS {
            if !self.take_lines() {
                break;
            }
        }
        self.look();
    }

    fn reports_are_heard(&self) -> bool {
        self.ready
            && self
                .ports
                .get(&LIFECYCLE)
                .is_some_and(|port| port.connected() && port.backlog() <= HIGH_WATER)
    }

    fn tell_lost(&mut self, now: Instant) {
        if self.reports.lost.is_empty() || !self.reports_are_heard() {
            return;
        }
        self.reports.lost_told = now;
        for (what, count) in std::mem::take(&mut self.reports.lost) {
            self.say(LIFECYCLE, &Guest::Lost { what, count });
        }
    }

    fn look(&mut self) {
        let Some(changes) = &mut self.reports.changes else {
            return;
        };
        let looked = changes.look(&mut self.scratch);
        if !self.ready {
            return;
        }
        self.reports.lose("changes", looked.lost);
        self.reports.lose("directories", looked.unwatched);
        let now = Instant::now();
        for change in looked.changes {
            if !self.reports_are_heard() || !self.reports.allowance.take(now) {
                self.reports.lose("changes", 1);
                continue;
            }
            let what = change.what.word();
            let (path, from) = (change.path, change.from);
            self.say(LIFECYCLE, &Guest::Change { what, path, from });
        }
    }

    /// Takes what came of processes; whether there may be more.
    pub(crate) fn take_lines(&mut self) -> bool {
        let Some((_, lines)) = &self.reports.lines else {
            return false;
        };
        match sys::read(lines.as_fd(), &mut self.scratch) {
            Ok(0) => {
                self.reports.lines = None;
                self.reports.lose("processes", 1);
                self.reports.again = self.reports.processes.then(|| Instant::now() + EACH);
                return false;
            }
            Ok(count) => self.reports.held.extend_from_slice(&self.scratch[..count]),
            Err(_) => return false,
        }
        let held = std::mem::take(&mut self.reports.held);
        let mut rest = held.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            match serde_json::from_slice(&rest[..end]) {
                Ok(line) => self.tell(line),
                Err(_) => self.reports.lose("processes", 1),
            }
            rest = &rest[end + 1..];
        }
        if rest.len() <= LINES_LIMIT {
            self.reports.held = rest.to_vec();
        } else {
            self.reports.lose("processes", 1);
        }
        true
    }

    fn tell(&mut self, line: Line) {
        if !self.ready {
            return;
        }
        if !self.reports_are_heard() {
            let count = if let Line::Lost { count } = line {
                count
            } else {
                1
            };
            return self.reports.lose("processes", count);
        }
        let message = match line {
            Line::Lost { count } => return self.reports.lose("processes", count),
            Line::Exec {
                pid,
                parent,
                uid,
                program,
                argv,
                cut,
            } => Guest::Ran {
                pid,
                parent,
                uid,
                program,
                argv,
                cut,
            },
            Line::Exit { pid, code, signal } => Guest::Ended { pid, code, signal },
        };
        self.say(LIFECYCLE, &message);
    }
}
