//! One entry of the log in one line: what happened, in the words of the person who will read it.
//!
//! Says the part that matters of each kind and leaves the rest to `--full` and `--json`. It refuses to print anything
//! recorded raw: every value passes through [`clean`]. A kind that is not known is shown with its fields.
//!
//! `21 2026-11-25 19:00:11 r-f0863dba denied      curl connect tcp:10.0.0.1:22 · network EACCES`

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::log_terminal::{Style, clean};

type Fields = Map<String, Value>;

/// The line of one entry, at most `width` columns (0: as long as it is). `line` is its JSON.
pub fn entry(line: &[u8], style: Style, width: usize) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(line) else {
        return format!("{}\n", cut(&clean(&String::from_utf8_lossy(line)), width));
    };
    let kind = word(&fields, "type");
    let seq = word(&fields, "seq");
    let time = word(&fields, "time")
        .get(..19)
        .unwrap_or("")
        .replace('T', " ");
    let run: String = word(&fields, "run").chars().take(10).collect();
    let (said, aside) = told(&kind, &fields);
    let head = format!("{seq:>6} {time} {run:<10} ");
    let name = format!("{kind:<13}");
    let mut text = said;
    if !aside.is_empty() {
        text = format!("{text} · {aside}");
    }
    let room = width.saturating_sub(head.chars().count() + name.chars().count() + 1);
    let shown = if width == 0 { text } else { cut(&text, room) };
    // The aside is the dim part; when the line was cut within it, what is left of it is.
    let dim_from = shown.find(" · ").unwrap_or(shown.len());
    let (bright, dim) = shown.split_at(dim_from);
    let bright = if kind == "denied" && fields.get("probe") != Some(&Value::Bool(true)) {
        style.bold(bright)
    } else {
        bright.to_owned()
    };
    format!(
        "{}{} {bright}{}\n",
        style.dim(&head),
        style.of_kind(&kind, &name),
        style.dim(dim)
    )
}

/// What happened, and what is good to know beside it.
fn told(kind: &str, fields: &Fields) -> (String, String) {
    let field = |name: &str| word(fields, name);
    let program = || last_segment(&field("program"));
    match kind {
        "log.created" => (format!("log {}", field("log")), String::new()),
        "run.started" => {
            let (policy, enforced) = (inner(fields, "policy"), inner(fields, "enforced"));
            let tier = word(&enforced, "tier");
            let mut aside = format!("policy {}, tier {tier}", word(&policy, "name"));
            if let Some(Value::Array(given_up)) = enforced.get("degraded")
                && !given_up.is_empty()
            {
                let _ = write!(aside, " without {}", words(given_up));
            }
            (field("command"), aside)
        }
        "run.ended" => {
            let (exit, usage) = (inner(fields, "exit"), inner(fields, "usage"));
            let code = word(&exit, "code");
            let how = match word(&exit, "cause").as_str() {
                "exited" => format!("exit {code}"),
                "signalled" => format!("killed by signal {}", word(&exit, "signal")),
                cause => format!("{cause}: {} (exit {code})", word(&exit, "reason")),
            };
            let mut aside = format!("{} ms", word(&usage, "wall_ms"));
            for (name, what) in [("denials", "denied"), ("written", "written")] {
                if field(name) != "0" {
                    let _ = write!(aside, ", {} {what}", field(name));
                }
            }
            (how, aside)
        }
        "exec" => match fields.get("argv") {
            Some(Value::Array(argv)) if !argv.is_empty() => (words(argv), field("program")),
            _ => (field("program"), String::new()),
        },
        "read" | "write" => {
            let mut said = format!("{} {} {}", program(), field("operation"), field("target"));
            if !field("from").is_empty() {
                let _ = write!(said, " from {}", field("from"));
            }
            (said, String::new())
        }
        "connect" => (format!("{} {}", program(), field("target")), field("errno")),
        "denied" => {
            let mut said = format!("{} {} {}", program(), field("operation"), field("target"));
            if !matches!(field("count").as_str(), "" | "1") {
                let _ = write!(said, " ×{}", field("count"));
            }
            let rule = inner(fields, "rule");
            let aside = if rule.is_empty() {
                format!("{} {}", field("layer"), field("errno"))
            } else {
                let place = format!("{}:{}", word(&rule, "file"), word(&rule, "line"));
                format!("{} at {place}", word(&rule, "text"))
            };
            (said, aside)
        }
        "limit" => (field("limit"), String::new()),
        "call.started" => (
            format!("{} {}", field("tool"), field("arguments")),
            format!("call {}", field("call")),
        ),
        "call.ended" => {
            let mut aside = format!("{} µs", field("us"));
            if field("denials") != "0" {
                let _ = write!(aside, ", {} denied", field("denials"));
            }
            let error = field("error");
            let said = format!("call {}: {} {error}", field("call"), field("outcome"));
            (said.trim_end().to_owned(), aside)
        }
        "gap" | "recovery" | "clock" => (rest(fields), String::new()),
        _ if kind.starts_with("egress.") => crossed(kind, fields),
        _ => (rest(fields), String::new()),
    }
}

