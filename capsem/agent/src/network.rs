//! The machine's network: what programs send anywhere, handed to the host a stream each (port 5002).
//!
//! Everything is decided by the host; in here connections are only taken in and carried. Refuses more than 256 streams at
//! once (further connections wait in the kernel), and resets what the host refuses or lets go of.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use crate::agent::{Agent, Place};
use crate::frame::{self, Frame};
use crate::message::Guest;
use crate::port::HIGH_WATER;
use crate::stream::Stream;
use crate::whose::{self, Owner};
use crate::{redirect, sys};

/// The port of the wire.
pub const NETWORK: u16 = 5002;
/// Where redirected connections arrive.
const RELAY: u16 = 15002;
const RESOLVER: u16 = 53;
/// The interface without a card behind it, its address, and the resolver that programs are told of.
const INTERFACE: &str = "dummy0";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
const RESOLV_CONF: &str = "nameserver 198.18.0.1\noptions timeout:10 attempts:2\n";
const STREAM_LIMIT: usize = 256;
/// Connections that wait in the kernel.
const BACKLOG: i32 = 1024;
/// Connections and questions taken in one turn.
const TURN: usize = 32;
/// Questions over TCP that are not whole yet.
const ASKING_LIMIT: usize = 32;
const QUESTION_LIMIT: usize = 4096;
/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug)]
enum Reply {
    Datagram(SocketAddr),
    Stream(TcpStream),
}

#[derive(Debug)]
struct Asked {
    question: Vec<u8>,
    to: Reply,
    until: Instant,
    said: bool,
}

#[derive(Debug)]
struct Asking {
    from: TcpStream,
    bytes: Vec<u8>,
    until: Instant,
}

/// What arrives from programs, and what of it waits for the host's word.
#[derive(Debug)]
pub struct Network {
    connections: TcpListener,
    resolver: TcpListener,
    questions: UdpSocket,
    waiting: BTreeMap<u32, TcpStream>,
    asked: BTreeMap<u32, Asked>,
    asking: BTreeMap<RawFd, Asking>,
    last: Option<u32>,
    /// The host does not read from here yet.
    held: bool,
}

impl Network {
    /// Brings the interfaces up and redirects to listeners of its own. Fails where the kernel lacks one of them.
    pub fn begin() -> Result<Self> {
        sys::net::up("lo")?;
        let connections = TcpListener::bind((Ipv4Addr::LOCALHOST, RELAY))?;
        let resolver = TcpListener::bind((Ipv4Addr::LOCALHOST, RESOLVER))?;
        let questions = UdpSocket::bind((Ipv4Addr::LOCALHOST, RESOLVER))?;
        connections.set_nonblocking(true)?;
        resolver.set_nonblocking(true)?;
        questions.set_nonblocking(true)?;
        sys::net::listener_backlog(connections.as_fd(), BACKLOG)?;
        redirect::apply(RELAY, RESOLVER)?;
        sys::net::address(INTERFACE, ADDRESS, MASK)?;
        sys::net::up(INTERFACE)?;
        sys::net::default_route(INTERFACE)?;
        Ok(Self {
            connections,
            resolver,
            questions,
            waiting: BTreeMap::new(),
            asked: BTreeMap::new(),
            asking: BTreeMap::new(),
            last: None,
            held: true,
        })
    }

    fn live(&self) -> usize {
        self.waiting.len() + self.asked.len()
    }

    fn owner(&mut self, table: &str, port: u16) -> Owner {
        let owner = whose::owner(table, port, self.last);
        self.last = owner.pid.or(self.last);
        owner
    }
}

/// Names the resolver to programs.
pub fn name_resolver() -> Result<()> {
    let place = "/etc/resolv.conf";
    // It may be a link to where another program would have written it.
    let _ = std::fs::remove_file(place);
    std::fs::write(place, RESOLV_CONF)
}

impl Agent {
    /// What to wait for.
    pub(crate) fn network_interests(&self, add: &mut impl FnMut(RawFd, i16, Place)) {
        let Some(network) = &self.network else {
            return;
        };
        for &fd in network.asking.keys() {
            add(fd, libc::POLLIN, Place::Asking(fd));
        }
        if !self.takes_connections() {
            return;
        }
        add(
            network.connections.as_raw_fd(),
            libc::POLLIN,
            Place::Connections,
        );
        add(
            network.questions.as_raw_fd(),
            libc::POLLIN,
            Place::Questions,
        );
        if network.asking.len() < ASKING_LIMIT {
            add(network.resolver.as_raw_fd(), libc::POLLIN, Place::Resolver);
        }
    }

