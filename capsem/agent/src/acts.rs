//! What the agent does when it is asked to, and when a job ends.
//!
//! Refuses everything but the identity and questions about itself before the identity is in force (`EPROTO`), and more than
//! 64 jobs at once (`EAGAIN`).

use std::os::fd::AsFd;
use std::time::Instant;

use crate::agent::{Agent, Ending};
use crate::job::{self, BULK, Begun, GRACE, TERMINAL};
use crate::mcp::MCP;
use crate::message::{self, Exec, File, Guest, Host};
use crate::network::NETWORK;
use crate::{errno, identity, prefetch, sys};

/// Jobs that live at once.
const JOB_LIMIT: usize = 64;
/// Streams of a port that live at once: those of jobs, and what descendants keep open.
const STREAM_LIMIT: usize = 256;
/// Bytes that a file operation may tell.
pub(crate) const REPORT_LIMIT: usize = 512 << 10;

impl Agent {
    pub(crate) fn message(&mut self, port: u16, untrusted: &[u8]) -> Result<(), String> {
        let said = message::parse(port, untrusted)?;
        match said {
            Host::Identity {
                entropy,
                hostname,
                wall_clock_ns,
                authority,
                ..
            } => self.identity(&entropy, &hostname, wall_clock_ns, authority.as_deref()),
            Host::Ping { id } => {
                self.count(id)?;
                self.say(port, &Guest::Pong { id });
            }
            Host::Exec(asked) => {
                self.count(asked.id)?;
                self.exec(&asked);
            }
            Host::File(asked) => {
                self.count(asked.id)?;
                self.file(&asked);
            }
            Host::Signal { id, number } => {
                self.known(id)?;
                if let Some(job) = self.jobs.get(&id) {
                    job.signal(number);
                }
            }
            Host::Resize { id, rows, columns } => {
                self.known(id)?;
                if let Some(terminal) = self.jobs.get(&id).and_then(|job| job.terminal.as_ref()) {
                    // The terminal may have lost its programs just now.
                    let _ = sys::resize(terminal.as_fd(), rows, columns);
                }
            }
            Host::Freeze { id } => match self.stand_still() {
                Ok(()) => self.say(port, &Guest::Done { id }),
                Err(error) => {
                    let number = error.raw_os_error().unwrap_or(libc::EBUSY);
                    self.failed(port, id, number, error.to_string());
                }
            },
            Host::Thaw { id, wall_clock_ns } => {
                let done = if self.machine {
                    sys::set_clock(wall_clock_ns).and_then(|()| self.run_on())
                } else {
                    self.run_on()
                };
                match done {
                    Ok(()) => self.say(port, &Guest::Done { id }),
                    Err(error) => self.failed(
                        port,
                        id,
                        error.raw_os_error().unwrap_or(libc::EIO),
                        error.to_string(),
                    ),
                }
            }
            Host::Sync { id } => {
                sys::sync();
                self.say(port, &Guest::Done { id });
            }
            Host::Shutdown { id } => self.begin_ending(id, false),
            Host::Reboot { id } => self.begin_ending(id, true),
            Host::Watch {
                id,
                processes,
                changes,
            } => self.watch(id, processes, &changes),
            Host::Prefetch { id, paths } => {
                prefetch::read(&paths, &mut self.scratch);
                self.say(port, &Guest::Done { id });
            }
            Host::Serve {} if port == MCP => self.mcp_served(),
            Host::Serve {} => self.network_served(port),
            Host::Opened { stream } => {
                self.answers(port, stream)?;
                match port {
                    MCP => self.mcp_opened(stream),
                    _ => self.network_opened(stream),
                }
            }
            Host::Refused { stream, .. } => {
                self.answers(port, stream)?;
                match port {
                    MCP => self.mcp_refused(stream),
                    _ => self.network_refused(stream),
                }
            }
        }
        Ok(())
    }

    pub(crate) fn failed(&mut self, port: u16, id: u32, number: i32, reason: String) {
        let name = errno::name(number);
        self.say(
            port,
            &Guest::Failed {
                id,
                errno: &name,
                reason: reason.chars().take(1000).collect(),
            },
        );
    }

    // Ids go upwards, so that one that is gone is told from one that never was.
    fn count(&mut self, id: u32) -> Result<(), String> {
        if id <= self.last_id {
            return Err(format!("id {id} after {}: ids go upwards", self.last_id));
        }
        self.last_id = id;
        Ok(())
    }

    fn answers(&self, port: u16, stream: u32) -> Result<(), String> {
        if self.opened.get(&port).is_none_or(|&last| stream > last) {
            return Err(format!("an answer to stream {stream}, which never was"));
        }
        Ok(())
    }

    fn known(&self, id: u32) -> Result<(), String> {
        if id > self.last_id {
            Err(format!("job {id} never was"))
        } else {
            Ok(())
        }
    }