/// What crossed the network, or wanted to.
fn crossed(kind: &str, fields: &Fields) -> (String, String) {
    let decision = inner(fields, "decision");
    let (action, by) = (word(&decision, "action"), word(&decision, "by"));
    let rule = inner(&decision, "rule");
    let mut aside = if action.is_empty() {
        String::new()
    } else {
        format!("{action} by {by} {}", word(&rule, "id"))
            .trim_end()
            .to_owned()
    };
    if action == "block" && !word(&decision, "reason").is_empty() {
        let _ = write!(aside, ": {}", word(&decision, "reason"));
    }
    let name = kind.trim_start_matches("egress.");
    let event = inner(fields, name);
    let has = |key: &str| word(&event, key);
    let said = match name {
        "http" => format!("{} {} {}", has("method"), has("url"), has("status")),
        "dns" => asked(fields, &event),
        "websocket" => spoken(&event),
        "tcp" => format!("{}:{} {}", has("host"), has("port"), has("error")),
        "model" => format!(
            "{} {} {} in, {} out",
            has("provider"),
            has("name"),
            has("input_tokens"),
            has("output_tokens")
        ),
        "finding" => return found(fields),
        _ => rest(fields),
    };
    (said.trim_end().to_owned(), aside)
}

/// A question for a name: who asked, and what came of it.
fn asked(fields: &Fields, event: &Fields) -> String {
    let has = |key: &str| word(event, key);
    let by = word(&inner(fields, "program"), "name");
    let by = if by.is_empty() { by } else { format!("{by} ") };
    let answer = Some(has("answer")).filter(|answer| !answer.is_empty());
    let answer = answer.unwrap_or_else(|| has("rcode"));
    let more = match has("count").as_str() {
        "" => String::new(),
        count => format!(", and {count} more"),
    };
    format!("{by}{} {} → {answer}{more}", has("name"), has("qtype"))
}

/// The frames of a WebSocket, when it is over.
fn spoken(event: &Fields) -> String {
    let has = |key: &str| word(event, key);
    let way = |messages: &str, bytes: &str| {
        let (messages, bytes) = (has(messages), has(bytes));
        format!("{messages} messages ({bytes} bytes)")
    };
    let (out, back) = (
        way("messages_out", "bytes_out"),
        way("messages_in", "bytes_in"),
    );
    let mut said = format!("{}: {out} out, {back} in", has("host"));
    let closer = has("closed_by");
    if !closer.is_empty() {
        let _ = write!(said, ", closed by {closer} {}", has("close_code"));
    }
    let error = has("error");
    if !error.is_empty() {
        let _ = write!(said, ", {error}");
    }
    said
}

/// What detection found.
fn found(fields: &Fields) -> (String, String) {
    let rule = inner(fields, "rule");
    let title = Some(word(&rule, "title")).filter(|title| !title.is_empty());
    let title = title.unwrap_or_else(|| word(&rule, "id"));
    let times = match word(fields, "times").as_str() {
        "" | "1" => String::new(),
        times => format!(" ×{times}"),
    };
    let said = format!("{}: {title}{times}", word(&rule, "level"));
    let place = format!("{}:{}", word(&rule, "file"), word(&rule, "line"));
    (said, place)
}

fn inner(fields: &Fields, name: &str) -> Fields {
    match fields.get(name) {
        Some(Value::Object(found)) => found.clone(),
        _ => Fields::new(),
    }
}

/// A field as text; nothing for null and for what is not there.
fn word(fields: &Fields, name: &str) -> String {
    match fields.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => clean(text),
        Some(Value::Array(items)) => words(items),
        Some(other) => clean(&other.to_string()),
    }
}

