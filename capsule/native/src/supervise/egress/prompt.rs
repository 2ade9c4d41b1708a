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
use std::time::{SystemTime, UNIX_EPOCH};

/// Questions that wait for their turn.
const MOST: usize = 64;
/// Characters of one thing that somebody else said.
const LONGEST: usize = 300;
/// What was asked before, the last of it.
const MOST_BEFORE: usize = 5;

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
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            print(&question(ask, now.map_or(0, |now| now.as_millis())));
        }
    }
}

/// The question as `capsule asks` shows it, and what each key means.
fn question(ask: &Ask, now_ms: u128) -> String {
    let word = |value: &Value, name: &str| match value.get(name) {
        Some(Value::String(text)) => short(&clean(text)),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    };
    let program = match &ask.program {
        Value::String(text) => short(&clean(text)),
        other => word(other, "path"),
    };
    let program = if program.is_empty() {
        "a program".to_owned()
    } else {
        program
    };
    let event = &ask.event;
    let http = event.get("http").unwrap_or(event);
    let what = [word(http, "method"), word(http, "url")];
    let what = match what.join(" ").trim() {
        "" => first_of(event, &["host", "name", "address"]),
        said => said.to_owned(),
    };
    let left = ask.expires.as_u64().map_or_else(String::new, |expires| {
        let left = u128::from(expires).saturating_sub(now_ms) / 1000;
        format!("  ({left} s left, then it is denied)")
    });
    let mut lines = vec![format!("capsule: {program} asks for {what}{left}")];
    if let Some(words) = ask.argv.as_array().filter(|words| !words.is_empty()) {
        let words = words.iter().filter_map(Value::as_str).map(typed);
        let words = short(&words.collect::<Vec<_>>().join(" "));
        lines.push(format!("  by {words}"));
    }
    let reason = word(&ask.rule, "reason");
    match word(&ask.rule, "id").as_str() {
        "" => lines.push("  no host entry lists it (network: unlisted: ask)".to_owned()),
        id => {
            let place = format!("{}:{}", word(&ask.rule, "file"), word(&ask.rule, "line"));
            let why = if reason.is_empty() {
                reason
            } else {
                format!(": {reason}")
            };
            lines.push(format!("  rule {id} ({place}){why}"));
        }
    }
    let before = ask.asked_before.as_array().into_iter().flatten();
    for past in before
        .rev()
        .take(MOST_BEFORE)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        let (what, outcome) = (word(past, "what"), word(past, "outcome"));
        lines.push(format!("  before: {what}: {outcome}"));
    }
    lines.push("  y, o: this once; p: this method and path until the run ends; h: this host until the run ends".to_owned());
    format!(
        "\r\n{}\r\n  [o]nce, [p]ath, [h]ost, [N]o? ",
        lines.join("\r\n")
    )
}

/// A word of a command as it would be typed.
fn typed(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "%+,-./:=@_".contains(c);
    let word = clean(word);
    if !word.is_empty() && word.chars().all(plain) {
        word
    } else {
        format!("'{}'", word.replace('\'', "'\"'\"'"))
    }
}

fn short(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(LONGEST - 1).collect();
    cut.push('…');
    cut
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
            expires: json!(130_500),
            event,
            rule: json!({"id": "publish", "file": "/w/rules.yaml", "line": 7, "reason": "uploads are asked about"}),
            program: json!("/usr/bin/curl"),
            argv: json!(["curl", "-T", "a b", "it\u{1b}[2J"]),
            command: Value::Null,
            asked_before: json!([{"at": 1, "what": "PUT https://a.example/1", "outcome": "deny"}]),
        }
    }

    #[test]
    fn a_question_names_the_program_and_what_it_wants_and_is_clean() {
        let event = json!({"http": {"method": "PUT", "url": "https://a.example/\u{1b}[2Jx"}});
        let text = question(&ask("1", event), 100_000);
        assert!(text.contains("/usr/bin/curl asks for PUT https://a.example/"));
        assert!(text.contains("(30 s left, then it is denied)"));
        assert!(text.contains("by curl -T 'a b' 'it\\u{1b}[2J'"), "{text}");
        assert!(text.contains("rule publish (/w/rules.yaml:7): uploads are asked about"));
        assert!(text.contains("before: PUT https://a.example/1: deny"));
        assert!(text.contains("y, o: this once"));
        assert!(!text.contains('\u{1b}'));
        let text = question(&ask("1", json!({"dns": {"name": "b.example"}})), 200_000);
        assert!(text.contains("asks for b.example  (0 s left"));
        let unlisted = Ask {
            rule: Value::Null,
            program: Value::Null,
            ..ask("1", Value::Null)
        };
        let text = question(&unlisted, 0);
        assert!(text.contains("a program asks for something that is not listed"));
        assert!(text.contains("no host entry lists it"));
    }

    #[test]
    fn what_a_program_says_is_cut() {
        let event = json!({"http": {"method": "GET", "url": "x".repeat(5000)}});
        assert!(question(&ask("1", event), 0).len() < 2000);
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
