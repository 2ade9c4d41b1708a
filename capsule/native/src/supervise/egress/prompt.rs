//! Asking the person at the terminal, one question at a time, while the command waits.
//!
//! The question goes to standard error, which is the terminal, and the next key is the answer: the command does not see
//! it. It refuses: to print anything raw that came from outside, and to take a key for an answer that was pressed before
//! the question was there.

use super::wire::Ask;
use crate::log_terminal::clean;
use serde_json::Value;
use std::collections::VecDeque;
use std::io::Write;

/// Questions that wait for their turn.
const MOST: usize = 64;

/// The questions.
#[derive(Debug, Default)]
pub struct Prompt {
    asks: VecDeque<Ask>,
}

/// What was answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// To which question.
    pub id: String,
    /// Yes or no.
    pub allow: bool,
    /// `once`, `path` or `host`.
    pub scope: &'static str,
}

impl Prompt {
    /// Whether a question is on the terminal.
    #[must_use]
    pub fn open(&self) -> bool {
        !self.asks.is_empty()
    }

    /// One more question. Those beyond the bound are answered elsewhere, or by the clock.
    pub fn ask(&mut self, ask: Ask) {
        if self.asks.len() < MOST {
            self.asks.push_back(ask);
            if self.asks.len() == 1 {
                self.show();
            }
        }
    }

    /// A question is answered elsewhere, or its time is over.
    pub fn over(&mut self, id: &str, outcome: &str) {
        let shown = self.asks.front().is_some_and(|ask| ask.id == id);
        self.asks.retain(|ask| ask.id != id);
        if shown {
            print(&format!("\r\ncapsule: {}\r\n", clean(outcome)));
            self.show();
        }
    }

    /// Read the keys that were pressed; the first answer among them.
    pub fn keys(&mut self) -> Option<Reply> {
        while self.open() && readable() {
            let mut key = 0u8;
            // SAFETY: room for one byte.
            let got = unsafe { libc::read(0, (&raw mut key).cast(), 1) };
            if got != 1 {
                return None;
            }
            if let Some(reply) = self.key(key) {
                print(if reply.allow { "yes\r\n" } else { "no\r\n" });
                self.show();
                return Some(reply);
            }
        }
        None
    }

    fn key(&mut self, key: u8) -> Option<Reply> {
        const ESCAPE: u8 = 0x1b;
        const INTERRUPT: u8 = 0x03;
        let (allow, scope) = match key {
            b'o' | b'y' => (true, "once"),
            b'p' => (true, "path"),
            b'h' => (true, "host"),
            b'n' | b'\r' | b'\n' | ESCAPE | INTERRUPT => (false, "once"),
            _ => return None,
        };
        let id = self.asks.pop_front()?.id;
        Some(Reply { id, allow, scope })
    }

    fn show(&self) {
        if let Some(ask) = self.asks.front() {
            // What was typed before belongs to the command, or to nobody.
            // SAFETY: plain integers.
            unsafe { libc::tcflush(0, libc::TCIFLUSH) };
            print(&question(ask));
        }
    }
}

/// The question in two lines.
fn question(ask: &Ask) -> String {
    let word = |value: &Value, name: &str| match value.get(name) {
        Some(Value::String(text)) => clean(text),
        _ => String::new(),
    };
    let program = match &ask.program {
        Value::String(text) => clean(text),
        other => word(other, "path"),
    };
    let event = &ask.event;
    let http = event.get("http").unwrap_or(event);
    let what = [word(http, "method"), word(http, "url")];
    let what = match what.join(" ").trim() {
        "" => first_of(event, &["host", "name", "address"]),
        said => said.to_owned(),
    };
    let reason = word(&ask.rule, "reason");
    let why = match reason.as_str() {
        "" => word(&ask.rule, "id"),
        _ => reason,
    };
    format!(
        "\r\ncapsule: {program} asks for {what}{}\r\n  [o]nce, this [p]ath, this [h]ost, [N]o? ",
        if why.is_empty() {
            String::new()
        } else {
            format!(" ({why})")
        }
    )
}

fn first_of(event: &Value, names: &[&str]) -> String {
    let within = |value: &Value| {
        names
            .iter()
            .find_map(|name| value.get(name).and_then(Value::as_str).map(clean))
    };
    let nested = event.as_object().into_iter().flat_map(|map| map.values());
    within(event)
        .or_else(|| nested.filter_map(within).next())
        .unwrap_or_else(|| "something that is not listed".to_owned())
}

/// Whether a key waits on standard input.
fn readable() -> bool {
    let mut poll = libc::pollfd {
        fd: 0,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid structure, and its number.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 && poll.revents & libc::POLLIN != 0 }
}

fn print(text: &str) {
    // A terminal that is gone gives no answer either; the question ends by the clock.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ask(id: &str, event: Value) -> Ask {
        Ask {
            id: id.into(),
            run: "r-1".into(),
            at: Value::Null,
            expires: Value::Null,
            event,
            rule: json!({"id": "publish", "reason": "uploads are asked about"}),
            program: json!("/usr/bin/curl"),
            argv: json!(["curl"]),
            command: Value::Null,
            asked_before: json!([]),
        }
    }

    #[test]
    fn a_question_names_the_program_and_what_it_wants_and_is_clean() {
        let event = json!({"http": {"method": "PUT", "url": "https://a.example/\u{1b}[2Jx"}});
        let text = question(&ask("1", event));
        assert!(text.contains("/usr/bin/curl asks for PUT https://a.example/"));
        assert!(text.contains("(uploads are asked about)"));
        assert!(!text.contains('\u{1b}'));
        let text = question(&ask("1", json!({"dns": {"name": "b.example"}})));
        assert!(text.contains("asks for b.example"));
        let text = question(&ask("1", Value::Null));
        assert!(text.contains("something that is not listed"));
    }

    #[test]
    fn one_key_is_the_answer_to_the_first_question() {
        let mut prompt = Prompt {
            asks: [ask("1", Value::Null), ask("2", Value::Null)].into(),
        };
        assert_eq!(prompt.key(b'x'), None);
        assert_eq!(
            prompt.key(b'h'),
            Some(Reply {
                id: "1".into(),
                allow: true,
                scope: "host"
            })
        );
        let no = prompt.key(b'\r').unwrap();
        assert_eq!((no.id.as_str(), no.allow), ("2", false));
        assert!(!prompt.open() && prompt.key(b'y').is_none());
    }

    #[test]
    fn what_is_over_is_asked_no_more() {
        let mut prompt = Prompt {
            asks: [ask("1", Value::Null), ask("2", Value::Null)].into(),
        };
        prompt.over("2", "timeout");
        prompt.over("3", "timeout");
        assert_eq!(prompt.asks.len(), 1);
        assert_eq!(prompt.key(b'o').unwrap().id, "1");
    }
}
