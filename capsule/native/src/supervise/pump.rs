//! Bytes from one descriptor to another without ever waiting: the supervisor has a clock to keep.
//!
//! The destination belongs to the user and may be shared, so it is never made non-blocking; instead no more is
//! written at once than a ready pipe or terminal takes for certain. It refuses to hold more than one buffer.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// What a ready pipe takes without blocking (`PIPE_BUF`).
const CHUNK: usize = 4096;
const BUFFER: usize = 64 * 1024;

/// One direction.
pub struct Pump {
    from: Option<OwnedFd>,
    to: RawFd,
    buffer: Vec<u8>,
    sent: usize,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Bytes read.
    pub read: usize,
    /// The destination is gone: nobody reads any more.
    pub broken: bool,
}

impl Pump {
    /// From `from`, which it owns, to `to`, which somebody else keeps open.
    #[must_use]
    pub fn new(from: OwnedFd, to: RawFd) -> Pump {
        Pump {
            from: Some(from),
            to,
            buffer: Vec::new(),
            sent: 0,
        }
    }

    fn waiting(&self) -> bool {
        self.sent < self.buffer.len()
    }

    /// Whether everything has been read and written.
    #[must_use]
    pub fn finished(&self) -> bool {
        self.from.is_none() && !self.waiting()
    }

    /// What to poll for: one descriptor, one event.
    #[must_use]
    pub fn interest(&self) -> Option<libc::pollfd> {
        let (fd, events) = match &self.from {
            _ if self.waiting() => (self.to, libc::POLLOUT),
            Some(from) => (from.as_raw_fd(), libc::POLLIN),
            None => return None,
        };
        Some(libc::pollfd {
            fd,
            events,
            revents: 0,
        })
    }

    /// Do what the poll said is possible.
    pub fn turn(&mut self) -> Turn {
        if self.waiting() {
            self.write()
        } else {
            self.read()
        }
    }

    fn read(&mut self) -> Turn {
        let Some(from) = &self.from else {
            return Turn::default();
        };
        self.buffer.resize(BUFFER, 0);
        self.sent = 0;
        // SAFETY: the buffer is of the size given.
        let read = unsafe { libc::read(from.as_raw_fd(), self.buffer.as_mut_ptr().cast(), BUFFER) };
        self.buffer.truncate(read.max(0) as usize);
        let interrupted = read < 0 && would_wait(&io::Error::last_os_error());
        if read <= 0 && !interrupted {
            // The end; a terminal whose other side is closed says EIO.
            self.from = None;
        }
        Turn {
            read: self.buffer.len(),
            broken: false,
        }
    }

    /// What was read last and is not yet written.
    #[must_use]
    pub fn held(&self) -> &[u8] {
        &self.buffer[self.sent..]
    }

    /// Take the first `byte` out of what was read last and not yet written; whether there was one.
    pub fn take(&mut self, byte: u8) -> bool {
        let found = self.buffer[self.sent..].iter().position(|b| *b == byte);
        if let Some(at) = found {
            self.buffer.remove(self.sent + at);
        }
        found.is_some()
    }

    fn write(&mut self) -> Turn {
        let rest = &self.buffer[self.sent..];
        let length = rest.len().min(CHUNK);
        // SAFETY: `length` bytes of our own buffer.
        let written = unsafe { libc::write(self.to, rest.as_ptr().cast(), length) };
        if written >= 0 {
            self.sent += written as usize;
            return Turn::default();
        }
        if would_wait(&io::Error::last_os_error()) {
            return Turn::default();
        }
        // Closing our end lets the writer see a broken pipe, as it would without us.
        self.from = None;
        self.buffer.clear();
        self.sent = 0;
        Turn {
            read: 0,
            broken: true,
        }
    }

    /// Read nothing more, and pass on at most `keep` bytes of what was read last.
    pub fn cut(&mut self, keep: usize) {
        self.from = None;
        self.buffer.truncate(self.sent.saturating_add(keep));
    }

    /// Write what is left, for at most `milliseconds`, after the source has ended or been given up.
    pub fn finish(&mut self, milliseconds: i32) {
        while !self.finished() {
            let Some(mut interest) = self.interest() else {
                return;
            };
            // SAFETY: one valid structure.
            if unsafe { libc::poll(&raw mut interest, 1, milliseconds) } <= 0 {
                return;
            }
            self.turn();
        }
    }
}

fn would_wait(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::system::pipe;
    use std::io::{Read, Write};

    #[test]
    fn bytes_arrive_in_order_and_the_end_is_seen() {
        let (source_end, source) = pipe().unwrap();
        let (end, destination) = pipe().unwrap();
        let data: Vec<u8> = (0..20_000u32).map(|n| n as u8).collect();
        std::fs::File::from(source).write_all(&data).unwrap();
        let mut pump = Pump::new(source_end, destination.as_raw_fd());
        pump.finish(1000);
        assert!(pump.finished());
        drop(destination);
        let mut got = Vec::new();
        std::fs::File::from(end).read_to_end(&mut got).unwrap();
        assert_eq!(got, data);
    }

    #[test]
    fn a_reader_that_left_breaks_the_pump() {
        let (source_end, source) = pipe().unwrap();
        let (end, destination) = pipe().unwrap();
        drop(end);
        std::fs::File::from(source).write_all(b"x").unwrap();
        let mut pump = Pump::new(source_end, destination.as_raw_fd());
        assert_eq!(pump.turn().read, 1);
        assert!(pump.turn().broken);
        assert!(pump.finished());
    }
}
