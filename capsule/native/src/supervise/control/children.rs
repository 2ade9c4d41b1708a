//! The worker's children: made ahead of the calls, given one call each, killed when they must be.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::epoll::Source;
use super::peer::{Fault, Frame};
use super::slot::{GRACE, Slot, State, Why};
use super::wire::FromChild;
use super::{Control, Ledger, MAX_WORD};

/// Calls running at once; more wait their turn.
const MAX_CALLS: usize = 64;
/// Children kept waiting for the next call.
const SPARES: usize = 2;
/// How long a child that has left may wait to be collected, with what it left running.
const COLLECT: Duration = Duration::from_millis(20);

impl Control {
    /// Give waiting calls to waiting children, and see that there are enough of these.
    pub(super) fn dispatch(&mut self) -> Result<(), String> {
        while !self.queue.is_empty() {
            let waiting = |slot: &&mut Slot| {
                matches!(slot.state, State::Idle) && slot.generation == self.generation
            };
            let Some(slot) = self.slots.values_mut().find(waiting) else {
                break;
            };
            let (id, Some(peer)) = (slot.id, slot.peer.as_mut()) else {
                break;
            };
            let Some(mut call) = self.queue.pop_front() else {
                break;
            };
            let body = std::mem::take(&mut call.body);
            if peer.send(&call.envelope, &body, None).is_err() {
                // The child has died while it waited: the call goes to another.
                call.body = body;
                self.queue.push_front(call);
                slot.settle(Instant::now());
                continue;
            }
            self.epoll.rearm(peer, Source::Slot(id));
            slot.state = State::Busy(call);
        }
        self.refill()
    }

    /// Ask for children: one for each call that waits, and some spare ones once nothing does.
    fn refill(&mut self) -> Result<(), String> {
        if self.hold || (!self.warm && self.queue.is_empty()) {
            return Ok(());
        }
        let (mut coming, mut busy) = (0, 0);
        for slot in self.slots.values() {
            match slot.state {
                State::Forking | State::Idle if slot.generation == self.generation => coming += 1,
                State::Busy(_) | State::Killing(..) | State::Lost(..) => busy += 1,
                _ => {}
            }
        }
        // A spare is forked while no call runs, so that the two do not compete for the processor.
        let spares = if busy == 0 || coming == 0 { SPARES } else { 0 };
        let wanted = self
            .queue
            .len()
            .max(spares)
            .min(MAX_CALLS.saturating_sub(busy));
        for _ in coming..wanted {
            let (slot, theirs) =
                Slot::new(self.next_slot, self.generation).map_err(|fault| fault.to_string())?;
            self.next_slot = self.next_slot.checked_add(1).ok_or("out of slot numbers")?;
            if let Some(peer) = &slot.peer {
                self.epoll
                    .add(peer.fd(), Source::Slot(slot.id))
                    .map_err(|error| error.to_string())?;
            }
            let id = slot.id;
            self.slots.insert(id, slot);
            self.tell_worker(&json!({"kind": "fork", "slot": id}), &[], Some(theirs))?;
        }
        if coming < wanted {
            self.collected()?;
        }
        Ok(())
    }

    /// Children without the latest module leave; those that serve a call finish it first.
    pub(super) fn retire(&mut self) {
        for slot in self.slots.values_mut() {
            if matches!(slot.state, State::Idle) {
                slot.settle(Instant::now());
            }
        }
    }

