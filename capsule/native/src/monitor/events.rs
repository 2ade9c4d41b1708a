//! What the monitor tells the supervisor, and how often.
//!
//! The first refusal of a kind is sent at once; the same one again is counted and sent every 100 ms. What it refuses:
//! to drop an event. When the supervisor does not read, the monitor waits, and with it the command; when the
//! supervisor is gone, the monitor ends.

use super::errno::Errno;
use super::wire::{self, Denial, Event};
use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Different refusals that are remembered; beyond it the counts are sent and begin anew.
const MOST_KINDS: usize = 4096;
/// How long a count may wait, in milliseconds.
pub const FLUSH_MS: i32 = 100;

/// The way to the supervisor.
#[derive(Debug)]
pub struct Events {
    socket: OwnedFd,
    seen: HashMap<Denial, Count>,
    waiting: bool,
}

#[derive(Debug)]
struct Count {
    pid: i32,
    since: u64,
    last: u64,
}

/// Microseconds of `CLOCK_MONOTONIC`.
pub fn now() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one `timespec` that outlives the call; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

impl Events {
    /// Over a connected socket that keeps message boundaries.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            seen: HashMap::new(),
            waiting: false,
        }
    }

    /// For `poll`.
    pub fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Send one message; waits until there is room. Ends this process when nobody is there to receive it.
    pub fn send(&self, event: &Event) {
        let message = wire::encode(event);
        loop {
            // SAFETY: `message` has the length given and outlives the call.
            let sent = unsafe {
                libc::send(
                    self.raw(),
                    message.as_ptr().cast(),
                    message.len(),
                    libc::MSG_NOSIGNAL,
                )
            };
            match if sent < 0 { Err(Errno::last()) } else { Ok(()) } {
                Ok(()) => return,
                Err(Errno::EINTR | Errno::EAGAIN | Errno::ENOBUFS) => {}
                // Without a supervisor nothing is recorded, so nothing may go on.
                Err(_) => std::process::exit(1),
            }
        }
    }

    /// A refusal happened.
    pub fn denied(&mut self, mut denial: Denial) {
        let pid = std::mem::take(&mut denial.pid);
        let mono = now();
        if let Some(count) = self.seen.get_mut(&denial) {
            count.since += 1;
            count.last = mono;
            self.waiting = true;
            return;
        }
        if self.seen.len() >= MOST_KINDS {
            self.flush();
            self.seen.clear();
        }
        self.seen.insert(
            denial.clone(),
            Count {
                pid,
                since: 0,
                last: mono,
            },
        );
        self.send(&Event::Denied {
            mono,
            count: 1,
            denial: Denial { pid, ..denial },
        });
    }

    /// Whether counts wait to be sent.
    pub fn waiting(&self) -> bool {
        self.waiting
    }

    /// Send all counts.
    pub fn flush(&mut self) {
        if !std::mem::take(&mut self.waiting) {
            return;
        }
        let mut due = Vec::new();
        for (denial, count) in &mut self.seen {
            let since = std::mem::take(&mut count.since);
            if since > 0 {
                let denial = Denial {
                    pid: count.pid,
                    ..denial.clone()
                };
                due.push((
                    count.last,
                    Event::Denied {
                        mono: count.last,
                        count: since,
                        denial,
                    },
                ));
            }
        }
        due.sort_by_key(|(last, _)| *last);
        for (_, event) in due {
            self.send(&event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Layer, Operation, decode};
    use super::*;
    use std::os::fd::FromRawFd;

    fn pair() -> (OwnedFd, OwnedFd) {
        let mut pair = [-1; 2];
        // SAFETY: room for two descriptors, which are new and unowned.
        unsafe {
            assert_eq!(
                libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, pair.as_mut_ptr()),
                0
            );
            (OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1]))
        }
    }

    fn receive(fd: &OwnedFd) -> Option<Event> {
        let mut buffer = vec![0u8; wire::MAX_MESSAGE];
        // SAFETY: `buffer` has the length given.
        let got = unsafe {
            libc::recv(
                fd.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
            )
        };
        (got > 0).then(|| decode(&buffer[..got as usize]).unwrap())
    }

    fn denial(target: &str) -> Denial {
        Denial {
            program: "/bin/cat".into(),
            pid: 7,
            operation: Operation::Write,
            syscall: "openat".into(),
            target: target.into(),
            layer: Layer::Supervisor,
            errno: "EACCES".into(),
            rule: None,
            allow: None,
            probe: false,
        }
    }

    #[test]
    fn the_first_is_sent_at_once_and_the_same_again_is_counted() {
        let (ours, theirs) = pair();
        let mut events = Events::new(ours);
        for _ in 0..1000 {
            events.denied(denial("/x"));
        }
        events.denied(denial("/y"));
        for (count, target) in [(1, "/x"), (1, "/y")] {
            match receive(&theirs) {
                Some(Event::Denied {
                    count: c,
                    denial: d,
                    ..
                }) => assert_eq!((c, d), (count, denial(target))),
                other => panic!("{other:?}"),
            }
        }
        assert!(receive(&theirs).is_none() && events.waiting());
        events.flush();
        assert!(matches!(
            receive(&theirs),
            Some(Event::Denied { count: 999, .. })
        ));
        assert!(receive(&theirs).is_none() && !events.waiting());
    }

    #[test]
    fn nothing_is_lost_when_there_are_more_kinds_than_are_remembered() {
        let (ours, theirs) = pair();
        let mut events = Events::new(ours);
        let total = MOST_KINDS + 10;
        let reader = std::thread::spawn(move || {
            let mut sum = 0;
            while sum < total as u64 * 2 {
                if let Some(Event::Denied { count, .. }) = receive(&theirs) {
                    sum += count;
                }
            }
            sum
        });
        for n in 0..total {
            events.denied(denial(&format!("/{n}")));
            events.denied(denial(&format!("/{n}")));
        }
        events.flush();
        assert_eq!(reader.join().unwrap(), total as u64 * 2);
    }
}
