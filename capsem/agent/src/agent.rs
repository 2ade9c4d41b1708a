//! The loop: ports, streams and jobs, one turn after the other.
//!
//! Refuses whatever breaks the form of the wire (a fault of that port), and runs nothing before the identity is in force.

use std::collections::BTreeMap;
use std::io::Result;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::frame::{self, Frame};
use crate::freezer::Freezer;
use crate::identity::Facts;
use crate::job::{BULK, Job, TERMINAL};
use crate::line::Line;
use crate::mcp::{MCP, Relay};
use crate::message::{Guest, VERSION};
use crate::network::{NETWORK, Network};
use crate::port::{HIGH_WATER, Port};
use crate::reports::Reports;
use crate::stream::{Stream, Taken, Written};
use crate::sys;

/// The version of this program.
pub const AGENT: &str = env!("CARGO_PKG_VERSION");
/// Bytes of one data frame: a compromise between turns and the time one stream keeps the others waiting.
const CHUNK: usize = 256 << 10;
/// How often a device is asked whether its host has come back.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// What a ready descriptor belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Signals,
    Port(u16),
    In(u16, u32),
    Out(u16, u32),
    Report(u32),
    Connections,
    Questions,
    Resolver,
    Asking(RawFd),
    Programs,
    Processes,
    Changes,
}

/// The end of the machine that was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// Whom to tell.
    pub id: u32,
    /// Whether it starts again.
    pub again: bool,
    /// When what still runs is killed.
    pub at: Instant,
}

/// The agent.
#[derive(Debug)]
pub struct Agent {
    pub(crate) ports: BTreeMap<u16, Port>,
    pub(crate) streams: BTreeMap<(u16, u32), Stream>,
    pub(crate) jobs: BTreeMap<u32, Job>,
    /// Whether the identity is in force.
    pub(crate) ready: bool,
    /// The greatest id that the host has given.
    pub(crate) last_id: u32,
    /// The greatest stream this side has opened, on 5002 and 5003.
    pub(crate) opened: BTreeMap<u16, u32>,
    pub(crate) ending: Option<Ending>,
    /// Whether all that the host asked to run stands still; until it runs on, the ports are only listened to.
    pub(crate) frozen: bool,
    /// What makes it stand still in a machine whose kernel can.
    pub(crate) freezer: Option<Freezer>,
    /// Whether this is process 1 of a machine, whose name and clock are its own.
    pub(crate) machine: bool,
    pub(crate) facts: Facts,
    pub(crate) capabilities: Vec<&'static str>,
    /// What leads to the host's network, where this machine has it.
    pub(crate) network: Option<Network>,
    /// What leads to the host's MCP servers.
    pub(crate) relay: Option<Relay>,
    pub(crate) reports: Reports,
    signals: OwnedFd,
    pub(crate) scratch: Vec<u8>,
}

impl Agent {
    /// An agent over these lines; `machine` where it is process 1.
    pub fn new(lines: Vec<(u16, Line)>, facts: Facts, machine: bool) -> Result<Self> {
        sys::ignore_broken_pipes();
        let ports: BTreeMap<u16, Port> = lines
            .into_iter()
            .map(|(number, line)| (number, Port::new(number, line)))
            .collect();
        let mut capabilities = vec!["exec", "files", "rename", "pages", "watch"];
        capabilities.extend(
            [(TERMINAL, "tty"), (5004, "sync"), (5004, "prefetch")]
                .iter()
                .filter(|(port, _)| ports.contains_key(port))
                .map(|row| row.1),
        );
        if machine && ports.contains_key(&5004) {
            capabilities.push("reboot");
        }
        let freezer = machine
            .then(|| Freezer::of_machine(Path::new("/sys/fs/cgroup")).ok())
            .flatten();
        if ports.contains_key(&5004) && (freezer.is_some() || !machine) {
            capabilities.push("freeze");
        }
        let mut this = Self {
            ports,
            streams: BTreeMap::new(),
            jobs: BTreeMap::new(),
            ready: false,
            last_id: 0,
            opened: BTreeMap::from([(5002, 0), (5003, 0)]),
            ending: None,
            frozen: false,
            freezer,
            machine,
            facts,
            capabilities,
            network: None,
            relay: None,
            reports: Reports::new(Instant::now()),
            signals: sys::signals(&[libc::SIGCHLD])?,
            scratch: vec![0; CHUNK],
        };
        this.offer_reports();
        Ok(this)
    }

