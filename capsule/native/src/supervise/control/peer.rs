//! One framed connection of the supervisor's: to the program, to a lane, to the worker, or to one of its children.
//!
//! A frame is a 4-byte big-endian length, one line of JSON (the envelope) and a body that is relayed unread.
//! What it refuses: a frame longer than the caller allows, before reading it; an envelope that is too long,
//! has no newline, or does not parse into exactly the type the caller expects.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of the length before each frame.
const HEADER: usize = 4;
/// Bytes an envelope may have, its newline included.
const MAX_ENVELOPE: usize = 64 * 1024;

/// Why a connection is of no more use.
#[derive(Debug)]
pub enum Fault {
    /// It announced a frame of this many bytes, more than it may.
    TooLong(usize),
    /// What came is not a frame, or not one that is due now.
    Malformed(String),
    /// The socket failed.
    Io(io::Error),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::TooLong(size) => write!(f, "a frame of {size} bytes, more than is allowed"),
            Fault::Malformed(why) => write!(f, "not a frame that is due: {why}"),
            Fault::Io(error) => write!(f, "{error}"),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Io(error)
    }
}

/// A frame, still hostile: the envelope unparsed, the body never parsed.
#[derive(Debug)]
pub struct Frame {
    payload: Vec<u8>,
    newline: usize,
}

impl Frame {
    /// The envelope as `T`, which decides what is allowed in it.
    pub fn envelope<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        serde_json::from_slice(&self.payload[..self.newline])
            .map_err(|error| Fault::Malformed(error.to_string()))
    }

    /// The body, as it came.
    pub fn body(&self) -> &[u8] {
        &self.payload[self.newline + 1..]
    }
}

struct Output {
    bytes: Vec<u8>,
    sent: usize,
    descriptor: Option<OwnedFd>,
}

/// A non-blocking socket with a frame being read and frames being written.
pub struct Peer {
    socket: UnixStream,
    input: Vec<u8>,
    output: VecDeque<Output>,
    received: VecDeque<OwnedFd>,
    ended: bool,
    takes_descriptors: bool,
    /// Whether the waiting side also waits for room to write.
    pub(super) armed: bool,
}