    /// When a question has taken too long.
    pub(crate) fn network_deadline(&self) -> Option<Instant> {
        let network = self.network.as_ref()?;
        let asked = network.asked.values().map(|asked| asked.until);
        asked
            .chain(network.asking.values().map(|asking| asking.until))
            .min()
    }

    /// Ends what has taken too long.
    pub(crate) fn network_time(&mut self, now: Instant) {
        let Some(network) = &mut self.network else {
            return;
        };
        network.asking.retain(|_, asking| asking.until > now);
        let late: Vec<u32> = network
            .asked
            .iter()
            .filter_map(|(&number, asked)| (asked.until <= now).then_some(number))
            .collect();
        for number in late {
            network.asked.remove(&number);
            if let Some(port) = self.ports.get_mut(&NETWORK) {
                frame::write_reset(port.out(), number);
            }
        }
    }

    fn takes_connections(&self) -> bool {
        let Some(port) = self.ports.get(&NETWORK) else {
            return false;
        };
        let streams = self
            .streams
            .range((NETWORK, 0)..=(NETWORK, u32::MAX))
            .count();
        let live = self.network.as_ref().map_or(0, Network::live);
        // Where the host is away connections are taken too: they are reset.
        let heard = self.network.as_ref().is_none_or(|network| !network.held) || !port.connected();
        self.ready && heard && port.backlog() <= HIGH_WATER && streams + live < STREAM_LIMIT
    }

    fn hears_network(&self) -> bool {
        self.ports
            .get(&NETWORK)
            .is_some_and(crate::port::Port::connected)
    }

    /// The network while more may be taken from it, and whether the host hears of it.
    fn taking(&mut self) -> Option<(&mut Network, bool)> {
        if !self.takes_connections() {
            return None;
        }
        let heard = self.hears_network();
        self.network.as_mut().map(|network| (network, heard))
    }

    pub(crate) fn take_connections(&mut self) {
        for _ in 0..TURN {
            let Some((network, heard)) = self.taking() else {
                return;
            };
            let Ok((stream, SocketAddr::V4(from))) = network.connections.accept() else {
                return;
            };
            let target = sys::net::original_destination(stream.as_fd()).ok();
            // A connection to the agent's own port was redirected from nowhere and goes nowhere.
            let target = target.filter(|target| !target.ip().is_loopback() && heard);
            let (Some(target), Ok(())) = (target, stream.set_nonblocking(true)) else {
                sys::net::reset_at_close(stream.as_fd());
                continue;
            };
            let _ = stream.set_nodelay(true);
            let owner = network.owner("tcp", from.port());
            let number = self.open("tcp", Some(target), owner);
            if let Some(network) = &mut self.network {
                network.waiting.insert(number, stream);
            }
        }
    }

    pub(crate) fn take_questions(&mut self) {
        let mut question = [0; QUESTION_LIMIT];
        for _ in 0..TURN {
            let Some((network, heard)) = self.taking() else {
                return;
            };
            let (count, from) = match network.questions.recv_from(&mut question) {
                Ok(got) => got,
                // What an earlier answer could not reach is told by the next call.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
                Err(_) => return,
            };
            if count == 0 || !heard {
                continue;
            }
            let owner = network.owner("udp", from.port());
            self.ask(question[..count].to_vec(), Reply::Datagram(from), owner);
        }
    }

    pub(crate) fn take_resolver(&mut self) {
        let Some(network) = &mut self.network else {
            return;
        };
        while network.asking.len() < ASKING_LIMIT {
            let Ok((from, _)) = network.resolver.accept() else {
                return;
            };
            if from.set_nonblocking(true).is_ok() {
                let until = Instant::now() + PATIENCE;
                let bytes = Vec::new();
                network
                    .asking
                    .insert(from.as_raw_fd(), Asking { from, bytes, until });
            }
        }
    }

    // Two bytes of length, then the question (RFC 1035 §4.2.2). One question a connection.
    pub(crate) fn read_question(&mut self, fd: RawFd) {
        let heard = self.hears_network();
        let Some(network) = &mut self.network else {
            return;
        };
        let Some(asking) = network.asking.get_mut(&fd) else {
            return;
        };
        let mut into = [0; QUESTION_LIMIT];
        let over = match asking.from.read(&mut into) {
            Ok(0) => true,
            Ok(count) => {
                asking.bytes.extend_from_slice(&into[..count]);
                false
            }
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        };
        let length = match asking.bytes.as_slice() {
            [high, low, ..] => Some(usize::from(u16::from_be_bytes([*high, *low]))),
            _ => None,
        };
        let whole = length.is_some_and(|length| asking.bytes.len() >= 2 + length);
        if over || length.is_some_and(|length| length == 0 || length > QUESTION_LIMIT) {
            network.asking.remove(&fd);
        } else if whole
            && let Some(asking) = network.asking.remove(&fd)
            && heard
        {
            let question = asking.bytes[2..2 + length.unwrap_or(0)].to_vec();
            let port = asking.from.peer_addr().map_or(0, |from| from.port());
            let owner = network.owner("tcp", port);
            self.ask(question, Reply::Stream(asking.from), owner);
        }
    }

