//! A call from its arrival on a lane to its answer: recorded, queued, given to a child, settled, recorded.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::peer::{Fault, Frame};
use super::slot::{Call, State, Why};
use super::wire::FromLane;
use super::{Control, Lane, Ledger, MAX_REQUEST, MAX_WORD};

/// Bytes of an answer, whatever a call asks for.
pub(super) const MAX_ANSWER: usize = 64 << 20;
/// Bytes of arguments that go on the log.
const MAX_RECORDED: usize = 2048;
/// The longest time a call may ask for: a day.
const MAX_TIME: u64 = 24 * 3600 * 1000;

impl Control {
    pub(super) fn hear_lane(&mut self, id: u64, ledger: &mut dyn Ledger) -> Result<(), String> {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return Ok(());
        };
        let free = matches!(lane, Lane::Free(_));
        let peer = lane.peer();
        let taken = peer.flush().and_then(|()| peer.next(MAX_REQUEST));
        let ended = peer.ended();
        self.epoll.rearm(peer, super::Source::Lane(id));
        match taken {
            Ok(Some(frame)) if free => match frame.envelope() {
                Ok(request) => self.begin(id, request, &frame, ledger),
                Err(fault) => self.drop_lane(id, &fault, ledger),
            },
            Ok(Some(_)) => self.drop_lane(
                id,
                &Fault::Malformed("a lane carries one call at a time".into()),
                ledger,
            ),
            Ok(None) if ended => self.close_lane(id, ledger),
            Ok(None) => Ok(()),
            Err(fault) => self.drop_lane(id, &fault, ledger),
        }
    }

    /// The program broke the protocol on this lane: say so, as far as it still listens, and close it.
    fn drop_lane(&mut self, id: u64, fault: &Fault, ledger: &mut dyn Ledger) -> Result<(), String> {
        self.tell_lane(
            id,
            &json!({"kind": "ended", "reason": fault.to_string()}),
            &[],
        );
        self.close_lane(id, ledger)
    }

    /// Nobody listens on this lane any more: its call is cancelled.
    fn close_lane(&mut self, id: u64, ledger: &mut dyn Ledger) -> Result<(), String> {
        self.lanes.remove(&id);
        while let Some(at) = self.queue.iter().position(|call| call.lane == Some(id)) {
            if let Some(call) = self.queue.remove(at) {
                self.answer(*call, "cancelled", json!({}), &[], ledger)?;
            }
        }
        let of_lane = |state: &State| matches!(state, State::Busy(call) if call.lane == Some(id));
        let found: Vec<u32> = self
            .slots
            .values()
            .filter(|slot| of_lane(&slot.state))
            .map(|slot| slot.id)
            .collect();
        found
            .into_iter()
            .try_for_each(|slot| self.kill(slot, Why::Cancelled))
    }

    fn begin(
        &mut self,
        lane: u64,
        request: FromLane,
        frame: &Frame,
        ledger: &mut dyn Ledger,
    ) -> Result<(), String> {
        if !self.started {
            return self.drop_lane(
                lane,
                &Fault::Malformed("the worker has not started".into()),
                ledger,
            );
        }
        let (envelope, timeout, limit, tool, function) = match request {
            FromLane::Load => {
                self.become_state(lane, Lane::Loading);
                if let Some(until) = deadline(Instant::now(), self.longest) {
                    self.loading.insert(lane, until);
                }
                return self.tell_worker(
                    &json!({"kind": "load", "load": lane}),
                    frame.body(),
                    None,
                );
            }
            FromLane::Call {
                tool,
                module,
                qualname,
                awaits,
                timeout_ms,
                limit,
            } => {
                let function = format!("{module}:{qualname}");
                let envelope = json!({"kind": "call", "module": module, "qualname": qualname, "awaits": awaits,
                                      "limit": limit.min(MAX_ANSWER)});
                (envelope, timeout_ms, limit, tool, Some(function))
            }
            FromLane::Run { timeout_ms, limit } => (
                json!({"kind": "run", "limit": limit.min(MAX_ANSWER)}),
                timeout_ms,
                limit,
                "run".to_owned(),
                None,
            ),
        };
        let timeout = [timeout, self.longest].into_iter().flatten().min();
        // A description of an exception may need more than a tiny result; a program's output grows in base64.
        let room = limit.min(MAX_ANSWER) * if function.is_some() { 1 } else { 2 } + MAX_WORD;
        let since = Instant::now();
        self.hold = false;
        self.calls += 1;
        let body = frame.body();
        let first = ledger.append(
            "call.started",
            vec![
                ("call", json!(self.calls)),
                ("tool", json!(tool)),
                ("function", json!(function)),
                ("arguments", json!(recorded(body))),
                ("arguments_bytes", json!(body.len())),
                ("arguments_commitment", json!(ledger.commitment(body))),
                ("timeout_ms", json!(timeout)),
            ],
        )?;
        self.become_state(lane, Lane::Calling);
        self.queue.push_back(Box::new(Call {
            number: self.calls,
            lane: Some(lane),
            since,
            time: timeout,
            deadline: deadline(since, timeout),
            room,
            envelope,
            body: body.to_vec(),
            first,
            denials: Vec::new(),
            denials_total: 0,
        }));
        self.dispatch()
    }

    fn become_state(&mut self, id: u64, make: fn(super::Peer) -> Lane) {
        if let Some(Lane::Free(peer) | Lane::Loading(peer) | Lane::Calling(peer)) =
            self.lanes.remove(&id)
        {
            self.lanes.insert(id, make(peer));
        }
    }

    /// Record the end of a call and tell whoever asked. `more` goes into the envelope.
    pub(super) fn answer(
        &mut self,
        call: Call,
        outcome: &str,
        more: Value,
        body: &[u8],
        ledger: &mut dyn Ledger,
    ) -> Result<(), String> {
        let elapsed = u64::try_from(call.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut fields = vec![
            ("call", json!(call.number)),
            ("outcome", json!(outcome)),
            ("us", json!(elapsed)),
            ("denials", json!(call.denials_total)),
            ("answer_bytes", json!(body.len())),
        ];
        for key in ["error", "status", "reason"] {
            if let Some(value) = more.get(key) {
                fields.push((key, value.clone()));
            }
        }
        let last = ledger.append("call.ended", fields)?;
        let mut envelope = json!({"kind": "result", "call": call.number, "outcome": outcome, "us": elapsed,
            "log": [call.first, last], "denials": call.denials, "denials_total": call.denials_total});
        if outcome == Why::Timeout.word() {
            envelope["timeout_ms"] = json!(call.time);
        }
        if let (Some(envelope), Value::Object(more)) = (envelope.as_object_mut(), more) {
            envelope.extend(more);
        }
        if let Some(lane) = call.lane {
            self.become_state(lane, Lane::Free);
            self.tell_lane(lane, &envelope, body);
        }
        Ok(())
    }
}

/// When that many milliseconds are over.
fn deadline(since: Instant, time: Option<u64>) -> Option<Instant> {
    time.map(|ms| since + Duration::from_millis(ms.min(MAX_TIME)))
}

/// The beginning of the arguments as text, for the log's own redaction.
fn recorded(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_RECORDED)]);
    if body.len() > MAX_RECORDED {
        format!("{text}…")
    } else {
        text.into_owned()
    }
}
