//! `capsem mcp NAME`: the server of that name as an MCP client expects one, over standard input and output.
//!
//! It carries bytes between them and the machine's relay and reads none; what is a message, and which may pass, the host
//! decides. Ends with 0 when its client ended first, with 1 and one line when the host did.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const CHUNK: usize = 64 << 10;

/// Carries until one side ends; `name` is the server's, `socket` the relay's.
pub fn carry(name: &str, socket: &Path) -> Result<()> {
    if !is_name(name) {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "that is no MCP server's name: 1 to 63 of a-z, 0-9 and -",
        ));
    }
    let mut relay = UnixStream::connect(socket).map_err(|error| {
        Error::new(
            error.kind(),
            format!(
                "this machine has no MCP relay at {}: {error}",
                socket.display()
            ),
        )
    })?;
    relay
        .write_all(format!("{name}\n").as_bytes())
        .map_err(|error| told(name, error))?;
    let mut towards = relay.try_clone()?;
    let done = Arc::new(AtomicBool::new(false));
    let said = Arc::clone(&done);
    // It ends with the process: a client that waits for an answer keeps its end open.
    std::thread::spawn(move || {
        let whole = copy(&mut std::io::stdin().lock(), &mut towards);
        if whole.is_ok() {
            said.store(true, Ordering::SeqCst);
        }
        let _ = towards.shutdown(Shutdown::Write);
    });
    let answered = copy(&mut relay, &mut std::io::stdout().lock());
    if done.load(Ordering::SeqCst) {
        return Ok(());
    }
    answered.map_err(|error| told(name, error))?;
    Err(told(name, ErrorKind::ConnectionAborted.into()))
}

// A host that lets go of a stream is seen as one of these, or as its end.
fn told(name: &str, error: Error) -> Error {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => {
            let text = format!("the host has ended the MCP server {name}");
            Error::new(ErrorKind::ConnectionAborted, text)
        }
        _ => error,
    }
}

fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && !name.starts_with('-')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                to.write_all(&buffer[..count])?;
                to.flush()?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_none_and_a_machine_without_a_relay_are_told_apart() {
        for name in ["", "a\nb", "../x", "-a", "A", &"x".repeat(64)] {
            let error = carry(name, Path::new("/nowhere")).expect_err("no name");
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        let error = carry("files", Path::new("/nowhere/mcp.sock")).expect_err("no relay");
        assert!(error.to_string().contains("no MCP relay at /nowhere"));
    }

    #[test]
    fn bytes_are_copied_to_the_end() {
        let content: Vec<u8> = (0..200_000u32).map(|byte| byte.to_le_bytes()[0]).collect();
        let mut out = Vec::new();
        copy(&mut content.as_slice(), &mut out).expect("a copy");
        assert_eq!(out, content);
    }
}