    fn identity(
        &mut self,
        entropy: &str,
        hostname: &str,
        wall_clock_ns: i64,
        authority: Option<&str>,
    ) {
        if self.machine
            && let Err(reason) = identity::apply(entropy, hostname, wall_clock_ns, authority)
        {
            // Nothing runs without it: `ready` is never said, and the host sees why.
            self.ready = false;
            self.say(5000, &Guest::Fault { reason });
            return;
        }
        // It has its random numbers, name and time; what it was connected to it is not connected to any more.
        let kept = self.frozen;
        if let Err(error) = self.run_on() {
            self.ready = false;
            let reason = format!("what was frozen does not run on: {error}");
            self.say(5000, &Guest::Fault { reason });
            return;
        }
        self.start_over();
        self.network_begins();
        self.mcp_begins();
        if kept {
            self.streams.clear();
            // The proxy of a machine is not asked to stand still: what one of before sent or got half of is dropped.
            for port in [NETWORK, MCP] {
                if let Some(port) = self.ports.get_mut(&port) {
                    port.start_over();
                }
            }
        }
        if !self.ready {
            self.take_reports();
        }
        self.ready = true;
        self.introduce(false);
    }

    // Outside of a machine there is no control group of ours: then jobs are stopped by a signal, which they can see.
    fn stand_still(&mut self) -> std::io::Result<()> {
        if self.frozen {
            return Ok(());
        }
        match &self.freezer {
            Some(freezer) => freezer.freeze()?,
            None if self.machine => {
                return Err(std::io::Error::from_raw_os_error(libc::EOPNOTSUPP));
            }
            None => self.jobs.values().for_each(|job| job.signal(libc::SIGSTOP)),
        }
        self.settle_reports();
        self.frozen = true;
        Ok(())
    }

    /// What was frozen runs on; nothing when nothing was.
    pub(crate) fn run_on(&mut self) -> std::io::Result<()> {
        if !std::mem::take(&mut self.frozen) {
            return Ok(());
        }
        match &self.freezer {
            Some(freezer) => freezer.thaw(),
            None => {
                self.jobs.values().for_each(|job| job.signal(libc::SIGCONT));
                Ok(())
            }
        }
    }

    // Whether a job may start now; answers the host when it may not.
    fn may_start(&mut self, id: u32, port: u16) -> bool {
        let streams =
            |port: u16, agent: &Self| agent.streams.range((port, 0)..=(port, u32::MAX)).count();
        let (number, reason) = if !self.ready || self.ending.is_some() {
            (
                libc::EPROTO,
                "nothing runs before the identity is given, or when the machine ends",
            )
        } else if !self
            .ports
            .get(&port)
            .is_some_and(crate::port::Port::connected)
        {
            (libc::ENODEV, "the port of the job's streams is not there")
        } else if self.jobs.len() >= JOB_LIMIT || streams(port, self) + 3 > STREAM_LIMIT {
            (libc::EAGAIN, "too many jobs or open outputs at once")
        } else {
            return true;
        };
        self.failed(5000, id, number, reason.to_owned());
        false
    }

    fn begin(&mut self, id: u32, begun: Begun) {
        let (job, streams) = begun;
        self.jobs.insert(id, job);
        for (port, number, stream) in streams {
            self.streams.insert((port, number), stream);
        }
    }

    fn exec(&mut self, asked: &Exec) {
        let id = asked.id;
        if !self.may_start(id, if asked.tty.is_some() { TERMINAL } else { BULK }) {
            return;
        }
        match job::exec(asked, self.freezer.as_ref()) {
            Ok(begun) => {
                let pid = begun.0.pid;
                self.begin(id, begun);
                self.say(5000, &Guest::Started { id, pid });
            }
            Err((error, reason)) => {
                let name = errno::of(&error);
                self.say(
                    5000,
                    &Guest::Failed {
                        id,
                        errno: &name,
                        reason: reason.chars().take(1000).collect(),
                    },
                );
            }
        }
    }

    fn file(&mut self, asked: &File) {
        if !self.may_start(asked.id, BULK) {
            return;
        }
        // What waits would be written twice if the child had a copy of it; it leaves by _exit and writes nothing of ours.
        match job::file(asked) {
            Ok(begun) => {
                if let Some(freezer) = &self.freezer
                    && let Err(error) = freezer.take(begun.0.pid)
                {
                    begun.0.signal(libc::SIGKILL);
                    let number = error.raw_os_error().unwrap_or(libc::EIO);
                    return self.failed(5000, asked.id, number, "it has no group".to_owned());
                }
                self.begin(asked.id, begun);
            }
            Err(error) => {
                let number = error.raw_os_error().unwrap_or(libc::EIO);
                self.failed(
                    5000,
                    asked.id,
                    number,
                    format!("the operation could not start: {error}"),
                );
            }
        }
    }

