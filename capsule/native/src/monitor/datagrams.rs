//! Datagrams that no call named: sent over a connected socket, or in a `sendmsg` with an address.
//!
//! In a network where every address leads here they reach nobody, and the kernel says so to who sent them; or the resolver,
//! when they are questions for names. A raw socket is given the head of each (`sandbox::network`); the program is known
//! from its `connect` or `sendto`, else by who holds the socket of that port now. What it refuses: to look for more holders than [`LOOKS`] a second, so that a flood does not hold up
//! calls that wait; beyond it, and when the program is gone, the record names no program. When more come than are read,
//! the kernel drops some, and their count is too low.

use super::events::now;
use super::wire::{Denial, Layer, Operation, text};
use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

/// Connected sockets that are remembered.
const MOST: usize = 1024;
/// Datagrams that are told before calls are answered again.
const TURN: usize = 64;
/// Times a second that the holder of a port is looked for.
const LOOKS: u32 = 16;
const SECOND: u64 = 1_000_000;
/// Microseconds for which who asks for names from a port is taken to be who asked last.
const SAME: u64 = 30 * SECOND;

type Who = (i32, String);

/// A datagram that was seen.
#[derive(Debug)]
pub enum Seen {
    /// It reached nobody.
    Refused(Denial),
    /// A question for a name, of which nothing else tells whose it is.
    Asked {
        /// Who holds the socket.
        pid: i32,
        /// Its program.
        program: String,
        /// Where it was sent from, `ip:port`.
        source: String,
        /// The resolver, as it was addressed.
        target: String,
    },
}

/// What is known of datagrams.
#[derive(Debug)]
pub struct Datagrams {
    socket: Option<OwnedFd>,
    known: HashMap<(String, String), Who>,
    order: VecDeque<(String, String)>,
    looked: (u64, u32),
    askers: HashMap<String, (i32, u64)>,
}

impl Datagrams {
    /// With the socket that sees them; without one there are none to see.
    pub fn new(socket: Option<OwnedFd>) -> Self {
        Self {
            socket,
            known: HashMap::new(),
            order: VecDeque::new(),
            looked: (0, 0),
            askers: HashMap::new(),
        }
    }

