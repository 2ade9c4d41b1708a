//! Internet addresses: which of them a socket may be connected to, and who is told.
//!
//! Where hosts are reached by name, every IPv4 address leads to listeners of ours: a connection there is performed as
//! asked, and the supervisor hears whose it is and from which port. Datagram sockets may be connected anywhere, because
//! resolvers compare addresses so, and nothing answers there. What it refuses: every other address and port, IPv6
//! beyond loopback, datagrams to anything but a resolver. What it does not see: datagrams that are sent over a connected
//! socket; in this network they reach nobody.

use super::address::Address;
use super::broker::{Broker, Outcome};
use super::caller::Caller;
use super::dial::dial;
use super::errno::Errno;
use super::events::now;
use super::sockets::{Socket, call, nonblocking, refuse, scheme};
use super::sys;
use super::wire::{Event, Operation, Target, text};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// Where names are resolved.
const NAMES: u16 = 53;
/// Bytes of arguments that are told.
const MOST_ARGUMENTS: u64 = 4096;

/// What the command's network is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// The host's, and every address is refused.
    Closed,
    /// A namespace with nothing but loopback.
    Apart,
    /// A namespace where every IPv4 address leads to listeners at these ports.
    Hosts(Vec<u16>),
    /// The host's, and every address may be asked for.
    Open,
}

impl Network {
    /// Whether it is a namespace of the command's own.
    pub fn apart(&self) -> bool {
        matches!(self, Self::Apart | Self::Hosts(_))
    }

    /// What a socket of this `SOCK_*` kind reaches at an address.
    fn at(&self, to: &Address, kind: i32) -> Reach {
        let Address::Internet(ip, port) = to else {
            return Reach::Nothing;
        };
        let (stream, datagram) = (kind == libc::SOCK_STREAM, kind == libc::SOCK_DGRAM);
        match self {
            Self::Closed => Reach::Nothing,
            Self::Open => Reach::Outside,
            Self::Hosts(ports) if stream && ip.is_ipv4() && ports.contains(port) => Reach::Egress,
            Self::Hosts(_) if (stream || datagram) && ip.is_ipv4() && *port == NAMES => {
                Reach::Inside
            }
            Self::Hosts(_) if datagram && ip.is_ipv4() => Reach::Silence,
            _ if to.is_loopback() => Reach::Inside,
            _ => Reach::Nothing,
        }
    }

    /// Whether a datagram may be sent to an address.
    pub fn takes_datagram(&self, to: &Address) -> bool {
        matches!(
            self.at(to, libc::SOCK_DGRAM),
            Reach::Inside | Reach::Outside
        )
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Reach {
    /// Something of the sandbox's own, or the resolver.
    Inside,
    /// A listener whose connections go to egress.
    Egress,
    /// Nobody; but a socket may be connected, to see from which address it would go.
    Silence,
    /// The host's network.
    Outside,
    /// May not be asked for.
    Nothing,
}

/// `connect` to an internet address.
///
/// # Errors
/// As the kernel, or `EACCES`, reported.
pub fn connect(
    broker: &mut Broker,
    caller: Caller,
    number: i32,
    socket: Socket,
    bytes: Vec<u8>,
    to: &Address,
) -> Outcome {
    let Address::Internet(ip, port) = *to else {
        return Err(Errno::EINVAL);
    };
    let target = format!("{}:{to}", scheme(&socket));
    let stream = socket.kind == libc::SOCK_STREAM;
    if to.is_loopback() && stream && broker.sockets.ports.contains(&port) {
        let v6 = ip.is_ipv6();
        return dial(
            broker,
            caller,
            number,
            &socket,
            target,
            Target::Tcp { port, v6 },
        );
    }
    let witness = match broker.sockets.network.at(to, socket.kind) {
        Reach::Nothing => {
            let allow = would_allow(&broker.sockets.network, to, stream);
            return Err(refuse(broker, &caller, Operation::Connect, target, allow));
        }
        Reach::Inside | Reach::Silence => Witness::Nobody,
        Reach::Egress => Witness::Flow {
            pid: caller.process(),
            program: text(&caller.program()),
            argv: arguments(&caller),
            target: to.to_string(),
        },
        Reach::Outside => Witness::Connect {
            pid: caller.process(),
            program: text(&caller.program()),
            target,
        },
    };
    broker.confirm(&caller)?;
    if nonblocking(&socket.fd) || socket.kind == libc::SOCK_DGRAM {
        let outcome = call(libc::SYS_connect, &socket.fd, &bytes);
        if let Some(event) = witness.event(&socket.fd, &outcome) {
            broker.events.send_now(&event);
        }
        return outcome;
    }
    let herald = match witness {
        Witness::Nobody => None,
        _ => Some(broker.events.herald().ok_or(Errno::EMFILE)?),
    };
    let listener = Arc::clone(&broker.listener);
    broker.workers.start(&listener, caller, move || {
        let outcome = call(libc::SYS_connect, &socket.fd, &bytes);
        if let (Some(herald), Some(event)) = (herald, witness.event(&socket.fd, &outcome)) {
            herald.tell(&event);
        }
        outcome
    })
}

/// The line of a policy that would allow it, as far as the address tells.
fn would_allow(network: &Network, to: &Address, stream: bool) -> Option<String> {
    let Address::Internet(ip, port) = to else {
        return None;
    };
    if !stream {
        return None;
    }
    if to.is_loopback() {
        return Some(format!("network: ports: [{port}]"));
    }
    match (network, ip) {
        // The name that the address stands for is known to egress alone.
        (Network::Hosts(_), IpAddr::V4(ip)) if stands_for_a_name(*ip) => {
            Some(format!("network: hosts: [{{host: …, ports: [{port}]}}]"))
        }
        (Network::Hosts(_), IpAddr::V4(ip)) => {
            Some(format!("network: hosts: [{{host: {ip}, ports: [{port}]}}]"))
        }
        _ => None,
    }
}

/// Addresses that egress answers names with: 198.18.0.0/15 (RFC 2544).
fn stands_for_a_name(ip: Ipv4Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 198 && matches!(second, 18 | 19)
}

/// What is told of a connection once it has begun.
enum Witness {
    Nobody,
    Flow {
        pid: i32,
        program: String,
        argv: Vec<String>,
        target: String,
    },
    Connect {
        pid: i32,
        program: String,
        target: String,
    },
}

impl Witness {
    fn event(self, socket: &OwnedFd, outcome: &Outcome) -> Option<Event> {
        let errno = match outcome {
            Ok(_) | Err(Errno::EINPROGRESS) => None,
            Err(errno) => Some(errno.name()),
        };
        let mono = now();
        match self {
            Self::Nobody => None,
            // A connection that did not begin has no port to be known by.
            Self::Flow { .. } if errno.is_some() => None,
            Self::Flow {
                pid,
                program,
                argv,
                target,
            } => Some(Event::Egress {
                mono,
                pid,
                program,
                argv,
                source: source(socket)?,
                target,
            }),
            Self::Connect {
                pid,
                program,
                target,
            } => Some(Event::Connect {
                mono,
                pid,
                program,
                target,
                errno,
            }),
        }
    }
}

/// Where a socket's connection comes from.
fn source(socket: &OwnedFd) -> Option<String> {
    let mut bytes = [0u8; 28];
    let mut length = bytes.len() as u32;
    let (at, size) = (bytes.as_mut_ptr() as u64, &raw mut length as u64);
    let arguments = [socket.as_raw_fd() as u64, at, size, 0, 0, 0];
    // SAFETY: the kernel writes at most the length given to `bytes`; both outlive the call.
    unsafe { sys::raw(libc::SYS_getsockname, arguments) }.ok()?;
    let length = (length as usize).min(bytes.len());
    let address = Address::parse(&bytes[..length], libc::AF_INET).ok()?;
    Some(address.to_string())
}

/// The caller's arguments, as far as they are told.
fn arguments(caller: &Caller) -> Vec<String> {
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;
    let name = caller.proc("cmdline");
    let mut bytes = Vec::new();
    // A caller that is gone has none; `confirm` says so next.
    if let Ok(file) = std::fs::File::open(std::ffi::OsStr::from_bytes(name.to_bytes())) {
        let _ = file.take(MOST_ARGUMENTS).read_to_end(&mut bytes);
    }
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|byte| *byte == 0).map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        let parsed: std::net::SocketAddr = text.parse().unwrap();
        Address::Internet(parsed.ip(), parsed.port())
    }

