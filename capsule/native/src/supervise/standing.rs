//! The first word of the sandbox's first process: everything stands, or what does not.
//!
//! It refuses: a sandbox that hands out another number of sockets than the plan has.

use super::launch::{failed, refuse};
use super::report::{Cause, Exit};
use crate::log_terminal::words;
use crate::sandbox::{init, messages};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// What a sandbox that stands hands out.
#[derive(Debug)]
pub struct Standing {
    /// Its `/proc`.
    pub processes: OwnedFd,
    /// What listens where hosts are reached by name: UDP 53, TCP 53, one a port.
    pub listeners: Vec<OwnedFd>,
    /// Its terminal's master.
    pub master: Option<OwnedFd>,
}

/// Wait for the first process's report over its socket; `sockets` is how many it hands out.
///
/// # Errors
/// How the run ends before it began.
pub fn wait(socket: BorrowedFd, sockets: usize) -> Result<Standing, Exit> {
    let mut buffer = [0; 8192];
    let mut received = messages::receive(socket, &mut buffer, true);
    if let Err(error) = &received
        && error.raw_os_error() == Some(libc::ECONNRESET)
    {
        // It ended before it read all that was sent to it; what it said comes after.
        received = messages::receive(socket, &mut buffer, true);
    }
    let (length, mut descriptors) = received.map_err(failed("the sandbox's first process"))?;
    match serde_json::from_slice::<init::Report>(&buffer[..length]) {
        Ok(init::Report::Ready {}) if descriptors.len() > sockets => Ok(Standing {
            processes: descriptors.remove(0),
            listeners: descriptors.drain(..sockets).collect(),
            master: descriptors.pop(),
        }),
        Ok(init::Report::NoProgram { errno }) => {
            Err(no_program(&io::Error::from_raw_os_error(errno)))
        }
        Ok(init::Report::Unable { doing, errno }) => {
            let next = if errno == libc::ENOENT && doing.starts_with(init::ENTERING) {
                "; the policy shows nothing there: cd to a directory that it grants, or add `filesystem: {read: [.]}` to it"
            } else {
                ""
            };
            let error = io::Error::from_raw_os_error(errno);
            Err(refuse(format!("{doing}: {error}{next}")))
        }
        Ok(init::Report::Ready {}) | Err(_) => Err(refuse(
            "the sandbox's first process ended before it was set up",
        )),
    }
}

/// How a run ends whose program cannot be started, by bash's rule: what is not there was not found, and what any other
/// error keeps from being executed cannot be executed.
pub fn no_program(error: &io::Error) -> Exit {
    let cause = match error.raw_os_error() {
        Some(libc::ENOENT) => Cause::NotFound,
        _ => Cause::NotExecutable,
    };
    Exit::of_capsule(cause, words(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::system::{message_pair, pipe};
    use std::os::fd::{AsFd, AsRawFd};

    fn told(bytes: &[u8], descriptors: usize, sockets: usize) -> Result<Standing, Exit> {
        let (ours, theirs) = message_pair().unwrap();
        let (kept, _other) = pipe().unwrap();
        let numbers = vec![kept.as_raw_fd(); descriptors];
        messages::send(theirs.as_fd(), bytes, &numbers).unwrap();
        drop(theirs);
        wait(ours.as_fd(), sockets)
    }

    #[test]
    fn descriptors_are_told_apart_by_their_number() {
        let ready = br#"{"type":"ready"}"#;
        let standing = told(ready, 1, 0).unwrap();
        assert!(standing.listeners.is_empty() && standing.master.is_none());
        let standing = told(ready, 6, 4).unwrap();
        assert_eq!(standing.listeners.len(), 4);
        assert!(standing.master.is_some());
        assert!(told(ready, 4, 4).is_err());
        assert!(told(ready, 0, 0).is_err());
    }

    #[test]
    fn an_obstacle_is_how_the_run_ends() {
        let missing = told(br#"{"type":"no_program","errno":2}"#, 0, 0).unwrap_err();
        assert_eq!(missing.cause, Cause::NotFound);
        let through = told(br#"{"type":"no_program","errno":20}"#, 0, 0).unwrap_err();
        assert_eq!(through.cause, Cause::NotExecutable);
        let unable = told(br#"{"type":"unable","doing":"view: x","errno":13}"#, 0, 0);
        assert!(unable.unwrap_err().reason.unwrap().contains("view: x"));
    }
}