    /// For `poll`; -1 without a socket.
    pub fn raw(&self) -> RawFd {
        self.socket.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// A datagram socket was connected; both ends as `ip:port`.
    pub fn expect(&mut self, source: String, target: String, pid: i32, program: String) {
        let key = (source, target);
        if self.known.insert(key.clone(), (pid, program)).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether this process was not yet known to ask for names from there; `at` in microseconds.
    pub fn asks_first(&mut self, source: &str, pid: i32, at: u64) -> bool {
        if self.askers.len() >= MOST && !self.askers.contains_key(source) {
            self.askers.clear(); // they are told once more
        }
        let before = self.askers.insert(source.to_owned(), (pid, at));
        before.is_none_or(|(known, _)| known != pid)
    }

    /// Whether somebody has just been told of who asks for names from there.
    fn is_told(&self, source: &SocketAddrV4, at: u64) -> bool {
        let loose = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, source.port());
        [source.to_string(), loose.to_string()].iter().any(|key| {
            let known = self.askers.get(key);
            known.is_some_and(|(_, told)| at.saturating_sub(*told) < SAME)
        })
    }

    /// Who asks for a name from there, when it is to be told.
    fn asked(&mut self, source: &SocketAddrV4, target: &SocketAddrV4, at: u64) -> Option<Seen> {
        if self.is_told(source, at) || !self.may_look(at / SECOND) {
            return None;
        }
        let (pid, program) = holder(&socket_of(source.port())?)?;
        let source = source.to_string();
        self.asks_first(&source, pid, at).then(|| Seen::Asked {
            pid,
            program,
            source,
            target: target.to_string(),
        })
    }

    /// What was sent since and is to be told, a bounded number at a time.
    pub fn read(&mut self) -> Vec<Seen> {
        let mut found = Vec::new();
        let mut head = [0u8; 64];
        for _ in 0..TURN {
            let Some(socket) = &self.socket else {
                break;
            };
            // SAFETY: the kernel writes at most the length given to `head`, which outlives the call.
            let got = unsafe {
                libc::recv(
                    socket.as_raw_fd(),
                    head.as_mut_ptr().cast(),
                    head.len(),
                    libc::MSG_DONTWAIT,
                )
            };
            let Ok(length) = usize::try_from(got) else {
                break; // there is none, or a signal came
            };
            let Some((source, target)) = ends(&head[..length.min(head.len())]) else {
                continue;
            };
            if target.port() == super::internet::NAMES {
                found.extend(self.asked(&source, &target, now()));
            } else {
                let (pid, program) = self.who(&source, &target).unwrap_or_default();
                found.push(Seen::Refused(refusal(pid, program, &target)));
            }
        }
        found
    }

    fn may_look(&mut self, second: u64) -> bool {
        if self.looked.0 != second {
            self.looked = (second, 0);
        }
        self.looked.1 += 1;
        self.looked.1 <= LOOKS
    }

    fn who(&mut self, source: &SocketAddrV4, target: &SocketAddrV4) -> Option<Who> {
        let key = (source.to_string(), target.to_string());
        if let Some(who) = self.known.get(&key) {
            return Some(who.clone());
        }
        if !self.may_look(now() / SECOND) {
            return None;
        }
        let who = holder(&socket_of(source.port())?)?;
        self.expect(key.0, key.1, who.0, who.1.clone());
        Some(who)
    }
}

/// Where a datagram came from and where it was sent; `None` when the head is not that of UDP over IPv4.
fn ends(untrusted_head: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4)> {
    let first = *untrusted_head.first()?;
    let length = usize::from(first & 0xf) * 4;
    if first >> 4 != 4 || length < 20 || *untrusted_head.get(9)? != libc::IPPROTO_UDP as u8 {
        return None;
    }
    let address = |at: usize| -> Option<Ipv4Addr> {
        let bytes: [u8; 4] = untrusted_head.get(at..at + 4)?.try_into().ok()?;
        Some(bytes.into())
    };
    let port = |at: usize| -> Option<u16> {
        let bytes: [u8; 2] = untrusted_head.get(at..at + 2)?.try_into().ok()?;
        Some(u16::from_be_bytes(bytes))
    };
    Some((
        SocketAddrV4::new(address(12)?, port(length)?),
        SocketAddrV4::new(address(16)?, port(length + 2)?),
    ))
}

fn refusal(pid: i32, program: String, target: &SocketAddrV4) -> Denial {
    Denial {
        program,
        pid,
        operation: Operation::Send,
        syscall: "send".to_owned(),
        target: format!("udp:{target}"),
        layer: Layer::Network,
        errno: "ECONNREFUSED".to_owned(),
        rule: None,
        allow: None,
        probe: false,
    }
}

/// `socket:[INODE]` of the datagram socket at a local port.
fn socket_of(port: u16) -> Option<String> {
    let table = std::fs::read_to_string("/proc/self/net/udp").ok()?;
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let inode = fields.nth(7)?;
        local
            .ends_with(&suffix)
            .then(|| format!("socket:[{inode}]"))
    })
}

