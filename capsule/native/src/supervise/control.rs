//! The supervisor's side of the control connection: a program drives a worker inside the sandbox, one call at a time
//! per lane, and every call is on the log before it starts and when it is over.
//!
//! The program speaks on the control connection and on lanes it hands over; the worker and its children speak on
//! sockets of their own (docs/formats/control.md). What it refuses: to read bodies, a frame that is not due, a
//! child's second word. When it cannot be sure that a call's processes are gone, it asks for the end of the sandbox.
//!
//! The run's loop waits on [`Control::fd`] until [`Control::deadline`], then takes a [`Control::turn`].

mod calls;
mod children;
mod epoll;
mod peer;
mod slot;
mod wire;

use std::collections::{HashMap, VecDeque};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use epoll::{Epoll, Source};
use peer::Peer;
use slot::{Call, Slot, State, Why};
use wire::{FromProgram, FromWorker};

/// Bytes of arguments, a module to load, or the worker's start.
const MAX_REQUEST: usize = 16 << 20;
/// Bytes of a frame from the worker, or from a child that has no call.
const MAX_WORD: usize = 128 << 10;

/// A call's denial, and the process inside the sandbox that it happened to.
pub struct Denied {
    /// The process, as numbered inside the sandbox.
    pub pid: i32,
    /// The denial as in docs/formats/report.md.
    pub report: Value,
}

/// What the control connection needs of the run it belongs to.
pub trait Ledger {
    /// Append an entry; its position.
    ///
    /// # Errors
    /// A sentence: nothing may go on when the log cannot be written.
    fn append(
        &mut self,
        kind: &'static str,
        fields: Vec<(&'static str, Value)>,
    ) -> Result<u64, String>;
    /// Read what the monitor has already said, so that what was refused before an answer is known before it.
    fn settle(&mut self) -> Vec<Denied>;
    /// A commitment to bytes that may hold a secret: who lacks the operator's salt cannot test guesses.
    fn commitment(&self, bytes: &[u8]) -> String;
}

/// What the run has to do after a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Continue,
    /// The program asked for the end.
    Close,
    /// The program has gone, which this says how.
    Abandoned(String),
    /// The sandbox has to end now, for this reason.
    Stop(String),
}

enum Lane {
    Free(Peer),
    Loading(Peer),
    Calling(Peer),
}

impl Lane {
    fn peer(&mut self) -> &mut Peer {
        match self {
            Lane::Free(peer) | Lane::Loading(peer) | Lane::Calling(peer) => peer,
        }
    }
}

/// The control connection with everything that hangs on it.
pub struct Control {
    epoll: Epoll,
    program: Peer,
    worker: Option<Peer>,
    owner: Option<OwnedFd>,
    lanes: HashMap<u64, Lane>,
    /// Until when a module has to be imported, by the lane that asked.
    loading: HashMap<u64, Instant>,
    slots: HashMap<u32, Slot>,
    queue: VecDeque<Box<Call>>,
    started: bool,
    worker_pid: i32,
    generation: u32,
    warm: bool,
    hold: bool,
    collect: Vec<u32>,
    collect_at: Option<Instant>,
    next_lane: u64,
    next_slot: u32,
    calls: u64,
    longest: Option<u64>,
    stop: Option<Verdict>,
}

impl Control {
    /// Take over the connection to the program and, when a worker is to be driven, the one to the worker. `longest`:
    /// milliseconds that a call may take, whatever it asks for, and the import of a module.
    ///
    /// # Errors
    /// When the descriptors are not sockets, or the kernel gives no more.
    pub fn new(
        program: OwnedFd,
        worker: Option<OwnedFd>,
        longest: Option<u64>,
    ) -> io::Result<Control> {
        let epoll = Epoll::new()?;
        let program = Peer::new(program, true)?;
        epoll.add(program.fd(), Source::Program)?;
        let worker = worker.map(|socket| Peer::new(socket, false)).transpose()?;
        if let Some(peer) = &worker {
            epoll.add(peer.fd(), Source::Worker)?;
        }
        let owner = parent()?;
        epoll.add(owner.as_raw_fd(), Source::Owner)?;
        Ok(Control {
            epoll,
            program,
            worker,
            owner: Some(owner),
            lanes: HashMap::new(),
            loading: HashMap::new(),
            slots: HashMap::new(),
            queue: VecDeque::new(),
            started: false,
            worker_pid: 0,
            generation: 0,
            warm: false,
            hold: false,
            collect: Vec::new(),
            collect_at: None,
            next_lane: 1,
            next_slot: 1,
            calls: 0,
            longest,
            stop: None,
        })
    }