    /// Begins what leads to the host's network; a machine without the port for it has none.
    pub fn offer_network(&mut self) -> Result<()> {
        if self.ports.contains_key(&NETWORK) {
            self.network = Some(Network::begin()?);
            self.capabilities.push("network");
        }
        Ok(())
    }

    /// Serves until the machine ends; outside of a machine, until `shutdown`.
    pub fn run(&mut self) -> Result<()> {
        loop {
            self.connect();
            self.flush();
            let (interests, places) = self.interests();
            let events = sys::poll(&interests, self.wait())?;
            for (&place, &event) in places.iter().zip(&events) {
                if event != 0 {
                    self.turn(place);
                }
            }
            self.keep_time();
            if let Some(again) = self.ended() {
                self.flush_to_the_end();
                if !self.machine {
                    return Ok(());
                }
                sys::sync();
                return Err(sys::end_machine(again));
            }
        }
    }

    /// Says a message on a port.
    pub(crate) fn say(&mut self, port: u16, message: &Guest<'_>) {
        if let Some(port) = self.ports.get_mut(&port) {
            port.say(message);
        }
    }

    /// What `hello` and `ready` say.
    pub(crate) fn introduce(&mut self, hello: bool) {
        let facts = self.facts.clone();
        let capabilities = self.capabilities.clone();
        let (agent, boot_id, kernel, capabilities) = (
            AGENT,
            facts.boot_id.as_str(),
            facts.kernel.as_str(),
            capabilities.as_slice(),
        );
        let message = if hello {
            Guest::Hello {
                version: VERSION,
                agent,
                boot_id,
                kernel,
                capabilities,
            }
        } else {
            Guest::Ready {
                version: VERSION,
                agent,
                boot_id,
                kernel,
                capabilities,
            }
        };
        self.say(5000, &message);
    }

    fn connect(&mut self) {
        let came: Vec<u16> = self
            .ports
            .values_mut()
            .filter_map(|port| port.connect().then_some(port.number))
            .collect();
        if came.contains(&5000) {
            self.introduce(true);
        }
    }

    fn flush(&mut self) {
        for port in self.ports.values_mut() {
            port.flush();
        }
    }

