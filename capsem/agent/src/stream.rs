//! One stream: what flows between a port and a program's descriptor, never more than its window at once.
//!
//! Refuses content beyond the window (a fault of the host), a second end, credit beyond the window.
//!
//! ```
//! use capsem_agent::stream::Outflow;
//! # let (reader, _writer) = std::io::pipe().unwrap();
//! let mut flow = Outflow::new(reader.into(), 10);
//! flow.spend(10);
//! assert_eq!(flow.allowance(), 0);
//! assert!(flow.credit(11).is_err());
//! ```

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use crate::sys;

/// Bytes that may be on the way in one direction of a stream, by port.
pub const fn window(port: u16) -> u32 {
    match port {
        5001 => 64 << 10,
        5005 => 1 << 20,
        _ => 128 << 10,
    }
}

/// What becomes of the descriptor when the host says the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// It is closed: a pipe.
    Close,
    /// Its writing half is closed: a socket.
    Shutdown,
    /// The end-of-file character is written: a terminal.
    Character,
}

/// From the host to a program.
#[derive(Debug)]
pub struct Inflow {
    fd: OwnedFd,
    waiting: VecDeque<u8>,
    room: u32,
    taken: u32,
    window: u32,
    ended: bool,
    at_end: AtEnd,
}

/// What writing to the program came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// It goes on.
    More,
    /// All is written and the host has said the end.
    Over,
    /// The program takes no more.
    Broken,
}

impl Inflow {
    /// A stream into `fd`, which does not block.
    pub fn new(fd: OwnedFd, window: u32, at_end: AtEnd) -> Self {
        Self {
            fd,
            waiting: VecDeque::new(),
            room: window,
            taken: 0,
            window,
            ended: false,
            at_end,
        }
    }

    /// Keeps what the host sent.
    pub fn take(&mut self, content: &[u8]) -> Result<(), String> {
        if self.ended {
            return Err("data after the end of a stream".to_owned());
        }
        let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
        self.room = self
            .room
            .checked_sub(size)
            .ok_or_else(|| format!("{size} bytes where {} fit in the window", self.room))?;
        self.waiting.extend(content);
        Ok(())
    }

    /// The host sends no more.
    pub fn end(&mut self) -> Result<(), String> {
        if std::mem::replace(&mut self.ended, true) {
            return Err("a second end of a stream".to_owned());
        }
        if self.at_end == AtEnd::Character {
            self.waiting.push_back(4);
        }
        Ok(())
    }

    /// Whether there is something to write, or the end to pass on.
    pub fn wants_to_write(&self) -> bool {
        !self.waiting.is_empty() || self.ended
    }

    /// The descriptor's number, for `poll`.
    pub fn number(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Writes what the program takes now.
    pub fn pump(&mut self) -> Written {
        while !self.waiting.is_empty() {
            let (first, _) = self.waiting.as_slices();
            match sys::write(self.fd.as_fd(), first) {
                Ok(count) => {
                    self.waiting.drain(..count);
                    self.taken += u32::try_from(count).unwrap_or(0);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Written::More,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Written::Broken,
            }
        }
        if !self.ended {
            return Written::More;
        }
        match self.at_end {
            AtEnd::Close | AtEnd::Character => {}
            AtEnd::Shutdown => sys::shutdown_write(self.fd.as_fd()),
        }
        Written::Over
    }

    /// Credit that is worth telling: from a quarter of the window on.
    pub fn earned(&mut self) -> Option<u32> {
        if self.taken < self.window / 4 {
            return None;
        }
        let amount = std::mem::take(&mut self.taken);
        self.room += amount;
        Some(amount)
    }
}

/// From a program to the host.
#[derive(Debug)]
pub struct Outflow {
    fd: OwnedFd,
    credit: u32,
    window: u32,
}

/// What reading from the program came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// So many bytes.
    Bytes(usize),
    /// Nothing now.
    Nothing,
    /// It sends no more.
    Over,
    /// The connection was reset, in both directions.
    Broken,
}

impl Outflow {
    /// A stream out of `fd`, which does not block.
    pub fn new(fd: OwnedFd, window: u32) -> Self {
        Self {
            fd,
            credit: window,
            window,
        }
    }

    /// Bytes that may be sent now.
    pub fn allowance(&self) -> usize {
        self.credit as usize
    }

    /// So many were sent.
    pub fn spend(&mut self, amount: usize) {
        self.credit = self
            .credit
            .saturating_sub(u32::try_from(amount).unwrap_or(u32::MAX));
    }

    /// The host has taken so many.
    pub fn credit(&mut self, amount: u32) -> Result<(), String> {
        match self.credit.checked_add(amount) {
            Some(credit) if credit <= self.window => {
                self.credit = credit;
                Ok(())
            }
            _ => Err(format!(
                "a credit of {amount} bytes where {} were on the way",
                self.window - self.credit
            )),
        }
    }

    /// The descriptor's number, for `poll`.
    pub fn number(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Reads at most `into` and the allowance.
    pub fn pump(&mut self, into: &mut [u8]) -> Taken {
        let size = into.len().min(self.allowance());
        if size == 0 {
            return Taken::Nothing;
        }
        match sys::read(self.fd.as_fd(), &mut into[..size]) {
            Ok(0) => Taken::Over,
            Ok(count) => {
                self.spend(count);
                Taken::Bytes(count)
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                Taken::Nothing
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Taken::Broken,
            // A terminal whose last program has gone answers EIO.
            Err(_) => Taken::Over,
        }
    }
}

/// A stream's two directions; it is gone when both are.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Stream {
    pub inflow: Option<Inflow>,
    pub outflow: Option<Outflow>,
    /// The inflow is gone although the host had not said the end: it is told by a reset.
    pub cut: bool,
}

impl Stream {
    /// Both ways over a connection of a program, which does not block, and a copy of its descriptor.
    pub fn over(connection: OwnedFd, copy: OwnedFd, port: u16) -> Self {
        Self {
            inflow: Some(Inflow::new(connection, window(port), AtEnd::Shutdown)),
            outflow: Some(Outflow::new(copy, window(port))),
            cut: false,
        }
    }

    /// A connection that ends now ends by a reset.
    pub fn reset_at_close(&self) {
        if let Some(flow) = &self.inflow {
            sys::net::reset_at_close(flow.fd.as_fd());
        }
        if let Some(flow) = &self.outflow {
            sys::net::reset_at_close(flow.fd.as_fd());
        }
    }
}
