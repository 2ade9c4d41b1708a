//! What egress refused, as a refusal of the run: who asked, for what, which line decided, what would allow it.
//!
//! Pure. Its entries are half hostile: only texts and numbers are taken, cut to what a report can show. Entries that refuse
//! nothing are none; one of `egress.mcp` is told by the request that carried it.
//!
//! `egress.dns` of `evil.example`, blocked → `resolve evil.example`, layer `egress`, `NXDOMAIN`

use crate::monitor::wire::{Denial, Layer, Operation, RuleLine};
use serde_json::{Map, Value};

/// Characters of one text.
const LONGEST: usize = 500;
/// Where a refusal stands that no line of a file decided.
const NO_FILE: &str = "capsule:egress";

type Fields = Map<String, Value>;

/// How many times, and the refusal; `None` for an entry that refuses nothing.
#[must_use]
pub fn of(kind: &str, fields: &Fields) -> Option<(u64, Denial)> {
    let decision = object(fields, "decision")?;
    if decision.get("action").and_then(Value::as_str) != Some("block") {
        return None;
    }
    let name = kind.strip_prefix("egress.")?;
    let event = object(fields, name)?;
    let (operation, target, errno) = match name {
        "http" => (
            Operation::Request,
            request(event),
            match number(event, "status") {
                Some(status) => format!("HTTP {status}"),
                None => "closed".to_owned(),
            },
        ),
        "dns" => (
            Operation::Resolve,
            text(event, "name"),
            text(event, "rcode"),
        ),
        "tcp" => (
            Operation::Connect,
            format!("tcp:{}:{}", host(event), number(event, "port").unwrap_or(0)),
            "closed".to_owned(),
        ),
        "websocket" => (Operation::Send, text(event, "host"), "closed".to_owned()),
        _ => return None,
    };
    let program = object(fields, "program");
    let pid = program.and_then(|program| number(program, "pid"));
    let denial = Denial {
        program: program.map_or_else(String::new, |program| text(program, "path")),
        pid: pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0),
        operation,
        syscall: String::new(),
        target,
        layer: Layer::Egress,
        errno: if errno.is_empty() {
            "closed".to_owned()
        } else {
            errno
        },
        rule: rule(decision),
        allow: Some(text(decision, "allow")).filter(|allow| !allow.is_empty()),
        probe: false,
    };
    Some((number(event, "count").unwrap_or(1).max(1), denial))
}

fn request(event: &Fields) -> String {
    let mut target = format!("{} {}", text(event, "method"), text(event, "url"));
    if let Some(Value::Array(calls)) = event.get("mcp") {
        let calls: Vec<&str> = calls.iter().filter_map(Value::as_str).take(4).collect();
        target = format!("{target} ({})", cut(&calls.join(", ")));
    }
    target
}

fn host(event: &Fields) -> String {
    let named = text(event, "host");
    if named.is_empty() {
        text(event, "address")
    } else {
        named
    }
}

/// The line that decided; none where the policy simply does not list it.
fn rule(decision: &Fields) -> Option<RuleLine> {
    let by = text(decision, "by");
    let reason = text(decision, "reason");
    let line = object(decision, "rule");
    if line.is_none() && by == "default" {
        return None;
    }
    let id = line.map_or_else(String::new, |rule| text(rule, "id"));
    let said = match (id.is_empty(), reason.is_empty()) {
        (true, true) => by,
        (true, false) => reason,
        (false, true) => id,
        (false, false) => format!("{id}: {reason}"),
    };
    let file = line.map_or_else(String::new, |rule| text(rule, "file"));
    let at = line.and_then(|rule| number(rule, "line"));
    let known = !file.is_empty();
    Some(RuleLine {
        text: said,
        file: if known { file } else { NO_FILE.to_owned() },
        line: at
            .filter(|_| known)
            .and_then(|at| u32::try_from(at).ok())
            .unwrap_or(0),
    })
}

fn object<'a>(fields: &'a Fields, name: &str) -> Option<&'a Fields> {
    fields.get(name).and_then(Value::as_object)
}

