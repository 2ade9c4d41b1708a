//! The children of a worker, as the supervisor knows them: who waits, who serves which call, who is being killed.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::peer::{Fault, Peer};

/// How long an answered child may take to leave by itself, and a killed one to be reported gone.
pub const GRACE: Duration = Duration::from_millis(1000);
/// Denials kept with one call; more are only counted.
const MAX_DENIALS: usize = 50;

/// One call, from its arrival on a lane to its answer.
pub struct Call {
    /// Its number in this run, from 1.
    pub number: u64,
    /// The lane that asked, and whether it still listens.
    pub lane: Option<u64>,
    /// When it arrived.
    pub since: Instant,
    /// Milliseconds that it may take.
    pub time: Option<u64>,
    /// When it is to be killed.
    pub deadline: Option<Instant>,
    /// Bytes the frame of its answer may have.
    pub room: usize,
    /// What the child is told.
    pub envelope: Value,
    /// The arguments, relayed unread.
    pub body: Vec<u8>,
    /// Position of its start record.
    pub first: u64,
    /// What was refused to it.
    pub denials: Vec<Value>,
    /// How often something was refused to it.
    pub denials_total: u64,
}

impl Call {
    /// Remember a denial.
    pub fn denied(&mut self, denial: &Value) {
        self.denials_total += 1;
        if self.denials.len() < MAX_DENIALS {
            self.denials.push(denial.clone());
        }
    }
}

/// Why a child is being killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its call outlived its time.
    Timeout,
    /// Nobody waits for its answer any more.
    Cancelled,
    /// Its answer was longer than allowed.
    Limit,
    /// What it sent was not an answer.
    Protocol,
    /// Its connection ended, and its process has not been heard of.
    Died,
}

impl Why {
    /// The word for it on the log and the wire.
    pub fn word(self) -> &'static str {
        match self {
            Why::Timeout => "timeout",
            Why::Cancelled => "cancelled",
            Why::Limit => "limit",
            Why::Protocol => "protocol",
            Why::Died => "died",
        }
    }
}

/// What a child is doing.
pub enum State {
    /// Asked for; it has not announced itself.
    Forking,
    /// Waiting for a call.
    Idle,
    /// Serving this call.
    Busy(Box<Call>),
    /// Its call is settled; it should be leaving. Until when, and whether it has been told so by a signal.
    Leaving(Instant, bool),
    /// Being killed because of its call; the answer waits until it is gone.
    Killing(Box<Call>, Why, Instant),
    /// Its connection ended without an answer; waiting to hear how it died.
    Lost(Box<Call>, Instant),
}

/// One child.
pub struct Slot {
    /// Its number, never used twice.
    pub id: u32,
    /// The connection to it; gone once its call is settled.
    pub peer: Option<Peer>,
    /// Its pid inside the sandbox, 0 until it has announced itself.
    pub pid: i32,
    /// Which set of imported modules it was forked with.
    pub generation: u32,
    /// What it is doing.
    pub state: State,
}

impl Slot {
    /// A child to be, and the socket for it.
    pub fn new(id: u32, generation: u32) -> Result<(Slot, OwnedFd), Fault> {
        let (ours, theirs) = UnixStream::pair()?;
        let peer = Peer::new(ours.into(), false)?;
        Ok((
            Slot {
                id,
                peer: Some(peer),
                pid: 0,
                generation,
                state: State::Forking,
            },
            theirs.into(),
        ))
    }

    /// The call it serves, or served when it was lost or killed.
    pub fn call(&mut self) -> Option<&mut Call> {
        match &mut self.state {
            State::Busy(call) | State::Killing(call, _, _) | State::Lost(call, _) => Some(call),
            State::Forking | State::Idle | State::Leaving(_, _) => None,
        }
    }

    /// Take the call out and leave the child to go: the end of its connection tells it, and its own end tells us.
    pub fn settle(&mut self, now: Instant) -> Option<Box<Call>> {
        if let Some(peer) = &self.peer {
            peer.hang_up();
        }
        match std::mem::replace(&mut self.state, State::Leaving(now + GRACE, false)) {
            State::Busy(call) | State::Killing(call, _, _) | State::Lost(call, _) => Some(call),
            State::Forking | State::Idle | State::Leaving(_, _) => None,
        }
    }

    /// When something has to happen to it at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Busy(call) => call.deadline,
            State::Leaving(at, _) | State::Killing(_, _, at) | State::Lost(_, at) => Some(*at),
            State::Forking | State::Idle => None,
        }
    }
}