/// The first process that holds a socket, and its program.
fn holder(socket: &str) -> Option<Who> {
    let numbers = std::fs::read_dir("/proc").ok()?.flatten();
    numbers
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != 1)
        .find(|pid| {
            let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"));
            descriptors.is_ok_and(|all| {
                all.flatten()
                    .filter_map(|one| std::fs::read_link(one.path()).ok())
                    .any(|name| name.as_os_str() == socket)
            })
        })
        .map(|pid| {
            let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            (pid, text(program.as_os_str().as_bytes()))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(options: usize, protocol: u8) -> Vec<u8> {
        let mut bytes = vec![
            0x45 + options as u8,
            0,
            0,
            28,
            0,
            0,
            0,
            0,
            64,
            protocol,
            0,
            0,
        ];
        bytes.extend([127, 0, 0, 1, 203, 0, 113, 7]);
        bytes.extend(vec![0; options * 4]);
        bytes.extend([0x9c, 0x40, 0x01, 0xbb, 0, 8, 0, 0]);
        bytes
    }

    #[test]
    fn ends_are_read_behind_any_options() {
        for options in [0, 3, 10] {
            let (source, target) = ends(&head(options, 17)).unwrap();
            assert_eq!(source.to_string(), "127.0.0.1:40000");
            assert_eq!(target.to_string(), "203.0.113.7:443");
        }
    }

    #[test]
    fn who_asks_for_names_is_told_once_and_again_when_it_is_another() {
        let mut datagrams = Datagrams::new(None);
        assert!(datagrams.asks_first("0.0.0.0:4000", 7, 1));
        assert!(!datagrams.asks_first("0.0.0.0:4000", 7, 2));
        assert!(datagrams.asks_first("0.0.0.0:4000", 8, 3));
        for port in 0..2 * MOST {
            assert!(datagrams.asks_first(&format!("0.0.0.0:{port}"), 9, 4));
        }
        assert!(datagrams.askers.len() <= MOST);
    }

    #[test]
    fn who_asks_by_a_call_that_nobody_saw_is_looked_for_once_in_a_while() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let std::net::SocketAddr::V4(source) = socket.local_addr().unwrap() else {
            unreachable!("bound to IPv4")
        };
        let target: SocketAddrV4 = "198.18.0.1:53".parse().unwrap();
        let me = std::process::id() as i32;
        let mut datagrams = Datagrams::new(None);
        let asked = datagrams.asked(&source, &target, SAME);
        assert!(matches!(asked, Some(Seen::Asked { pid, .. }) if pid == me));
        assert!(datagrams.asked(&source, &target, SAME + 1).is_none());
        // The same again is not told; another who has that port now is.
        assert!(datagrams.asked(&source, &target, 3 * SAME).is_none());
        datagrams.askers.insert(source.to_string(), (me + 1, 0));
        assert!(datagrams.asked(&source, &target, 5 * SAME).is_some());
        // By its port alone, where a `sendto` told of it.
        let mut told = Datagrams::new(None);
        let loose = format!("0.0.0.0:{}", source.port());
        assert!(told.asks_first(&loose, me, SAME));
        assert!(told.asked(&source, &target, SAME + 1).is_none());
    }

    #[test]
    fn what_is_not_the_head_of_a_datagram_says_nothing() {
        assert_eq!(ends(&head(0, 6)), None);
        for length in 0..24 {
            assert_eq!(ends(&head(0, 17)[..length]), None, "{length}");
        }
        let mut six = head(0, 17);
        six[0] = 0x65;
        assert_eq!(ends(&six), None);
        six[0] = 0x44;
        assert_eq!(ends(&six), None);
    }

    #[test]
    fn connected_sockets_are_remembered_up_to_a_bound() {
        let mut datagrams = Datagrams::new(None);
        for number in 0..2 * MOST {
            let source = format!("127.0.0.1:{number}");
            datagrams.expect(source, "203.0.113.7:443".into(), 7, "/bin/x".into());
        }
        assert_eq!(datagrams.known.len(), MOST);
        let target: SocketAddrV4 = "203.0.113.7:443".parse().unwrap();
        let last = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 2 * MOST as u16 - 1);
        assert_eq!(datagrams.who(&last, &target), Some((7, "/bin/x".into())));
        assert_eq!(datagrams.raw(), -1);
        assert!(datagrams.read().is_empty());
    }

    #[test]
    fn who_holds_a_port_is_found_and_a_flood_is_not_looked_up() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let std::net::SocketAddr::V4(source) = socket.local_addr().unwrap() else {
            unreachable!("bound to IPv4")
        };
        let name = socket_of(source.port()).unwrap();
        assert_eq!(holder(&name).unwrap().0, std::process::id() as i32);
    }

    #[test]
    fn a_flood_is_not_looked_up() {
        let mut datagrams = Datagrams::new(None);
        let looks = |datagrams: &mut Datagrams, second| {
            (0..3 * LOOKS)
                .filter(|_| datagrams.may_look(second))
                .count()
        };
        assert_eq!(looks(&mut datagrams, 7), LOOKS as usize);
        assert_eq!(looks(&mut datagrams, 8), LOOKS as usize);
    }
}
