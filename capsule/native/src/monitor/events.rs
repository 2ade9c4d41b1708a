//! What the monitor tells the supervisor, and how often.
//!
//! The first refusal of a kind is sent; the same one again is counted and sent every 100 ms. Messages wait up to 10 ms
//! for each other, because waking the supervisor costs more than a message. What it refuses: to drop an event. When the
//! supervisor does not read, the monitor waits, and with it the command; when the supervisor is gone, the monitor ends.

use super::errno::Errno;
use super::wire::{self, Denial, Event};
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};

/// Different refusals that are remembered; beyond it the counts are sent and begin anew.
const MOST_KINDS: usize = 4096;
/// How long a count may wait, in milliseconds.
pub const FLUSH_MS: i32 = 100;
/// How long a message may wait for others to go with it, in milliseconds, and how many go at once.
pub const BATCH_MS: i32 = 10;
const BATCH: usize = 64;

/// The way to the supervisor.
#[derive(Debug)]
pub struct Events {
    socket: OwnedFd,
    queue: Vec<Vec<u8>>,
    seen: HashMap<Denial, Count>,
    waiting: bool,
    prompt: bool,
    late: Late,
}

/// Refusals that another thread came upon; the loop takes them in.
#[derive(Debug, Clone, Default)]
pub struct Late(Arc<Mutex<Vec<Denial>>>);

impl Late {
    /// One more.
    pub fn push(&self, denial: Denial) {
        // A thread that panicked ends the process, so nobody ever finds it poisoned.
        if let Ok(mut all) = self.0.lock() {
            all.push(denial);
        }
    }
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

/// Tells one event at once, beside what the loop has queued.
#[derive(Debug)]
pub struct Herald(OwnedFd);

impl Herald {
    /// Send it; waits until there is room, and ends this process when nobody is there to receive.
    pub fn tell(&self, event: &Event) {
        let message = wire::encode(event);
        loop {
            // SAFETY: the message outlives the call.
            let sent = unsafe {
                libc::send(
                    self.0.as_raw_fd(),
                    message.as_ptr().cast(),
                    message.len(),
                    libc::MSG_NOSIGNAL,
                )
            };
            match Errno::last() {
                _ if sent >= 0 => return,
                Errno::EINTR | Errno::EAGAIN | Errno::ENOBUFS => {}
                _ => std::process::exit(1),
            }
        }
    }
}

impl Events {
    /// Over a connected socket that keeps message boundaries.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            queue: Vec::new(),
            seen: HashMap::new(),
            waiting: false,
            prompt: false,
            late: Late::default(),
        }
    }

    /// For refusals that another thread comes upon.
    pub fn late(&self) -> Late {
        self.late.clone()
    }

    /// Take in what other threads came upon.
    pub fn take_late(&mut self) {
        let late = match self.late.0.lock() {
            Ok(mut all) => std::mem::take(&mut *all),
            Err(_) => Vec::new(),
        };
        for denial in late {
            self.denied(denial);
        }
    }

    /// Tell each process's first refusal of a kind before that process goes on: somebody asks what one process did.
    #[must_use]
    pub fn promptly(mut self, prompt: bool) -> Self {
        self.prompt = prompt;
        self
    }

    /// The way itself.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The way alone, of one that told nothing.
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// For `poll`.
    pub fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Queue one message; sends when enough wait.
    pub fn send(&mut self, event: &Event) {
        self.queue.push(wire::encode(event));
        if self.queue.len() >= BATCH {
            self.send_queued();
        }
    }

    /// Send one message at once, after all that wait.
    pub fn send_now(&mut self, event: &Event) {
        self.send(event);
        self.send_queued();
    }

    /// Something that tells from another thread; `None` when no descriptor is left.
    pub fn herald(&self) -> Option<Herald> {
        self.socket.try_clone().ok().map(Herald)
    }

    /// Whether messages wait.
    pub fn queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Send every message that waits, in order; waits until there is room. Ends this process when nobody is there to
    /// receive: without a supervisor nothing is recorded, so nothing may go on.
    pub fn send_queued(&mut self) {
        let messages = std::mem::take(&mut self.queue);
        let mut parts: Vec<libc::iovec> = messages
            .iter()
            .map(|m| libc::iovec {
                iov_base: m.as_ptr().cast_mut().cast(),
                iov_len: m.len(),
            })
            .collect();
        let mut headers: Vec<libc::mmsghdr> = parts
            .iter_mut()
            .map(|part| {
                // SAFETY: all-zero is a valid value of this plain structure.
                let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                header.msg_hdr.msg_iov = part;
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        let mut at = 0;
        while at < headers.len() {
            let rest = &mut headers[at..];
            // SAFETY: the headers describe `messages` through `parts`, which outlive the call.
            let sent = unsafe {
                libc::sendmmsg(
                    self.raw(),
                    rest.as_mut_ptr(),
                    rest.len() as u32,
                    libc::MSG_NOSIGNAL,
                )
            };
            match if sent < 0 {
                Err(Errno::last())
            } else {
                Ok(sent)
            } {
                Ok(sent) => at += sent as usize,
                Err(Errno::EINTR | Errno::EAGAIN | Errno::ENOBUFS) => {}
                Err(_) => std::process::exit(1),
            }
        }
    }

    /// A refusal happened.
    pub fn denied(&mut self, mut denial: Denial) {
        let pid = denial.pid;
        if !self.prompt {
            denial.pid = 0;
        }
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
        if self.prompt {
            self.send_queued();
        }
    }

    /// Whether counts wait to be sent.
    pub fn waiting(&self) -> bool {
        self.waiting
    }

    /// Queue all counts.
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
    fn promptly_each_process_is_told_of_at_once_and_then_counted() {
        let (ours, theirs) = pair();
        let mut events = Events::new(ours).promptly(true);
        for pid in [7, 7, 8] {
            events.denied(Denial {
                pid,
                ..denial("/w/x")
            });
        }
        let pids: Vec<i32> = std::iter::from_fn(|| receive(&theirs))
            .map(|event| match event {
                Event::Denied { denial, .. } => denial.pid,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(pids, [7, 8]);
        events.flush();
        events.send_queued();
        assert!(
            matches!(receive(&theirs), Some(Event::Denied { count: 1, denial, .. }) if denial.pid == 7)
        );
    }

    #[test]
    fn the_first_is_sent_at_once_and_the_same_again_is_counted() {
        let (ours, theirs) = pair();
        let mut events = Events::new(ours);
        for _ in 0..1000 {
            events.denied(denial("/x"));
        }
        events.denied(denial("/y"));
        events.send_queued();
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
        events.send_queued();
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
        events.send_queued();
        assert_eq!(reader.join().unwrap(), total as u64 * 2);
    }
}