    fn reach(network: &Network, kind: i32, to: &str) -> Reach {
        network.at(&address(to), kind)
    }

    #[test]
    fn where_hosts_are_reached_by_name_listed_ports_lead_to_egress() {
        let hosts = Network::Hosts(vec![80, 443]);
        let stream = |to| reach(&hosts, libc::SOCK_STREAM, to);
        assert_eq!(stream("198.18.0.5:443"), Reach::Egress);
        assert_eq!(stream("8.8.8.8:80"), Reach::Egress);
        assert_eq!(stream("127.0.0.1:443"), Reach::Egress);
        assert_eq!(stream("127.0.0.1:8000"), Reach::Inside);
        assert_eq!(stream("8.8.8.8:53"), Reach::Inside);
        for to in [
            "198.18.0.5:22",
            "8.8.8.8:0",
            "[2001:db8::1]:443",
            "[::2]:53",
        ] {
            assert_eq!(stream(to), Reach::Nothing, "{to}");
        }
        assert_eq!(stream("[::1]:443"), Reach::Inside);
    }

    #[test]
    fn datagrams_go_to_resolvers_and_nowhere_else() {
        let hosts = Network::Hosts(vec![443]);
        let datagram = |to| reach(&hosts, libc::SOCK_DGRAM, to);
        assert_eq!(datagram("8.8.8.8:53"), Reach::Inside);
        assert_eq!(datagram("8.8.8.8:443"), Reach::Silence);
        assert_eq!(datagram("[2001:db8::1]:53"), Reach::Nothing);
        assert!(hosts.takes_datagram(&address("1.1.1.1:53")));
        assert!(!hosts.takes_datagram(&address("1.1.1.1:443")));
        assert!(!Network::Apart.takes_datagram(&address("1.1.1.1:53")));
        assert!(Network::Open.takes_datagram(&address("1.1.1.1:443")));
        assert!(!Network::Closed.takes_datagram(&address("127.0.0.1:53")));
        assert_eq!(reach(&hosts, libc::SOCK_RAW, "8.8.8.8:53"), Reach::Nothing);
    }

    #[test]
    fn a_refusal_names_the_line_that_would_allow_it() {
        let hosts = Network::Hosts(vec![443]);
        let line = |to: &str, stream| would_allow(&hosts, &address(to), stream);
        assert_eq!(
            line("10.1.2.3:22", true).unwrap(),
            "network: hosts: [{host: 10.1.2.3, ports: [22]}]"
        );
        assert_eq!(
            line("198.19.0.1:22", true).unwrap(),
            "network: hosts: [{host: …, ports: [22]}]"
        );
        assert_eq!(line("10.1.2.3:22", false), None);
        assert_eq!(line("[2001:db8::1]:443", true), None);
        assert_eq!(
            would_allow(&Network::Apart, &address("10.1.2.3:22"), true),
            None
        );
    }
}
