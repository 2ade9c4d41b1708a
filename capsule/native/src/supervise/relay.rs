//! The supervisor's loop: events from the monitor, signals from the user, bytes of the terminal, the clock.
//!
//! One `poll` for everything. The monitor's messages are bounded, typed input and nothing else of the sandbox is
//! parsed. It refuses to wait for anybody: a reader that is slow, a monitor that is silent after it was told to stop
//! and a command that ignores signals are all ended by the clock.

use super::cgroup::Group;
use super::control::{self, Control, Denied, Verdict};
use super::egress::session::Session;
use super::job_control::{Insistence, deaf, interrupt_key, stop_key, stop_ourselves};
use super::pump::Pump;
use super::raw_mode::RawMode;
use super::recorder::Recorder;
use super::report::{Cause, Exit};
use super::signals::Signals;
use super::usage::{Bounds, Pace, Tree};
use crate::audit::Hurry;
use crate::monitor::wire::{self, Event, Order};
use crate::sandbox::messages;
use crate::sandbox::system::{self, Child};
use serde_json::Value;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// Between asking a process group to end and ending it.
const GRACE: Duration = Duration::from_millis(200);
/// The longest an event waits before it is on the log.
const FLUSH: Duration = Duration::from_millis(100);
/// How long a slow reader of the output is waited for after the command ended.
const DRAIN_MS: i32 = 5_000;

/// What the loop runs with.
pub struct Relay<'a> {
    /// The first process of the sandbox.
    pub child: Child,
    /// The socket to it.
    pub socket: OwnedFd,
    /// The user's signals.
    pub signals: &'a Signals,
    /// Bytes to and from the command.
    pub pumps: Vec<Pump>,
    /// How many pumps, from the first, carry the command's output.
    pub outputs: usize,
    /// The terminal's master and the user's terminal in raw mode.
    pub terminal: Option<(OwnedFd, RawMode)>,
    /// When time is up.
    pub deadline: Option<Instant>,
    /// Bytes of output that may still come.
    pub output: Option<u64>,
    /// Bounds on the tree.
    pub bounds: Bounds,
    /// What the tree uses, and when that is looked at.
    pub tree: Tree,
    /// See there.
    pub pace: Pace,
    /// The run's control group.
    pub group: Option<Group>,
    /// The program that drives the run.
    pub control: Option<Control>,
    /// Room for a message; empty before the loop begins.
    pub buffer: Vec<u8>,
    /// The session with egress.
    pub egress: Option<Session>,
}

/// What the control connection sees of the run.
struct Desk<'a, 'b> {
    relay: &'a mut Relay<'b>,
    state: &'a mut Progress,
    recorder: &'a mut dyn Recorder,
}

