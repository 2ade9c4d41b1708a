//! Questions to the supervisor: connect to a port or socket of the host that the plan names.
//!
//! The call waits while the question is open; the connected descriptor takes the place of the caller's socket. What it
//! refuses: more than 64 open questions (`EAGAIN`). Known limits: a copy of the socket that the program made before,
//! or its registration with `epoll`, keeps meaning the old socket.

use super::broker::{Answer, Broker, Outcome};
use super::caller::Caller;
use super::errno::Errno;
use super::events::now;
use super::sockets::{Socket, nonblocking};
use super::wire::{Event, Target, text};
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const MOST: usize = 64;

/// The open questions.
#[derive(Debug, Default)]
pub struct Dials {
    open: HashMap<u64, Dial>,
    asked: u64,
}

#[derive(Debug)]
struct Dial {
    caller: Caller,
    number: i32,
    nonblocking: bool,
    cloexec: bool,
    target: String,
}

/// Dial a Unix socket.
///
/// # Errors
/// `ECONNREFUSED` for a name that is not text.
pub fn dial_path(
    broker: &mut Broker,
    caller: Caller,
    number: i32,
    socket: &Socket,
    name: &[u8],
) -> Outcome {
    let Ok(path) = std::str::from_utf8(name) else {
        return Err(Errno::ECONNREFUSED);
    };
    let question = Target::Unix {
        path: path.to_owned(),
        seqpacket: socket.kind == libc::SOCK_SEQPACKET,
    };
    dial(
        broker,
        caller,
        number,
        socket,
        format!("unix:{path}"),
        question,
    )
}

/// Ask the supervisor.
///
/// # Errors
/// `EAGAIN`.
pub fn dial(
    broker: &mut Broker,
    caller: Caller,
    number: i32,
    socket: &Socket,
    target: String,
    question: Target,
) -> Outcome {
    if broker.dials.open.len() >= MOST {
        return Err(Errno::EAGAIN);
    }
    broker.dials.asked += 1;
    let id = broker.dials.asked;
    let nonblocking = nonblocking(&socket.fd);
    let cloexec = caller.closes_on_exec(number);
    broker.dials.open.insert(
        id,
        Dial {
            caller,
            number,
            nonblocking,
            cloexec,
            target,
        },
    );
    broker.events.send_now(&Event::Dial {
        id,
        target: question,
    });
    Ok(Answer::Later)
}

/// The supervisor's answer: the connected descriptor takes the place of the caller's socket.
pub fn dialled(broker: &mut Broker, id: u64, result: Result<OwnedFd, Errno>) {
    let Some(dial) = broker.dials.open.remove(&id) else {
        return;
    };
    let call = dial.caller.call.id;
    let installed = result.and_then(|fd| {
        let flags = if dial.nonblocking {
            libc::O_NONBLOCK
        } else {
            0
        };
        // SAFETY: plain integers on a descriptor we own.
        unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags) };
        broker
            .listener
            .replace(call, fd.as_fd(), dial.number as u32, dial.cloexec)
    });
    broker.events.send(&Event::Connect {
        mono: now(),
        pid: dial.caller.process(),
        program: text(&dial.caller.program()),
        target: dial.target,
        errno: installed.err().map(Errno::name),
    });
    match installed {
        Ok(()) => broker.listener.succeed(call, 0),
        Err(errno) => broker.listener.fail(call, errno),
    }
}