    /// The descriptor to wait on: readable when a turn is due.
    pub fn fd(&self) -> RawFd {
        self.epoll.fd()
    }

    /// When a turn is due at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.slots
            .values()
            .filter_map(Slot::deadline)
            .chain(self.queue.iter().filter_map(|call| call.deadline))
            .chain(self.loading.values().copied())
            .chain(self.collect_at)
            .min()
    }

    /// How many calls were recorded.
    pub fn calls(&self) -> u64 {
        self.calls
    }

    /// Do everything that can be done now.
    pub fn turn(&mut self, ledger: &mut dyn Ledger) -> Verdict {
        for source in self.epoll.ready() {
            let outcome = match source {
                Source::Program => self.hear_program(),
                Source::Owner => {
                    self.owner = None;
                    self.end("the program that owns the sandbox has gone")
                }
                Source::Worker => self.hear_worker(ledger),
                Source::Lane(id) => self.hear_lane(id, ledger),
                Source::Slot(id) => self.hear_slot(id, ledger),
            };
            if let Err(reason) = outcome {
                self.stop.get_or_insert(Verdict::Stop(reason));
            }
            if let Some(verdict) = &self.stop {
                return verdict.clone();
            }
        }
        match self.expire(ledger).and_then(|()| self.dispatch()) {
            Ok(()) => self.stop.clone().unwrap_or(Verdict::Continue),
            Err(reason) => Verdict::Stop(reason),
        }
    }

    fn settle(&mut self, ledger: &mut dyn Ledger) {
        for denied in ledger.settle() {
            self.denied(&denied);
        }
    }

    /// Attribute a denial to the call it happened in, or to all that it may have happened in; the worker's own are
    /// nobody's.
    pub fn denied(&mut self, denied: &Denied) {
        if denied.pid == self.worker_pid {
            return;
        }
        let exact = denied.pid > 0 && self.slots.values().any(|slot| slot.pid == denied.pid);
        for slot in self.slots.values_mut() {
            if exact && slot.pid != denied.pid {
                continue;
            }
            if let Some(call) = slot.call() {
                call.denied(&denied.report);
            }
        }
    }

    /// The sandbox is over: answer whoever still waits, then tell the program with the run's report.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn finish(&mut self, reason: &str, ledger: &mut dyn Ledger) -> Result<(), String> {
        self.settle(ledger);
        let mut open: Vec<Box<Call>> = self.queue.drain(..).collect();
        let killed = |state: &State| {
            if let State::Killing(_, why, _) = state {
                Some(*why)
            } else {
                None
            }
        };
        let mut words = Vec::new();
        for slot in self.slots.values_mut() {
            let word = killed(&slot.state).map_or("ended", Why::word);
            if let Some(call) = slot.settle(Instant::now()) {
                words.push((call, word));
            }
        }
        words.extend(open.drain(..).map(|call| (call, "ended")));
        for (call, word) in words {
            self.answer(
                *call,
                word,
                json!({"reason": reason, "replaced": true}),
                &[],
                ledger,
            )?;
        }
        for lane in self.lanes.values_mut() {
            if let Lane::Loading(peer) = lane {
                let _ = peer.send(&json!({"kind": "ended", "reason": reason}), &[], None);
            }
        }
        Ok(())
    }

    fn end(&mut self, reason: &str) -> Result<(), String> {
        self.stop
            .get_or_insert_with(|| Verdict::Abandoned(reason.to_owned()));
        Ok(())
    }

    fn hear_program(&mut self) -> Result<(), String> {
        self.program.flush().map_err(|fault| fault.to_string())?;
        loop {
            let frame = self
                .program
                .next(MAX_REQUEST)
                .map_err(|fault| format!("the control connection: {fault}"))?;
            let Some(frame) = frame else { break };
            match frame
                .envelope()
                .map_err(|fault| format!("the control connection: {fault}"))?
            {
                FromProgram::Start => {
                    self.tell_worker(&json!({"kind": "start"}), frame.body(), None)?
                }
                FromProgram::Lane => {
                    let socket = self
                        .program
                        .descriptor()
                        .ok_or("a lane without its descriptor")?;
                    let peer = Peer::new(socket, false).map_err(|error| error.to_string())?;
                    self.epoll
                        .add(peer.fd(), Source::Lane(self.next_lane))
                        .map_err(|error| error.to_string())?;
                    self.lanes.insert(self.next_lane, Lane::Free(peer));
                    self.next_lane += 1;
                }
                FromProgram::Close => self.stop = Some(Verdict::Close),
            }
        }
        if self.program.ended() {
            return self.end("the program that owns the sandbox closed its connection");
        }
        self.epoll.rearm(&mut self.program, Source::Program);
        Ok(())
    }

    fn tell_worker(
        &mut self,
        envelope: &Value,
        body: &[u8],
        descriptor: Option<OwnedFd>,
    ) -> Result<(), String> {
        let worker = self
            .worker
            .as_mut()
            .ok_or("a frame for a worker, where there is none")?;
        worker
            .send(envelope, body, descriptor)
            .map_err(|fault| format!("the worker has gone: {fault}"))?;
        self.epoll.rearm(worker, Source::Worker);
        Ok(())
    }

    fn hear_worker(&mut self, ledger: &mut dyn Ledger) -> Result<(), String> {
        loop {
            let Some(worker) = self.worker.as_mut() else {
                return Ok(());
            };
            worker
                .flush()
                .map_err(|fault| format!("the worker has gone: {fault}"))?;
            self.epoll.rearm(worker, Source::Worker);
            let frame = worker
                .next(MAX_WORD)
                .map_err(|fault| format!("the worker: {fault}"))?;
            let Some(frame) = frame else {
                if worker.ended() {
                    // How it ended, the run learns from the monitor.
                    self.worker = None;
                }
                return Ok(());
            };
            match frame
                .envelope()
                .map_err(|fault| format!("the worker: {fault}"))?
            {
                FromWorker::Started { pid } => {
                    self.started = true;
                    self.worker_pid = pid;
                    self.tell_program(&json!({"kind": "started", "pid": pid}));
                }
                FromWorker::Loaded { load } => {
                    // Children forked before do not have the module: they leave, new ones take their place.
                    self.generation += 1;
                    self.retire();
                    self.warm = true;
                    self.loaded(load, &json!({"kind": "loaded"}), &[]);
                }
                FromWorker::Failed { load } => {
                    self.loaded(load, &json!({"kind": "failed"}), frame.body())
                }
                FromWorker::Gone {
                    slot,
                    status,
                    clean,
                    errno,
                } => self.gone(slot, status, clean, errno, ledger)?,
            }
        }
    }

    fn tell_program(&mut self, envelope: &Value) {
        // A failed send shows as the end of the connection on the next turn.
        let _ = self.program.send(envelope, &[], None);
        self.epoll.rearm(&mut self.program, Source::Program);
    }

    fn loaded(&mut self, id: u64, envelope: &Value, body: &[u8]) {
        self.loading.remove(&id);
        if let Some(lane) = self.lanes.remove(&id) {
            let Lane::Loading(peer) = lane else {
                self.lanes.insert(id, lane);
                return;
            };
            self.lanes.insert(id, Lane::Free(peer));
            self.tell_lane(id, envelope, body);
        }
    }

    fn tell_lane(&mut self, id: u64, envelope: &Value, body: &[u8]) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            let peer = lane.peer();
            // A lane that has gone shows as its end on the next turn.
            let _ = peer.send(envelope, body, None);
            self.epoll.rearm(peer, Source::Lane(id));
        }
    }
}

/// The last word on the control connection `number`: the run's report.
pub fn report(number: RawFd, report: &[u8]) {
    let line = [b"{\"kind\":\"ended\"}\n", report].concat();
    let Ok(size) = u32::try_from(line.len()) else {
        return;
    };
    // SAFETY: plain integers.
    let owned = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if owned < 0 {
        return;
    }
    // SAFETY: the kernel has just given us this descriptor alone.
    let mut socket = UnixStream::from(unsafe { OwnedFd::from_raw_fd(owned) });
    // The program may be gone, which is why the run ended; there is nobody else to tell.
    let _ = socket
        .set_nonblocking(false)
        .and_then(|()| socket.set_write_timeout(Some(Duration::from_secs(2))))
        .and_then(|()| socket.write_all(&[&size.to_be_bytes()[..], &line].concat()));
}

/// A descriptor that is readable when our parent has ended.
fn parent() -> io::Result<OwnedFd> {
    // SAFETY: getppid only reads; pidfd_open makes a new descriptor from two integers.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getppid(), 0) };
    match RawFd::try_from(number) {
        // SAFETY: the kernel has just given us this descriptor alone.
        Ok(number) if number >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(number) }),
        _ => Err(io::Error::last_os_error()),
    }
}