impl control::Ledger for Desk<'_, '_> {
    fn append(
        &mut self,
        kind: &'static str,
        fields: Vec<(&'static str, Value)>,
    ) -> Result<u64, String> {
        self.recorder.call(kind, fields)
    }

    fn settle(&mut self) -> Vec<Denied> {
        if self.state.open {
            self.relay.take_messages(self.state, self.recorder);
        }
        self.recorder.refusals()
    }

    fn commitment(&self, bytes: &[u8]) -> String {
        self.recorder.commitment(bytes)
    }
}

/// How the loop ended.
#[derive(Debug)]
pub struct Ended {
    /// The command's raw wait status, when the monitor reported it.
    pub status: Option<i32>,
    /// What the monitor says all of them used, when it reported it: processor milliseconds and bytes of memory.
    pub used: Option<(u64, u64)>,
    /// Why the supervisor ended it, when it did.
    pub cause: Option<Exit>,
}

/// How a run ends that reached a limit.
fn limit(name: &'static str) -> Exit {
    Exit {
        limit: Some(name),
        ..Exit::of_capsule(Cause::Limit, format!("the limit `{name}` was reached"))
    }
}

struct Progress {
    status: Option<i32>,
    used: Option<(u64, u64)>,
    cause: Option<Exit>,
    kill_at: Option<Instant>,
    killed: bool,
    interrupts: u32,
    insistence: Insistence,
    open: bool,
}

impl Relay<'_> {
    /// Run until all of the sandbox is gone but, at most, its first process.
    pub fn run(&mut self, recorder: &mut dyn Recorder) -> Ended {
        // Zeroed by the kernel: only the pages that messages reach are ever touched.
        self.buffer = vec![0; wire::MAX_MESSAGE];
        let mut state = Progress {
            status: None,
            used: None,
            cause: None,
            kill_at: None,
            killed: false,
            interrupts: 0,
            insistence: Insistence::default(),
            open: true,
        };
        // The clock and the user's signals never wait for the log.
        recorder.hurry(Hurry {
            until: self.deadline,
            signals: Some(self.signals.descriptor()),
        });
        let mut next_look = Instant::now() + self.pace.wait;
        let mut next_flush = None;
        self.resize();
        loop {
            if recorder.waiting() && next_flush.is_none() {
                next_flush = Some(Instant::now() + FLUSH);
            }
            let look = self.bounds.any().then_some(next_look);
            let soonest = [
                self.deadline.filter(|_| state.cause.is_none()),
                state.kill_at,
                look,
                next_flush,
                self.control
                    .as_ref()
                    .and_then(Control::deadline)
                    .filter(|_| state.cause.is_none()),
                self.egress.as_ref().and_then(Session::deadline),
            ];
            let ready = self.poll(soonest.into_iter().flatten().min(), state.open);
            let now = Instant::now();
            if ready.signals {
                self.take_signals(&mut state);
            }
            if ready.socket {
                self.take_messages(&mut state, recorder);
            }
            if state.cause.is_none() {
                self.turn_control(&mut state, recorder);
            }
            self.turn_egress(&mut state, recorder);
            for at in ready.pumps {
                self.turn(at, &mut state, recorder);
            }
            if next_flush.is_some_and(|at| at <= now) {
                next_flush = None;
                if let Err(why) = recorder.flush() {
                    self.end(&mut state, Exit::of_capsule(Cause::Failed, why), true);
                }
            }
            if self.deadline.is_some_and(|at| at <= now) && state.cause.is_none() {
                let limit = Exit {
                    limit: Some("wall_time"),
                    ..Exit::of_capsule(Cause::Timeout, "time was up")
                };
                self.over("wall_time", limit, &mut state, recorder);
            }
            if look.is_some_and(|at| at <= now) {
                let seen = self.tree.look();
                self.pace.saw(&seen);
                next_look = now + self.pace.wait;
                if let Some(name) = self.bounds.exceeded(&seen) {
                    self.over(name, limit(name), &mut state, recorder);
                }
            }
            if state.kill_at.is_some_and(|at| at <= now) {
                self.kill(&mut state);
            }
            // What ends by itself now is the first process alone; see `bury`.
            if ready.gone || state.used.is_some() {
                break;
            }
        }
        if state.open {
            self.take_messages(&mut state, recorder);
        }
        self.judge_memory(&mut state, recorder);
        self.part_from_egress(&mut state, recorder);
        if let Some(mut control) = self.control.take() {
            let reason = state.cause.as_ref().and_then(|exit| exit.reason.clone());
            let reason = reason.unwrap_or_else(|| "the worker has ended".to_owned());
            let mut desk = Desk {
                relay: self,
                state: &mut state,
                recorder,
            };
            if let Err(why) = control.finish(&reason, &mut desk) {
                state.cause = Some(Exit::of_capsule(Cause::Failed, why));
            }
        }
        if !state.killed {
            for at in 0..self.outputs {
                self.pumps[at].finish(DRAIN_MS);
            }
        }
        Ended {
            status: state.status,
            used: state.used,
            cause: state.cause,
        }
    }

    fn turn_control(&mut self, state: &mut Progress, recorder: &mut dyn Recorder) {
        let Some(mut control) = self.control.take() else {
            return;
        };
        let verdict = control.turn(&mut Desk {
            relay: self,
            state,
            recorder,
        });
        self.control = Some(control);
        match verdict {
            Verdict::Continue => {}
            Verdict::Close => {
                let exit = Exit {
                    code: 0,
                    ..Exit::of_capsule(Cause::Exited, "closed by its program")
                };
                self.end(state, exit, true);
            }
            Verdict::Abandoned(reason) => {
                self.end(state, Exit::of_capsule(Cause::Interrupted, reason), true);
            }
            Verdict::Stop(reason) => self.end(state, Exit::of_capsule(Cause::Failed, reason), true),
        }
    }

    /// It hears of everything that happened, and has the last word.
    fn part_from_egress(&mut self, state: &mut Progress, recorder: &mut dyn Recorder) {
        if self.egress.is_none() {
            return;
        }
        let mut parted = recorder.flush();
        self.turn_egress(state, recorder);
        if let Some(session) = self.egress.take() {
            parted = parted.and(session.finish(recorder));
        }
        if let Err(why) = parted {
            state.cause = Some(Exit::of_capsule(Cause::Failed, why));
        }
    }

    fn turn_egress(&mut self, state: &mut Progress, recorder: &mut dyn Recorder) {
        let Some(session) = &mut self.egress else {
            return;
        };
        if session.detects() {
            for line in recorder.forwarded() {
                session.entry(&line);
            }
        }
        if let Err(why) = session.turn(recorder) {
            self.end(state, Exit::of_capsule(Cause::Failed, why), true);
        }
    }