fn number(fields: &Fields, name: &str) -> Option<u64> {
    fields.get(name).and_then(Value::as_u64)
}

fn text(fields: &Fields, name: &str) -> String {
    cut(fields.get(name).and_then(Value::as_str).unwrap_or_default())
}

fn cut(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars()
        .take(LONGEST - 1)
        .chain('…'.to_string().chars())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(kind: &str, fields: Value) -> Option<(u64, Denial)> {
        of(kind, fields.as_object().unwrap())
    }

    #[test]
    fn a_request_says_who_what_and_which_line() {
        let (count, denial) = refused(
            "egress.http",
            json!({
                "program": {"path": "/usr/bin/curl", "pid": 7},
                "http": {"method": "POST", "url": "https://a.example/x", "status": 403, "mcp": ["tools/call rm"]},
                "decision": {"action": "block", "by": "rule", "reason": "no gists", "allow": "change the rule",
                             "rule": {"id": "gists", "file": "rules.yaml", "line": 4}},
            }),
        )
        .unwrap();
        assert_eq!(
            (count, denial.pid, denial.program.as_str()),
            (1, 7, "/usr/bin/curl")
        );
        assert_eq!(denial.target, "POST https://a.example/x (tools/call rm)");
        assert_eq!(
            (denial.layer, denial.errno.as_str()),
            (Layer::Egress, "HTTP 403")
        );
        let rule = denial.rule.unwrap();
        assert_eq!(
            (rule.text.as_str(), rule.file.as_str(), rule.line),
            ("gists: no gists", "rules.yaml", 4)
        );
        assert_eq!(denial.allow.as_deref(), Some("change the rule"));
    }

    #[test]
    fn a_name_that_nothing_lists_has_no_line() {
        let block = json!({"action": "block", "by": "default", "reason": "no host entry lists x"});
        let dns = json!({"name": "x.example", "rcode": "NXDOMAIN", "count": 3});
        let (count, denial) =
            refused("egress.dns", json!({"dns": dns, "decision": block})).unwrap();
        assert_eq!(
            (count, denial.rule, denial.errno.as_str()),
            (3, None, "NXDOMAIN")
        );
        let block = json!({"action": "block", "by": "protocol", "reason": "no TLS"});
        let tcp = json!({"host": "x.example", "port": 443});
        let (_, denial) = refused("egress.tcp", json!({"tcp": tcp, "decision": block})).unwrap();
        let rule = denial.rule.unwrap();
        assert_eq!(
            (rule.text.as_str(), rule.file.as_str(), rule.line),
            ("no TLS", NO_FILE, 0)
        );
        assert_eq!(denial.target, "tcp:x.example:443");
    }

    #[test]
    fn a_refused_frame_says_where_it_was_to_go() {
        let block = json!({"action": "block", "by": "secret", "reason": "a placeholder"});
        let frames = json!({"http_id": "h-1", "host": "a.example", "messages_out": 1});
        let (_, denial) = refused(
            "egress.websocket",
            json!({"websocket": frames, "decision": block}),
        )
        .unwrap();
        assert_eq!(
            (denial.operation, denial.target.as_str()),
            (Operation::Send, "a.example")
        );
    }

    #[test]
    fn what_is_allowed_odd_or_told_elsewhere_is_none() {
        let allow = json!({"action": "allow", "by": "grant"});
        let block = json!({"action": "block", "by": "rule"});
        for (kind, fields) in [
            ("egress.http", json!({"http": {}, "decision": allow})),
            ("egress.mcp", json!({"mcp": {}, "decision": block})),
            ("egress.http", json!({"decision": block})),
            ("egress.http", json!({"http": {}, "decision": 3})),
            ("exec", json!({"decision": block})),
        ] {
            assert_eq!(refused(kind, fields), None, "{kind}");
        }
        let long = json!({"http": {"method": "GET", "url": "x".repeat(9000)}, "decision": block});
        assert!(
            refused("egress.http", long)
                .unwrap()
                .1
                .target
                .chars()
                .count()
                < 510
        );
    }
}