/// Words as a shell would take them.
fn words(items: &[Value]) -> String {
    let quoted = items.iter().map(|item| match item {
        Value::String(text) if text.is_empty() || text.contains([' ', '"', '\'']) => {
            format!("'{}'", clean(text).replace('\'', "'\\''"))
        }
        Value::String(text) => clean(text),
        other => clean(&other.to_string()),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Every field that is no part of each entry, as `name=value`.
fn rest(fields: &Fields) -> String {
    let own = |name: &str| !["seq", "time", "mono", "run", "type"].contains(&name);
    let pairs = fields
        .iter()
        .filter(|(name, value)| own(name) && !value.is_null())
        .map(|(name, _)| format!("{}={}", clean(name), word(fields, name)));
    pairs.collect::<Vec<_>>().join(" ")
}

fn last_segment(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

/// At most `width` characters, the last one telling that there was more.
fn cut(text: &str, width: usize) -> String {
    if width == 0 || text.chars().count() <= width {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain("…".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::line::disguises;

    fn shown(fields: &str, width: usize) -> String {
        let line = format!(
            r#"{{"seq":7,"time":"2026-11-22T12:00:01.5Z","mono":5,"run":"r-0123456789ab",{fields}}}"#
        );
        entry(line.as_bytes(), Style::plain(), width)
    }

    #[test]
    fn recorded_data_cannot_reach_the_terminal_raw() {
        let evil = r#""\u001b]0;x\u0007a\u202eb\u009b2J\n""#;
        for fields in [
            format!(
                r#""type":"denied","program":{evil},"operation":{evil},"target":{evil},"rule":{{"text":{evil},"file":{evil},"line":1}}"#
            ),
            format!(r#""type":"exec","program":{evil},"argv":[{evil},{evil}]"#),
            format!(r#""type":"run.started","command":[{evil}],"policy":{{"name":{evil}}}"#),
            format!(
                r#""type":"egress.http","http":{{"url":{evil}}},"decision":{{"action":"block","reason":{evil}}}"#
            ),
            format!(r#""type":{evil},"x":[{evil}],"y":{{"z":{evil}}}"#),
        ] {
            for width in [0, 80] {
                let text = shown(&fields, width);
                let line = text.strip_suffix('\n').unwrap();
                assert!(
                    line.chars().all(|c| !c.is_control() && !disguises(c)),
                    "{text:?}"
                );
            }
        }
    }

    #[test]
    fn a_line_fits_the_terminal_and_says_that_it_was_cut() {
        let fields = r#""type":"exec","program":"/usr/bin/x","argv":["x","aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]"#;
        let text = shown(fields, 80);
        assert_eq!(text.trim_end().chars().count(), 80);
        assert!(text.ends_with("…\n"));
        assert!(shown(fields, 0).ends_with("· /usr/bin/x\n"));
    }

    #[test]
    fn what_matters_of_each_kind() {
        let ended = r#""type":"run.ended","exit":{"cause":"timeout","code":124,"reason":"time was up"},"usage":{"wall_ms":9},"denials":2,"written":0"#;
        assert!(shown(ended, 0).ends_with("timeout: time was up (exit 124) · 9 ms, 2 denied\n"));
        let denied = r#""type":"denied","program":"/bin/cat","operation":"read","target":"/w/.env","layer":"supervisor","errno":"EACCES","count":3,"rule":{"text":"deny: [\".env\"]","file":"capsule.yaml","line":4}"#;
        assert!(
            shown(denied, 0)
                .ends_with("cat read /w/.env ×3 · deny: [\".env\"] at capsule.yaml:4\n")
        );
        let asked = r#""type":"egress.dns","program":{"name":"curl","pid":5},"dns":{"name":"a.example","qtype":"A","answer":"198.18.0.2","rcode":"NOERROR","count":3},"decision":{"action":"allow","by":"grant"}"#;
        assert!(
            shown(asked, 0)
                .ends_with("curl a.example A → 198.18.0.2, and 3 more · allow by grant\n"),
            "{}",
            shown(asked, 0)
        );
        let refused = r#""type":"egress.dns","dns":{"name":"b.example","qtype":"A","rcode":"NXDOMAIN"},"decision":{"action":"block","by":"default","reason":"no host entry lists b.example"}"#;
        assert!(shown(refused, 0).ends_with(
            "b.example A → NXDOMAIN · block by default: no host entry lists b.example\n"
        ));
        let socket = r#""type":"egress.websocket","websocket":{"host":"a.example","messages_out":2,"bytes_out":30,"messages_in":1,"bytes_in":5,"closed_by":"capsule","close_code":1008,"entropy":"1"},"decision":{"action":"block","by":"secret","reason":"secret elsewhere"}"#;
        assert!(
            shown(socket, 0).ends_with(
                "a.example: 2 messages (30 bytes) out, 1 messages (5 bytes) in, closed by capsule 1008 · block by secret: \
                 secret elsewhere\n"
            ),
            "{}",
            shown(socket, 0)
        );
        let unknown = r#""type":"machine.x","a":1,"b":null,"c":["d e"]"#;
        assert!(shown(unknown, 0).ends_with("machine.x     a=1 c='d e'\n"));
    }
}