    fn over(
        &self,
        name: &'static str,
        exit: Exit,
        state: &mut Progress,
        recorder: &mut dyn Recorder,
    ) {
        if state.cause.is_none() {
            // Failing to record it does not keep the command alive: it is being ended already.
            let _ = recorder.limit(name);
        }
        self.end(state, exit, false);
    }

    /// End the command for a reason: ask, then kill.
    fn end(&self, state: &mut Progress, exit: Exit, at_once: bool) {
        if state.cause.is_some() {
            return;
        }
        state.cause = Some(exit);
        if at_once {
            self.kill(state);
        } else {
            self.signal(libc::SIGTERM);
            state.kill_at = Some(Instant::now() + GRACE);
        }
    }

    /// Ending the first process ends everything in its pid namespace.
    fn kill(&self, state: &mut Progress) {
        state.kill_at = None;
        state.killed = true;
        // It may be gone already.
        let _ = system::signal(self.child.pidfd.as_fd(), libc::SIGKILL);
        if let Some(group) = &self.group {
            group.kill();
        }
    }

    /// Where the kernel bounds the memory it ends everything without a word, the monitor too.
    fn judge_memory(&self, state: &mut Progress, recorder: &mut dyn Recorder) {
        let decided = |exit: &Exit| exit.cause != Cause::Failed;
        if !state.cause.as_ref().is_some_and(decided)
            && self.group.as_ref().is_some_and(Group::ran_out_of_memory)
        {
            state.cause = None;
            self.over("memory", limit("memory"), state, recorder);
        }
    }

    fn signal(&self, number: i32) {
        self.order(&Order::Signal { number });
    }

    fn order(&self, order: &Order) {
        // A monitor that is gone is noticed by its pidfd.
        let _ = messages::send(self.socket.as_fd(), &wire::encode(order), &[]);
    }

    fn take_messages(&mut self, state: &mut Progress, recorder: &mut dyn Recorder) {
        let mut buffer = std::mem::take(&mut self.buffer);
        self.take_into(&mut buffer, state, recorder);
        self.buffer = buffer;
    }

