//! One port: its connection, the frames that come, and the bytes that wait to go.
//!
//! Refuses to read while too much waits to be written, so that a host that does not read cannot fill the guest's memory.

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use crate::frame::{Frame, Reader};
use crate::line::Line;
use crate::message::Guest;
use crate::{frame, sys};

/// Bytes that may wait before streams of the port are not read any more.
pub const HIGH_WATER: usize = 512 << 10;
/// Bytes that may wait before the port is not read any more.
const STOP_READING: usize = 2 << 20;
/// Bytes read in one turn, so that one port does not keep the others waiting.
const TURN: usize = 1 << 20;

/// What a turn of reading came to.
#[derive(Debug, Default)]
pub struct Heard {
    /// Whole frames, in order.
    pub frames: Vec<Frame>,
    /// Why what followed is none.
    pub fault: Option<String>,
    /// The host is gone.
    pub hung_up: bool,
}

/// One port.
#[derive(Debug)]
pub struct Port {
    /// Its number on the wire.
    pub number: u16,
    line: Line,
    connection: Option<OwnedFd>,
    reader: Reader,
    waiting: Vec<u8>,
    at: usize,
    faulty: bool,
}

impl Port {
    /// A port whose host has not come yet.
    pub fn new(number: u16, line: Line) -> Self {
        Self {
            number,
            line,
            connection: None,
            reader: Reader::default(),
            waiting: Vec::new(),
            at: 0,
            faulty: false,
        }
    }

    /// Takes the host's connection if it is there and was not.
    pub fn connect(&mut self) -> bool {
        if self.connection.is_some() {
            return false;
        }
        self.connection = self.line.answer().unwrap_or(None);
        self.connection.is_some()
    }

    /// What to wait for: the connection's descriptor and events, or the doorbell's.
    pub fn interest(&self) -> Option<(RawFd, i16)> {
        let Some(connection) = &self.connection else {
            return self.line.doorbell().map(|bell| (bell, libc::POLLIN));
        };
        let reading = if self.backlog() < STOP_READING {
            libc::POLLIN
        } else {
            0
        };
        let writing = if self.backlog() > 0 { libc::POLLOUT } else { 0 };
        Some((connection.as_raw_fd(), reading | writing))
    }

    /// Whether the host is away from a device, which says nothing when it comes back.
    pub fn must_be_asked(&self) -> bool {
        self.connection.is_none() && self.line.doorbell().is_none()
    }

    /// Whether the host is there.
    pub fn connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Bytes that wait to be written.
    pub fn backlog(&self) -> usize {
        self.waiting.len() - self.at
    }

    /// Where frames are written to. What is written while the host is away is lost.
    pub fn out(&mut self) -> &mut Vec<u8> {
        if self.connection.is_none() {
            self.waiting.clear();
            self.at = 0;
        } else if self.at > 0 && (self.at == self.waiting.len() || self.at > HIGH_WATER) {
            self.waiting.drain(..self.at);
            self.at = 0;
        }
        &mut self.waiting
    }

    /// Says a message.
    pub fn say(&mut self, message: &Guest<'_>) {
        let body = match serde_json::to_vec(message) {
            Ok(body) if body.len() <= frame::MESSAGE_LIMIT => body,
            // Every text that goes in is cut where it is made; what is longer all the same is told as what it is.
            _ => br#"{"type":"fault","reason":"the agent had more to say than a message holds"}"#
                .to_vec(),
        };
        frame::write_message(self.out(), &body);
    }

    /// The host broke the form: nothing it sends on this connection counts any more.
    pub fn fault(&mut self, reason: &str) {
        self.faulty = true;
        self.reader.clear();
        self.say(&Guest::Fault {
            reason: reason.chars().take(500).collect(),
        });
    }

    /// Reads what is there.
    pub fn hear(&mut self, scratch: &mut [u8]) -> Heard {
        let mut heard = Heard::default();
        let mut read = 0;
        while read < TURN && heard.fault.is_none() {
            let Some(connection) = &self.connection else {
                return heard;
            };
            match sys::read(connection.as_fd(), scratch) {
                Ok(0) => {
                    self.hang_up();
                    heard.hung_up = true;
                    return heard;
                }
                Ok(count) => {
                    read += count;
                    if self.faulty {
                        continue;
                    }
                    self.reader.take(&scratch[..count]);
                    loop {
                        match self.reader.next() {
                            Ok(Some(frame)) => heard.frames.push(frame),
                            Ok(None) => break,
                            Err(reason) => {
                                heard.fault = Some(reason);
                                break;
                            }
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return heard,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.hang_up();
                    heard.hung_up = true;
                    return heard;
                }
            }
        }
        heard
    }

    /// Drops what has come and was not heard.
    pub fn drain(&mut self, scratch: &mut [u8]) {
        let mut read = 0;
        while let Some(connection) = self.connection.as_ref().filter(|_| read < 4 * TURN) {
            match sys::read(connection.as_fd(), scratch) {
                Ok(count) if count > 0 => read += count,
                _ => return,
            }
        }
    }

    /// Whoever is there now has heard nothing and said nothing yet.
    pub fn start_over(&mut self) {
        self.reader.clear();
        self.waiting.clear();
        self.at = 0;
        self.faulty = false;
    }

    fn hang_up(&mut self) {
        self.connection = None;
        self.start_over();
    }

    /// Writes what the host takes now. An error is told by the next `hear`.
    pub fn flush(&mut self) {
        while self.at < self.waiting.len() {
            let Some(connection) = &self.connection else {
                return;
            };
            match sys::write(connection.as_fd(), &self.waiting[self.at..]) {
                Ok(count) => self.at += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
        self.waiting.clear();
        self.at = 0;
    }
}