impl Peer {
    /// Take over a socket. `takes_descriptors`: whether descriptors that come with frames are kept (else the
    /// kernel closes them).
    pub fn new(socket: OwnedFd, takes_descriptors: bool) -> io::Result<Peer> {
        let socket = UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Peer {
            socket,
            input: Vec::new(),
            output: VecDeque::new(),
            received: VecDeque::new(),
            ended: false,
            takes_descriptors,
            armed: false,
        })
    }

    /// The descriptor to wait on.
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Whether something is waiting to be written.
    pub fn pending(&self) -> bool {
        !self.output.is_empty()
    }

    /// Whether the other side has closed and everything it sent was taken.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Say that nothing more will be sent.
    pub fn hang_up(&self) {
        // A connection that is gone already has been told.
        let _ = self.socket.shutdown(std::net::Shutdown::Write);
    }

    /// Whether bytes are left over after the frames that were taken.
    pub fn has_surplus(&self) -> bool {
        !self.input.is_empty()
    }

    /// The next descriptor that came along.
    pub fn descriptor(&mut self) -> Option<OwnedFd> {
        self.received.pop_front()
    }

    /// Read what is there and give the next whole frame of at most `limit` bytes, if there is one.
    pub fn next(&mut self, limit: usize) -> Result<Option<Frame>, Fault> {
        loop {
            if let Some(frame) = self.take(limit)? {
                return Ok(Some(frame));
            }
            if self.ended {
                return if self.input.is_empty() {
                    Ok(None)
                } else {
                    Err(Fault::Malformed("it ends within a frame".into()))
                };
            }
            match self.fill() {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.ended = true,
                Err(error) => return Err(Fault::Io(error)),
            }
        }
    }

    fn take(&mut self, limit: usize) -> Result<Option<Frame>, Fault> {
        let Some(header) = self.input.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let size = u32::from_be_bytes(*header) as usize;
        if size > limit {
            return Err(Fault::TooLong(size));
        }
        if self.input.len() < HEADER + size {
            return Ok(None);
        }
        let rest = self.input.split_off(HEADER + size);
        let mut payload = std::mem::replace(&mut self.input, rest);
        payload.drain(..HEADER);
        let head = &payload[..payload.len().min(MAX_ENVELOPE)];
        match head.iter().position(|byte| *byte == b'\n') {
            Some(newline) => Ok(Some(Frame { payload, newline })),
            None => Err(Fault::Malformed("no envelope".into())),
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let before = self.input.len();
        let wanted = match self.input.first_chunk::<HEADER>() {
            // Bounded by the limit that `take` has already applied to this header.
            Some(header) => (HEADER + u32::from_be_bytes(*header) as usize)
                .saturating_sub(before)
                .clamp(4096, 1 << 20),
            None => 16 * 1024,
        };
        self.input.resize(before + wanted, 0);
        let got = if self.takes_descriptors {
            receive_with_descriptors(&self.socket, &mut self.input[before..], &mut self.received)
        } else {
            (&self.socket).read(&mut self.input[before..])
        };
        self.input.truncate(before + *got.as_ref().unwrap_or(&0));
        got
    }

    /// Send a frame, with a descriptor when given; what the socket does not take now waits.
    pub fn send(
        &mut self,
        envelope: &impl Serialize,
        body: &[u8],
        descriptor: Option<OwnedFd>,
    ) -> Result<(), Fault> {
        let mut bytes = vec![0; HEADER];
        serde_json::to_writer(&mut bytes, envelope)
            .map_err(|error| Fault::Malformed(error.to_string()))?;
        bytes.push(b'\n');
        bytes.extend_from_slice(body);
        let size = u32::try_from(bytes.len() - HEADER).map_err(|_| Fault::TooLong(bytes.len()))?;
        bytes[..HEADER].copy_from_slice(&size.to_be_bytes());
        self.output.push_back(Output {
            bytes,
            sent: 0,
            descriptor,
        });
        self.flush()
    }

    /// Write what is waiting, as far as the socket takes it.
    pub fn flush(&mut self) -> Result<(), Fault> {
        while let Some(first) = self.output.front_mut() {
            let rest = &first.bytes[first.sent..];
            let wrote = send(
                &self.socket,
                rest,
                first.descriptor.as_ref().map(AsRawFd::as_raw_fd),
            );
            match wrote {
                Ok(count) => {
                    first.sent += count;
                    first.descriptor = None;
                    if first.sent == first.bytes.len() {
                        self.output.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.output.clear();
                    return Err(Fault::Io(error));
                }
            }
        }
        Ok(())
    }
}

/// Room for four descriptors in a control message, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Ancillary([u8; 64]);

fn receive_with_descriptors(
    socket: &UnixStream,
    into: &mut [u8],
    received: &mut VecDeque<OwnedFd>,
) -> io::Result<usize> {
    let mut ancillary = Ancillary([0; 64]);
    let mut part = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    // SAFETY: msghdr is plain data for which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = ancillary.0.as_mut_ptr().cast();
    message.msg_controllen = ancillary.0.len();
    // SAFETY: every pointer in `message` refers to a live local of the length given beside it.
    let got = unsafe {
        libc::recvmsg(
            socket.as_fd().as_raw_fd(),
            &raw mut message,
            libc::MSG_CMSG_CLOEXEC,
        )
    };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has filled msg_control and set msg_controllen to what it filled.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    while !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a whole header within msg_control.
        let (level, kind, length) = unsafe {
            (
                (*header).cmsg_level,
                (*header).cmsg_type,
                (*header).cmsg_len,
            )
        };
        if level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
            // SAFETY: the data of an SCM_RIGHTS message are ints; cmsg_len says how many bytes they are.
            let (data, count) = unsafe {
                (
                    libc::CMSG_DATA(header).cast::<RawFd>(),
                    (length - libc::CMSG_LEN(0) as usize) / size_of::<RawFd>(),
                )
            };
            for index in 0..count {
                // SAFETY: index < count, and each int is a descriptor the kernel has just given to us alone.
                received
                    .push_back(unsafe { OwnedFd::from_raw_fd(data.add(index).read_unaligned()) });
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        header = unsafe { libc::CMSG_NXTHDR(&raw const message, header) };
    }
    Ok(got)
}

/// One `sendmsg` that raises no signal when the other side has gone.
fn send(socket: &UnixStream, bytes: &[u8], descriptor: Option<RawFd>) -> io::Result<usize> {
    let mut ancillary = Ancillary([0; 64]);
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: msghdr is plain data for which all zeros is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if let Some(descriptor) = descriptor {
        message.msg_control = ancillary.0.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE only computes.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(size_of::<RawFd>() as u32) } as usize;
        // SAFETY: msg_control has room for one header with one int, which is what is written.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as usize;
            libc::CMSG_DATA(header)
                .cast::<RawFd>()
                .write_unaligned(descriptor);
        }
    }
    // SAFETY: every pointer in `message` refers to a live local of the length given beside it.
    let sent = unsafe {
        libc::sendmsg(
            socket.as_fd().as_raw_fd(),
            &raw const message,
            libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