    pub(super) fn hear_slot(&mut self, id: u32, ledger: &mut dyn Ledger) -> Result<(), String> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(());
        };
        let Some(peer) = slot.peer.as_mut() else {
            return Ok(());
        };
        if matches!(slot.state, State::Leaving(..)) {
            // Nothing more is due from it but its end.
            return match peer.next(0) {
                Ok(None) if !peer.ended() => Ok(()),
                Ok(None) => self.reap(id),
                Ok(Some(_)) | Err(_) => self.kill(id, Why::Protocol),
            };
        }
        let limit = match &slot.state {
            State::Busy(call) => call.room,
            _ => MAX_WORD,
        };
        let taken = peer.flush().and_then(|()| peer.next(limit));
        let (ended, surplus) = (peer.ended(), peer.has_surplus());
        self.epoll.rearm(peer, Source::Slot(id));
        match (taken, &slot.state) {
            (Ok(None), _) if !ended => Ok(()),
            (Ok(Some(frame)), State::Forking) => match frame.envelope() {
                Ok(FromChild::Ready { pid }) if !surplus => {
                    slot.pid = pid;
                    slot.state = State::Idle;
                    if slot.generation != self.generation {
                        slot.settle(Instant::now());
                    }
                    self.dispatch()
                }
                _ => self.kill(id, Why::Protocol),
            },
            (Ok(Some(frame)), State::Busy(_)) => match frame.envelope() {
                Ok(FromChild::Answer { outcome, error }) if !surplus => {
                    self.answered(id, outcome.word(), error.as_deref(), &frame, ledger)
                }
                _ => self.kill(id, Why::Protocol),
            },
            (Err(Fault::TooLong(_)), State::Busy(_)) => self.kill(id, Why::Limit),
            (Ok(None), State::Busy(_)) | (Err(Fault::Io(_)), State::Busy(_)) => {
                if let State::Busy(call) = std::mem::replace(&mut slot.state, State::Idle) {
                    slot.state = State::Lost(call, Instant::now() + GRACE);
                }
                self.reap(id)
            }
            (Err(_) | Ok(Some(_)), State::Busy(_) | State::Idle | State::Forking) => {
                self.kill(id, Why::Protocol)
            }
            _ => {
                slot.settle(Instant::now());
                self.reap(id)
            }
        }
    }

    /// Its connection has ended: the worker is to collect it. Where somebody waits to hear how it ended, now; else
    /// along with the next child that is asked for, or after [`COLLECT`], so that the worker is woken once for both.
    fn reap(&mut self, id: u32) -> Result<(), String> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(());
        };
        slot.peer = None;
        self.collect.push(id);
        if matches!(slot.state, State::Lost(..)) {
            return self.collected();
        }
        self.collect_at
            .get_or_insert_with(|| Instant::now() + COLLECT);
        Ok(())
    }

    /// Have the worker collect the children whose connections have ended.
    fn collected(&mut self) -> Result<(), String> {
        self.collect_at = None;
        for id in std::mem::take(&mut self.collect) {
            self.tell_worker(&json!({"kind": "reap", "slot": id}), &[], None)?;
        }
        Ok(())
    }

    fn answered(
        &mut self,
        id: u32,
        outcome: &str,
        error: Option<&str>,
        frame: &Frame,
        ledger: &mut dyn Ledger,
    ) -> Result<(), String> {
        let name = |c: char| c.is_ascii_alphanumeric() || "._".contains(c);
        let error = error.filter(|text| text.len() <= 200 && text.chars().all(name));
        self.settle(ledger);
        let call = self
            .slots
            .get_mut(&id)
            .and_then(|slot| slot.settle(Instant::now()));
        let Some(call) = call else { return Ok(()) };
        let mut more = json!({});
        if let Some(error) = error {
            more["error"] = json!(error);
        }
        self.answer(*call, outcome, more, frame.body(), ledger)
    }

    /// Have a child killed; its call is answered when it is gone.
    pub(super) fn kill(&mut self, id: u32, why: Why) -> Result<(), String> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Ok(());
        };
        slot.peer = None;
        let until = Instant::now() + GRACE;
        slot.state = match std::mem::replace(&mut slot.state, State::Idle) {
            State::Busy(call) | State::Lost(call, _) => State::Killing(call, why, until),
            killing @ State::Killing(..) => killing,
            State::Forking | State::Idle | State::Leaving(..) => State::Leaving(until, true),
        };
        self.tell_worker(&json!({"kind": "kill", "slot": id}), &[], None)
    }

    /// The worker says that a child has ended, or could not be made.
    pub(super) fn gone(
        &mut self,
        id: u32,
        status: Option<i32>,
        clean: bool,
        errno: Option<i32>,
        ledger: &mut dyn Ledger,
    ) -> Result<(), String> {
        // Its answer may lie unread beside the news of its end.
        self.hear_slot(id, ledger)?;
        self.settle(ledger);
        let Some(mut slot) = self.slots.remove(&id) else {
            return Ok(());
        };
        let killed = if let State::Killing(_, why, _) = &slot.state {
            Some(*why)
        } else {
            None
        };
        if let Some(call) = slot.settle(Instant::now()) {
            let word = killed.map_or("died", Why::word);
            self.answer(
                *call,
                word,
                json!({"status": status, "replaced": !clean}),
                &[],
                ledger,
            )?;
        }
        self.hold = errno.is_some();
        if let Some(errno) = errno {
            self.not_made(errno, ledger)?;
        }
        if !clean {
            return Err("processes that a finished call left behind could not be ended".into());
        }
        self.dispatch()
    }

    /// No child could be made: calls wait for running ones to end; where none runs, they are answered.
    fn not_made(&mut self, errno: i32, ledger: &mut dyn Ledger) -> Result<(), String> {
        if self
            .slots
            .values()
            .any(|slot| matches!(slot.state, State::Busy(_) | State::Idle | State::Forking))
        {
            return Ok(());
        }
        let reason = format!(
            "no process could be made for it: {}",
            std::io::Error::from_raw_os_error(errno)
        );
        while let Some(call) = self.queue.pop_front() {
            self.answer(*call, "refused", json!({"reason": reason}), &[], ledger)?;
        }
        Ok(())
    }

    /// Kill what has outlived its time.
    pub(super) fn expire(&mut self, ledger: &mut dyn Ledger) -> Result<(), String> {
        let now = Instant::now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.collect_at) {
            self.collected()?;
        }
        // The worker imports in its own process, without which there is no sandbox.
        if self.loading.values().any(|until| due(Some(*until))) {
            return Err("a module was not imported within the policy's wall_time".into());
        }
        let late: Vec<u32> = self
            .slots
            .values()
            .filter(|slot| due(slot.deadline()))
            .map(|slot| slot.id)
            .collect();
        for id in late {
            match self.slots.get(&id).map(|slot| &slot.state) {
                Some(State::Busy(_)) => self.kill(id, Why::Timeout)?,
                Some(State::Leaving(_, false)) => self.kill(id, Why::Protocol)?,
                Some(State::Lost(..)) => self.kill(id, Why::Died)?,
                Some(State::Leaving(_, true) | State::Killing(..)) => {
                    return Err("a call that was killed is not known to be gone".into());
                }
                _ => {}
            }
        }
        while let Some(at) = self.queue.iter().position(|call| due(call.deadline)) {
            if let Some(call) = self.queue.remove(at) {
                self.answer(
                    *call,
                    "timeout",
                    Value::Object(serde_json::Map::new()),
                    &[],
                    ledger,
                )?;
            }
        }
        Ok(())
    }
}
