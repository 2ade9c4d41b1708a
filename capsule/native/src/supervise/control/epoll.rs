//! Waiting on many connections through one descriptor, which the run's own loop can wait on in turn.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::peer::Peer;

/// Which connection has something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The control connection.
    Program,
    /// The program's process has ended.
    Owner,
    /// The worker.
    Worker,
    /// A lane.
    Lane(u64),
    /// A child of the worker.
    Slot(u32),
}

impl Source {
    fn token(self) -> u64 {
        match self {
            Source::Program => 0,
            Source::Owner => 1,
            Source::Worker => 2,
            Source::Lane(id) => 3 | id << 3,
            Source::Slot(id) => 4 | u64::from(id) << 3,
        }
    }

    fn of(token: u64) -> Option<Source> {
        Some(match token & 7 {
            0 => Source::Program,
            1 => Source::Owner,
            2 => Source::Worker,
            3 => Source::Lane(token >> 3),
            4 => Source::Slot(u32::try_from(token >> 3).ok()?),
            _ => return None,
        })
    }
}

/// An epoll instance.
pub struct Epoll(OwnedFd);

impl Epoll {
    /// A new one.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: epoll_create1 makes a descriptor from a flag.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor alone.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The descriptor, readable when anything is ready.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Watch `fd` for something to read. A closed descriptor leaves by itself.
    pub fn add(&self, fd: RawFd, source: Source) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, source, false)
    }

    /// Also wake when the peer's socket takes more bytes, as long as some wait to be written.
    pub fn rearm(&self, peer: &mut Peer, source: Source) {
        if peer.pending() != peer.armed {
            peer.armed = peer.pending();
            // The descriptor is registered and only flags change: what could fail is a connection that has ended,
            // which shows on the next read.
            let _ = self.control(libc::EPOLL_CTL_MOD, peer.fd(), source, peer.armed);
        }
    }

    /// Everything that is ready now.
    pub fn ready(&self) -> Vec<Source> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        // SAFETY: `events` is a live array of the length given.
        let count = unsafe { libc::epoll_wait(self.fd(), events.as_mut_ptr(), 64, 0) };
        let count = usize::try_from(count).unwrap_or(0);
        events[..count]
            .iter()
            .filter_map(|event| Source::of(event.u64))
            .collect()
    }

    fn control(&self, operation: i32, fd: RawFd, source: Source, write: bool) -> io::Result<()> {
        let events = libc::EPOLLIN | if write { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event {
            events: events as u32,
            u64: source.token(),
        };
        // SAFETY: `event` is a live local; the kernel copies it.
        match unsafe { libc::epoll_ctl(self.fd(), operation, fd, &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