    fn take_into(&mut self, buffer: &mut [u8], state: &mut Progress, recorder: &mut dyn Recorder) {
        loop {
            let length = match messages::receive(self.socket.as_fd(), buffer, false) {
                Ok((0, _)) => {
                    state.open = false;
                    return;
                }
                Ok((length, _)) => length,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    state.open = false;
                    let reason = format!("the monitor's socket: {error}");
                    return self.end(state, Exit::of_capsule(Cause::Failed, reason), true);
                }
            };
            match wire::decode::<Event>(&buffer[..length]) {
                Ok(Event::Exited {
                    status,
                    cpu_ms,
                    max_rss_bytes,
                }) => {
                    state.status = Some(status);
                    state.used = Some((cpu_ms, max_rss_bytes));
                }
                Ok(Event::Stopped {}) => crate::terminal::stopped(self.terminal.is_some()),
                Ok(Event::Failed { reason }) => {
                    self.end(
                        state,
                        Exit::of_capsule(Cause::Failed, format!("the monitor: {reason}")),
                        true,
                    );
                }
                Ok(Event::Dial { id, target }) => self.answer(id, recorder.dial(&target)),
                Ok(event @ Event::Egress { .. }) => {
                    if let Some(session) = &mut self.egress {
                        session.flow(&event);
                    }
                }
                Ok(event) => {
                    if let Err(why) = recorder.event(event) {
                        self.end(state, Exit::of_capsule(Cause::Failed, why), true);
                    }
                }
                Err(why) => {
                    let reason = format!("the monitor sent what is not a message: {why}");
                    self.end(state, Exit::of_capsule(Cause::Failed, reason), true);
                }
            }
        }
    }

    fn answer(&self, id: u64, dialled: Result<OwnedFd, i32>) {
        let (errno, descriptors) = match &dialled {
            Ok(connection) => (None, vec![connection.as_raw_fd()]),
            Err(errno) => (Some(*errno), vec![]),
        };
        let order = wire::encode(&Order::Dialled { id, errno });
        let _ = messages::send(self.socket.as_fd(), &order, &descriptors);
    }

    fn take_signals(&mut self, state: &mut Progress) {
        while let Some(signal) = self.signals.next() {
            match signal {
                libc::SIGWINCH => self.resize(),
                libc::SIGTSTP => {
                    self.signal(libc::SIGSTOP);
                    stop_ourselves(false);
                    self.signal(libc::SIGCONT);
                }
                libc::SIGCONT => self.signal(libc::SIGCONT),
                libc::SIGCHLD => {}
                other => {
                    state.interrupts += 1;
                    if state.interrupts == 1 {
                        self.signal(other);
                        if matches!(other, libc::SIGHUP | libc::SIGTERM) {
                            // One that stopped itself would never hear of it: nobody in its session continues it.
                            self.signal(libc::SIGCONT);
                        }
                    } else {
                        let code = 128 + other as u8;
                        let exit = Exit {
                            code,
                            signal: Some(other),
                            ..Exit::of_capsule(Cause::Interrupted, "interrupted twice")
                        };
                        self.end(state, exit, true);
                    }
                }
            }
        }
    }

    fn turn(&mut self, at: usize, state: &mut Progress, recorder: &mut dyn Recorder) {
        let turn = self.pumps[at].turn();
        if at >= self.outputs {
            if turn.read > 0
                && let Some(key) = self
                    .terminal
                    .as_ref()
                    .and_then(|(master, _)| stop_key(master))
                && self.pumps[at].take(key)
            {
                self.suspend();
            }
            if turn.read > 0 {
                self.count_interrupts(at, state);
            }
            return;
        }
        state.insistence.output(turn.read);
        if let Some(left) = &mut self.output {
            let allowed = *left;
            *left = left.saturating_sub(turn.read as u64);
            if *left == 0 && turn.read > 0 {
                // What is over the limit goes nowhere, however long the command takes to die.
                self.pumps[at].cut(usize::try_from(allowed).unwrap_or(usize::MAX));
                if state.cause.is_none() {
                    self.over("output", limit("output"), state, recorder);
                    self.kill(state);
                }
            }
        }
    }

    /// Keys that interrupt, typed at the command's terminal: see [`Insistence`].
    fn count_interrupts(&self, at: usize, state: &mut Progress) {
        let Some((master, _)) = &self.terminal else {
            return;
        };
        let Some((key, front)) = interrupt_key(master) else {
            // To this program the key is a character like any other.
            state.insistence = Insistence::default();
            return;
        };
        let typed = self.pumps[at].held();
        let deaf = typed.contains(&key) && deaf(front, libc::SIGINT);
        if state.insistence.typed(typed, key, deaf, Instant::now()) {
            let exit = Exit {
                code: 128 + libc::SIGINT as u8,
                signal: Some(libc::SIGINT),
                ..Exit::of_capsule(Cause::Interrupted, "interrupted three times")
            };
            self.end(state, exit, true);
        }
    }

    /// The key that stops was typed while the command stands in front: the kernel does not stop it, as nobody in its
    /// session could continue it. So it and we are stopped here, and go on when the user's shell says so.
    fn suspend(&mut self) {
        self.signal(libc::SIGSTOP);
        if let Some((_, mode)) = &self.terminal {
            mode.leave();
        }
        stop_ourselves(true);
        if let Some((_, mode)) = &mut self.terminal {
            mode.again();
        }
        self.resize();
        self.signal(libc::SIGCONT);
        // What draws on the whole screen draws again.
        self.signal(libc::SIGWINCH);
    }

    fn resize(&self) {
        if let Some((master, mode)) = &self.terminal {
            mode.copy_size(master);
        }
    }

    fn poll(&self, until: Option<Instant>, open: bool) -> Ready {
        let watch = |fd: i32| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let socket = if open { self.socket.as_raw_fd() } else { -1 };
        let mut list = vec![
            watch(self.child.pidfd.as_raw_fd()),
            watch(socket),
            watch(self.signals.descriptor()),
            watch(self.control.as_ref().map_or(-1, Control::fd)),
        ];
        // While a person is asked, the keys are the answer's.
        let asks = self.egress.as_ref().is_some_and(Session::asks);
        let interests: Vec<(usize, libc::pollfd)> = self
            .pumps
            .iter()
            .enumerate()
            .filter(|(at, _)| !asks || *at < self.outputs)
            .filter_map(|(at, pump)| Some((at, pump.interest()?)))
            .collect();
        list.extend(interests.iter().map(|(_, interest)| *interest));
        if let Some(session) = &self.egress {
            list.extend(session.interests());
        }
        let timeout = until.map_or(-1, |at| {
            let left = at.saturating_duration_since(Instant::now());
            // Rounded up: waking a moment early would spin.
            i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
        });
        // SAFETY: the list is valid and its length is the one given.
        let count = unsafe { libc::poll(list.as_mut_ptr(), list.len() as libc::nfds_t, timeout) };
        if count <= 0 {
            return Ready::default();
        }
        let ready = |at: usize| list[at].revents != 0;
        Ready {
            gone: ready(0),
            socket: ready(1),
            signals: ready(2),
            pumps: interests
                .iter()
                .enumerate()
                .filter(|(n, _)| ready(4 + n))
                .map(|(_, (at, _))| *at)
                .collect(),
        }
    }
}

#[derive(Default)]
struct Ready {
    gone: bool,
    socket: bool,
    signals: bool,
    pumps: Vec<usize>,
}