    fn ask(&mut self, question: Vec<u8>, to: Reply, owner: Owner) {
        let number = self.open("dns", None, owner);
        let until = Instant::now() + PATIENCE;
        if let Some(network) = &mut self.network {
            let said = false;
            network.asked.insert(
                number,
                Asked {
                    question,
                    to,
                    until,
                    said,
                },
            );
        }
    }

    fn open(&mut self, kind: &str, target: Option<SocketAddrV4>, owner: Owner) -> u32 {
        let last = self.opened.entry(NETWORK).or_insert(0);
        *last += 1;
        let stream = *last;
        self.say(
            NETWORK,
            &Guest::Open {
                stream,
                kind,
                address: target.map(|target| target.ip().to_string()),
                port: target.map(|target| target.port()),
                pid: owner.pid,
                uid: owner.uid,
                program: owner.program,
            },
        );
        stream
    }

    /// The host lets a stream go on.
    pub(crate) fn network_opened(&mut self, number: u32) {
        let Some(network) = &mut self.network else {
            return;
        };
        if let Some(asked) = network.asked.get_mut(&number).filter(|asked| !asked.said) {
            asked.said = true;
            if let Some(port) = self.ports.get_mut(&NETWORK) {
                frame::write_data(port.out(), number, &asked.question);
                frame::write_end(port.out(), number);
            }
        }
        if let Some(stream) = network.waiting.remove(&number) {
            let Ok(other) = stream.try_clone() else {
                sys::net::reset_at_close(stream.as_fd());
                if let Some(port) = self.ports.get_mut(&NETWORK) {
                    frame::write_reset(port.out(), number);
                }
                return;
            };
            let flows = Stream::over(stream.into(), other.into(), NETWORK);
            self.streams.insert((NETWORK, number), flows);
        }
    }

    /// The host refuses a stream, or lets go of it.
    pub(crate) fn network_refused(&mut self, number: u32) {
        let Some(network) = &mut self.network else {
            return;
        };
        network.asked.remove(&number);
        if let Some(stream) = network.waiting.remove(&number) {
            sys::net::reset_at_close(stream.as_fd());
        }
    }

    /// The host reads from here on.
    pub(crate) fn network_served(&mut self, port: u16) {
        if let Some(network) = self.network.as_mut().filter(|_| port == NETWORK) {
            network.held = false;
        }
    }

    /// Another conversation begins: nothing is sent before the host says that it reads.
    pub(crate) fn network_begins(&mut self) {
        let mut scratch = std::mem::take(&mut self.scratch);
        if let Some(port) = self
            .ports
            .get_mut(&NETWORK)
            .filter(|_| self.network.is_some())
        {
            port.start_over();
            port.drain(&mut scratch);
        }
        self.scratch = scratch;
    }

    /// Everything that goes on is over: the host is another one, or gone.
    pub(crate) fn network_over(&mut self) {
        if let Some(network) = &mut self.network {
            network.held = true;
            network.asked.clear();
            network.asking.clear();
            for (_, stream) in std::mem::take(&mut network.waiting) {
                sys::net::reset_at_close(stream.as_fd());
            }
        }
        let streams = self.streams.range((NETWORK, 0)..=(NETWORK, u32::MAX));
        for (_, stream) in streams {
            stream.reset_at_close();
        }
    }

    /// Takes a frame that answers a question; false: it is another stream's.
    pub(crate) fn network_answer(&mut self, number: u32, untrusted: &Frame) -> bool {
        let Some(network) = &mut self.network else {
            return false;
        };
        if !network.asked.contains_key(&number) {
            return false;
        }
        if matches!(untrusted, Frame::Credit { .. }) {
            return true;
        }
        if let (Frame::Data { content, .. }, Some(asked)) =
            (untrusted, network.asked.remove(&number))
        {
            // Whoever asked may be gone; then it asks again.
            match asked.to {
                Reply::Datagram(to) => {
                    let _ = network.questions.send_to(content, to);
                }
                Reply::Stream(mut to) => {
                    let length = u16::try_from(content.len()).unwrap_or(0);
                    let _ = to.write_all(&[&length.to_be_bytes(), content.as_slice()].concat());
                }
            }
        } else {
            network.asked.remove(&number);
        }
        true
    }
}