    // The last words before the machine ends; a host that does not read them in a second does not get them.
    fn flush_to_the_end(&mut self) {
        let until = Instant::now() + Duration::from_secs(1);
        while self.ports.values().any(|port| port.backlog() > 0) && Instant::now() < until {
            self.flush();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn interests(&self) -> (Vec<(RawFd, i16)>, Vec<Place>) {
        let mut interests = vec![(self.signals.as_raw_fd(), libc::POLLIN)];
        let mut places = vec![Place::Signals];
        let mut add = |fd, events, place| {
            interests.push((fd, events));
            places.push(place);
        };
        for port in self.ports.values() {
            if let Some((fd, events)) = port.interest().filter(|interest| interest.1 != 0) {
                add(fd, events, Place::Port(port.number));
            }
        }
        if self.frozen {
            // Whatever has happened stays where it is, so that nothing is said after the last word of a port.
            interests.remove(0);
            places.remove(0);
            return (interests, places);
        }
        for (&(port, number), stream) in &self.streams {
            if let Some(flow) = stream.inflow.as_ref().filter(|flow| flow.wants_to_write()) {
                add(flow.number(), libc::POLLOUT, Place::In(port, number));
            }
            let full = self
                .ports
                .get(&port)
                .is_none_or(|port| port.backlog() > HIGH_WATER);
            if let Some(flow) = stream
                .outflow
                .as_ref()
                .filter(|flow| !full && flow.allowance() > 0)
            {
                add(flow.number(), libc::POLLIN, Place::Out(port, number));
            }
        }
        for (&id, job) in &self.jobs {
            if let Some(report) = job.report.as_ref().filter(|report| !report.over) {
                add(report.from.as_raw_fd(), libc::POLLIN, Place::Report(id));
            }
        }
        self.network_interests(&mut add);
        self.mcp_interests(&mut add);
        self.report_interests(&mut add);
        (interests, places)
    }

    fn wait(&self) -> Option<Duration> {
        let now = Instant::now();
        let deadlines = self
            .jobs
            .values()
            .filter(|_| !self.frozen)
            .flat_map(|job| [job.deadline.filter(|_| !job.timed_out), job.kill_at])
            .flatten();
        let mut wait = deadlines
            .chain(self.ending.map(|ending| ending.at))
            .chain(self.network_deadline())
            .chain(self.report_deadline(now).filter(|_| !self.frozen))
            .min()
            .map(|at| at.saturating_duration_since(now));
        if self.ports.values().any(Port::must_be_asked) {
            wait = Some(wait.map_or(ASK_AGAIN, |wait| wait.min(ASK_AGAIN)));
        }
        wait
    }

    fn turn(&mut self, place: Place) {
        match place {
            Place::Signals => {
                let mut into = [0; 1024];
                while sys::read(self.signals.as_fd(), &mut into).is_ok_and(|count| count > 0) {}
                while let Some(ended) = sys::reap() {
                    self.reaped(ended);
                }
            }
            Place::Port(number) => self.hear(number),
            Place::In(port, number) => self.write_on(port, number),
            Place::Out(port, number) => self.read_on(port, number),
            Place::Report(id) => self.read_report(id),
            Place::Connections => self.take_connections(),
            Place::Questions => self.take_questions(),
            Place::Resolver => self.take_resolver(),
            Place::Asking(fd) => self.read_question(fd),
            Place::Programs => self.take_programs(),
            Place::Processes => {
                self.take_lines();
            }
            Place::Changes => self.changes_woken(),
        }
    }

    fn hear(&mut self, number: u16) {
        let mut scratch = std::mem::take(&mut self.scratch);
        let heard = self
            .ports
            .get_mut(&number)
            .map(|port| port.hear(&mut scratch))
            .unwrap_or_default();
        self.scratch = scratch;
        for frame in heard.frames {
            if let Err(reason) = self.frame(number, frame) {
                self.fault(number, &reason);
                return;
            }
        }
        if let Some(reason) = heard.fault {
            self.fault(number, &reason);
        }
        if heard.hung_up {
            self.hung_up(number);
        }
    }

    fn fault(&mut self, number: u16, reason: &str) {
        self.drop_streams(number);
        if let Some(port) = self.ports.get_mut(&number) {
            port.fault(reason);
        }
    }

    fn hung_up(&mut self, number: u16) {
        self.drop_streams(number);
        if number == 5000 {
            for job in self.jobs.values() {
                job.signal(libc::SIGKILL);
            }
            self.start_over();
            // Nobody is left who would let it run on.
            let _ = self.run_on();
        }
    }

    /// Another conversation begins: ids start again, and what the last one began is nobody's any more.
    pub(crate) fn start_over(&mut self) {
        for port in [TERMINAL, BULK, NETWORK, MCP] {
            self.drop_streams(port);
        }
        self.jobs.clear();
        self.last_id = 0;
    }

    fn drop_streams(&mut self, number: u16) {
        if number == NETWORK {
            self.network_over();
        }
        if number == MCP {
            self.mcp_over();
        }
        for &(port, stream) in self.streams.keys().filter(|(port, _)| *port == number) {
            self.cut_short(port, stream);
        }
        self.streams.retain(|&(port, _), _| port != number);
    }

    // A file operation ends before its stream is dropped: its process would take the closed pipe for the end of the content, and
    // half of a file would take the place of the whole.
    fn cut_short(&self, port: u16, number: u32) {
        if port == BULK
            && self.streams.contains_key(&(port, number))
            && let Some(job) = self.jobs.get(&(number / 4))
            && job.report.is_some()
        {
            job.signal(libc::SIGKILL);
        }
    }

    fn frame(&mut self, port: u16, untrusted: Frame) -> std::result::Result<(), String> {
        let (number, is_data) = match untrusted {
            Frame::Message(body) => return self.message(port, &body),
            Frame::Data { stream, .. } | Frame::End(stream) => (stream, true),
            Frame::Credit { stream, .. } => (stream, false),
            Frame::Reset(stream) => return self.reset(port, stream),
        };
        self.was_there(port, number)?;
        match (port, number % 4, is_data) {
            (BULK, 0, false) | (BULK, 1 | 2, true) => {
                return Err("a frame against the direction of its stream".to_owned());
            }
            _ => {}
        }
        if port == NETWORK && self.network_answer(number, &untrusted) {
            return Ok(());
        }
        let Some(stream) = self.streams.get_mut(&(port, number)) else {
            return Ok(());
        };
        match untrusted {
            Frame::Data { content, .. } => {
                if let Some(flow) = &mut stream.inflow {
                    flow.take(&content)?;
                    self.write_on(port, number);
                }
            }
            Frame::End(_) => {
                if let Some(flow) = &mut stream.inflow {
                    flow.end()?;
                    self.write_on(port, number);
                }
            }
            Frame::Credit { amount, .. } => {
                if let Some(flow) = &mut stream.outflow {
                    flow.credit(amount)?;
                }
            }
            Frame::Message(_) | Frame::Reset(_) => {}
        }
        Ok(())
    }

    // A stream that is there, or was: of jobs by the greatest id, of ours by the greatest number.
    fn was_there(&self, port: u16, number: u32) -> std::result::Result<(), String> {
        let known = match port {
            BULK => number / 4 >= 1 && number / 4 <= self.last_id && number % 4 != 3,
            TERMINAL => number / 4 >= 1 && number / 4 <= self.last_id && number.is_multiple_of(4),
            _ => self.opened.get(&port).is_some_and(|&last| number <= last),
        };
        if known {
            Ok(())
        } else {
            Err(format!("a frame of stream {number}, which never was"))
        }
    }

    fn reset(&mut self, port: u16, number: u32) -> std::result::Result<(), String> {
        self.was_there(port, number)?;
        self.cut_short(port, number);
        if port == NETWORK {
            self.network_refused(number);
        }
        if port == MCP {
            self.mcp_refused(number);
        }
        if let Some(stream) = self.streams.remove(&(port, number))
            && port == NETWORK
        {
            stream.reset_at_close();
        }
        Ok(())
    }

    fn write_on(&mut self, port: u16, number: u32) {
        let Some(stream) = self.streams.get_mut(&(port, number)) else {
            return;
        };
        let Some(flow) = &mut stream.inflow else {
            return;
        };
        let written = flow.pump();
        let earned = flow.earned();
        if let (Some(amount), Some(port)) = (
            earned.filter(|_| written == Written::More),
            self.ports.get_mut(&port),
        ) {
            frame::write_credit(port.out(), number, amount);
        }
        match written {
            Written::More => return,
            Written::Over => {}
            Written::Broken => stream.cut = true,
        }
        stream.inflow = None;
        self.settle(port, number);
    }

    fn read_on(&mut self, port: u16, number: u32) {
        let Some(stream) = self.streams.get_mut(&(port, number)) else {
            return;
        };
        let Some(flow) = &mut stream.outflow else {
            return;
        };
        let taken = flow.pump(&mut self.scratch);
        let Some(way) = self.ports.get_mut(&port) else {
            return;
        };
        match taken {
            Taken::Nothing => {}
            Taken::Bytes(count) => frame::write_data(way.out(), number, &self.scratch[..count]),
            Taken::Broken => {
                frame::write_reset(way.out(), number);
                self.streams.remove(&(port, number));
            }
            Taken::Over => {
                frame::write_end(way.out(), number);
                stream.outflow = None;
                if port == TERMINAL && stream.inflow.take().is_some() {
                    stream.cut = true;
                }
                self.settle(port, number);
            }
        }
    }

    // A stream whose two directions are over is gone; if the host had more to send, it is told.
    pub(crate) fn settle(&mut self, port: u16, number: u32) {
        let over = self
            .streams
            .get(&(port, number))
            .is_some_and(|stream| stream.inflow.is_none() && stream.outflow.is_none());
        if !over {
            return;
        }
        let cut = self
            .streams
            .remove(&(port, number))
            .is_some_and(|stream| stream.cut);
        if let Some(port) = self.ports.get_mut(&port).filter(|_| cut) {
            frame::write_reset(port.out(), number);
        }
    }
}