    pub(crate) fn reaped(&mut self, ended: sys::Ended) {
        let Some((&id, job)) = self
            .jobs
            .iter_mut()
            .find(|(_, job)| job.pid == ended.pid && job.alive)
        else {
            return;
        };
        job.alive = false;
        if job.report.is_some() {
            self.conclude(id);
            return;
        }
        let timed_out = job.timed_out;
        self.jobs.remove(&id);
        let (code, signal) = ended.how();
        let cpu_ms = u64::try_from(ended.cpu.as_millis()).unwrap_or(u64::MAX);
        self.say(
            5000,
            &Guest::Exited {
                id,
                code,
                signal,
                timed_out,
                cpu_ms,
                max_rss_bytes: ended.max_rss_bytes,
            },
        );
        // Nobody reads its input any more but perhaps a descendant, which was not asked for.
        if let Some(stream) = self.streams.get_mut(&(BULK, 4 * id))
            && stream.inflow.take().is_some()
        {
            stream.cut = true;
            self.settle(BULK, 4 * id);
        }
    }

    pub(crate) fn read_report(&mut self, id: u32) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let (pid, alive, Some(report)) = (job.pid, job.alive, &mut job.report) else {
            return;
        };
        let mut into = [0; 4096];
        match sys::read(report.from.as_fd(), &mut into) {
            Ok(0) => {
                report.over = true;
                self.conclude(id);
            }
            Ok(count) => {
                report.text.extend_from_slice(&into[..count]);
                let full = report.text.len() > REPORT_LIMIT;
                report.over |= full;
                if full && alive {
                    // Nobody reads what else it tells: it would wait for that without end.
                    let _ = sys::kill(pid, libc::SIGKILL);
                }
                if report.text.starts_with(b"started\n") {
                    report.text.drain(..8);
                    self.say(5000, &Guest::Started { id, pid });
                }
                if full {
                    self.conclude(id);
                }
            }
            Err(_) => {}
        }
    }

    // When the child is gone and has told all it will.
    fn conclude(&mut self, id: u32) {
        let done = self
            .jobs
            .get(&id)
            .is_some_and(|job| !job.alive && job.report.as_ref().is_some_and(|report| report.over));
        let Some(job) = done.then(|| self.jobs.remove(&id)).flatten() else {
            return;
        };
        let text = job.report.map(|report| report.text).unwrap_or_default();
        match serde_json::from_slice::<serde_json::Value>(&text) {
            Ok(mut told) if told.get("value").is_some() => {
                let value = told["value"].take();
                self.say(5000, &Guest::Result { id, value });
            }
            Ok(told) => {
                let word = |name: &str| {
                    told.get(name)
                        .and_then(|text| text.as_str())
                        .unwrap_or_default()
                        .to_owned()
                };
                let (errno, reason) = (word("errno"), word("reason").chars().take(1000).collect());
                self.say(
                    5000,
                    &Guest::Failed {
                        id,
                        errno: &errno,
                        reason,
                    },
                );
            }
            Err(_) => self.failed(
                5000,
                id,
                libc::ECANCELED,
                "the operation was cut short".to_owned(),
            ),
        }
        if let Some(stream) = self.streams.get_mut(&(BULK, 4 * id))
            && stream.inflow.take().is_some()
        {
            stream.cut = true;
            self.settle(BULK, 4 * id);
        }
    }

    fn begin_ending(&mut self, id: u32, again: bool) {
        if self.ending.is_some() {
            return self.failed(
                5004,
                id,
                libc::EPROTO,
                "the machine is ending already".to_owned(),
            );
        }
        let _ = self.run_on();
        self.end_everything(libc::SIGTERM);
        self.ending = Some(Ending {
            id,
            again,
            at: Instant::now() + GRACE,
        });
    }

    fn end_everything(&self, signal: i32) {
        if self.machine {
            let _ = sys::kill(-1, signal);
        }
        for job in self.jobs.values() {
            job.signal(signal);
        }
    }

    /// Whether the machine may end now, and whether it starts again.
    pub(crate) fn ended(&mut self) -> Option<bool> {
        let ending = self.ending?;
        if !self.jobs.is_empty() && Instant::now() < ending.at {
            return None;
        }
        self.end_everything(libc::SIGKILL);
        sys::sync();
        self.say(5004, &Guest::Done { id: ending.id });
        Some(ending.again)
    }

    pub(crate) fn keep_time(&mut self) {
        if self.frozen {
            return;
        }
        let now = Instant::now();
        self.network_time(now);
        self.report_time(now);
        for job in self.jobs.values_mut() {
            if !job.timed_out && job.deadline.is_some_and(|at| at <= now) {
                job.timed_out = true;
                job.end();
            }
            if job.kill_at.is_some_and(|at| at <= now) {
                job.kill_at = None;
                job.signal(libc::SIGKILL);
            }
        }
    }
}
