//! The way to the host's MCP servers, tried from inside: what is not declared and what is no message must go nowhere.

use std::fs;
use std::io::{BufRead, BufReader, Result, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use super::Group;
use crate::mcp::SOCKET;

/// The proxy may be started by the first line.
const PATIENCE: Duration = Duration::from_secs(20);
const UNDECLARED: &str = "capsem-doctor-undeclared";
const PROGRAM: &str = "/usr/local/bin/capsem";

pub(super) fn examine(group: &mut Group) {
    let Ok(found) = fs::symlink_metadata(SOCKET) else {
        group.skip(
            "there is a way to the host's MCP servers",
            "this machine has none",
        );
        return;
    };
    group.check(
        "the relay is a socket of root's that every user may connect to",
        found.file_type().is_socket() && found.uid() == 0 && found.mode() & 0o777 == 0o666,
        format!("{:o} of {}", found.mode(), found.uid()),
    );
    let program = fs::read_link(PROGRAM).unwrap_or_default();
    group.check(
        "what a client of MCP starts is the agent's program",
        program.as_os_str() == "/capsem/capsem-agent",
        program.to_string_lossy(),
    );
    let call = r#"{"jsonrpc":"2.0","id":"d","method":"tools/call","params":{"name":"x"}}"#;
    for (name, line, code, word) in [
        (
            "a server that is not declared is refused",
            call,
            -32000,
            "is declared",
        ),
        (
            "a line that is not JSON goes nowhere",
            "nonsense",
            -32700,
            "not JSON",
        ),
        ("a list of messages goes nowhere", "[]", -32600, "a list"),
        (
            "a message with a key twice goes nowhere",
            r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#,
            -32600,
            "twice",
        ),
        (
            "an answer to nothing that was asked goes nowhere",
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            -32600,
            "nothing that was asked",
        ),
    ] {
        let seen = answer(UNDECLARED, line).unwrap_or_else(|error| error.to_string());
        group.check(name, fits(&seen, code, word), seen);
    }
    let seen = answer("../../etc/passwd", call).unwrap_or_else(|error| error.to_string());
    group.check("a name that is none is not served", seen.is_empty(), seen);
}

fn fits(said: &str, code: i64, word: &str) -> bool {
    let Ok(said) = serde_json::from_str::<Value>(said) else {
        return false;
    };
    let error = &said["error"];
    error["code"] == code
        && error["message"]
            .as_str()
            .is_some_and(|text| text.contains(word))
}

// The first line of the answer; nothing where the host has ended the stream.
fn answer(server: &str, line: &str) -> Result<String> {
    let mut stream = UnixStream::connect(SOCKET)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{server}\n{line}\n").as_bytes())?;
    let mut said = String::new();
    BufReader::new(stream).read_line(&mut said)?;
    Ok(said.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn an_answer_is_looked_at_as_a_whole() {
        let said = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"capsule: a list of messages"}}"#;
        assert!(fits(said, -32600, "a list"));
        assert!(!fits(said, -32700, "a list"));
        assert!(!fits(said, -32600, "twice"));
        assert!(!fits("a list -32600", -32600, "a list"));
    }
}
