//! Internet addresses: which of them a socket may be connected to, and who is told.
//!
//! Where hosts are reached by name, every IPv4 address leads to listeners of ours: a connection there is performed as
//! asked, and the supervisor hears whose it is and from which port. Datagram sockets may be connected anywhere, because
//! resolvers compare addresses so, and nothing answers there. What it refuses: every other address and port, IPv6
//! beyond loopback, datagrams to anything but a resolver. A loopback port where nobody listens inside may be one of the
//! host's that the plan does not name: that is told as a refusal too. What is sent over a connected socket reaches
//! nobody, and is seen by `datagrams`.

use super::address::Address;
use super::broker::{Broker, Outcome};
use super::caller::Caller;
use super::dial::dial;
use super::errno::Errno;
use super::events::now;
use super::sockets::{Socket, call, nonblocking, refuse, scheme};
use super::sys;
use super::wire::{Denial, Event, Layer, Operation, Target, text};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Where names are resolved.
pub(super) const NAMES: u16 = 53;
/// Bytes of arguments that are told.
const MOST_ARGUMENTS: u64 = 4096;

/// How long loopback is waited for, in milliseconds, where the caller does not want to wait.
const ANSWER_MS: i32 = 5;

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
                Reach::Names
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
            Reach::Inside | Reach::Names | Reach::Outside
        )
    }

    /// Whether what is sent there is a question for a name.
    pub fn answers_names(&self, to: &Address) -> bool {
        matches!(self.at(to, libc::SOCK_DGRAM), Reach::Names)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Reach {
    /// Something of the sandbox's own.
    Inside,
    /// The resolver, which is egress.
    Names,
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
        Reach::Silence => Witness::Silence {
            pid: caller.process(),
            program: text(&caller.program()),
            target: to.to_string(),
        },
        Reach::Inside => Witness::Nobody,
        Reach::Egress | Reach::Names => Witness::Flow {
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
    let apart = broker.sockets.network.apart() && to.is_loopback() && stream;
    if nonblocking(&socket.fd) || socket.kind == libc::SOCK_DGRAM {
        let outcome = call(libc::SYS_connect, &socket.fd, &bytes);
        if apart && reached_nobody(&socket.fd, &outcome) {
            let missed = missed(broker, &caller, to);
            broker.events.denied(missed);
        }
        if let Witness::Silence {
            pid,
            program,
            target,
        } = witness
        {
            if let (Ok(_), Some(source)) = (&outcome, source(&socket.fd)) {
                broker.datagrams.expect(source, target, pid, program);
            }
        } else if let Some(event) = witness.event(&socket.fd, &outcome) {
            if let (libc::SOCK_DGRAM, Event::Egress { source, pid, .. }) = (socket.kind, &event) {
                broker.datagrams.asks_first(source, *pid, now()); // it is told here, whoever was before
            }
            broker.events.send_now(&event);
        }
        return outcome;
    }
    let herald = match witness {
        Witness::Nobody => None,
        _ => Some(broker.events.herald().ok_or(Errno::EMFILE)?),
    };
    let listener = Arc::clone(&broker.listener);
    let late = apart.then(|| (missed(broker, &caller, to), broker.events.late()));
    broker.workers.start(&listener, caller, move || {
        let outcome = call(libc::SYS_connect, &socket.fd, &bytes);
        if let Some((missed, late)) = late
            && reached_nobody(&socket.fd, &outcome)
        {
            late.push(missed);
        }
        if let (Some(herald), Some(event)) = (herald, witness.event(&socket.fd, &outcome)) {
            herald.tell(&event);
        }
        outcome
    })
}

/// Tells who sent a question for a name over a socket that is not connected, once for each socket and process.
pub fn asked_for_a_name(broker: &mut Broker, caller: &Caller, socket: &OwnedFd, to: &Address) {
    let Some(source) = source(socket) else {
        return;
    };
    let (pid, at) = (caller.process(), now());
    if broker.datagrams.asks_first(&source, pid, at) {
        broker.events.send_now(&Event::Egress {
            mono: at,
            pid,
            program: text(&caller.program()),
            argv: arguments(caller),
            source,
            target: to.to_string(),
        });
    }
}

/// Whether a connection to loopback ended at once because nobody listens. Asking must not take the socket's error away.
pub fn reached_nobody(socket: &OwnedFd, outcome: &Outcome) -> bool {
    match outcome {
        Err(Errno::ECONNREFUSED) => true,
        Err(Errno::EINPROGRESS) => {
            let mut one = libc::pollfd {
                fd: socket.as_raw_fd(),
                events: libc::POLLOUT,
                revents: 0,
            };
            // Loopback answers within moments; a listener that is busy is one.
            // SAFETY: one valid entry that outlives the call.
            unsafe {
                libc::poll(&raw mut one, 1, ANSWER_MS) == 1 && one.revents & libc::POLLERR != 0
            }
        }
        _ => false,
    }
}

/// The refusal that it is to meet nobody inside.
pub fn missed(broker: &mut Broker, caller: &Caller, to: &Address) -> Denial {
    let internet = matches!(to, Address::Internet(..));
    Denial {
        program: text(&caller.program()),
        pid: caller.process(),
        operation: Operation::Connect,
        syscall: broker.table.name(caller.call.number),
        target: format!("{}:{to}", if internet { "tcp" } else { "unix" }),
        layer: Layer::Network,
        errno: Errno::ECONNREFUSED.name(),
        rule: None,
        allow: would_allow(&broker.sockets.network, to, true),
        probe: false,
    }
}

/// What lets a name be looked up, and what it stands for be reached.
pub(super) const ANY_NAME: &str = "network: hosts: [NAME]";

/// The line of a policy that would allow it, as far as the address tells.
fn would_allow(network: &Network, to: &Address, stream: bool) -> Option<String> {
    let Address::Internet(ip, port) = to else {
        return None;
    };
    if *port == NAMES && !to.is_loopback() && !matches!(network, Network::Hosts(_)) {
        // Which name, only the question says; who asks one means to go there.
        return Some(ANY_NAME.to_owned());
    }
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
        (Network::Hosts(_) | Network::Apart, IpAddr::V4(ip)) => {
            let private = if ip.is_private() || ip.is_link_local() {
                ", private: true"
            } else {
                ""
            };
            Some(format!(
                "network: hosts: [{{host: {ip}, ports: [{port}]{private}}}]"
            ))
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
    /// Told when it sends something.
    Silence {
        pid: i32,
        program: String,
        target: String,
    },
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
            Self::Nobody | Self::Silence { .. } => None,
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

/// The caller's arguments, as far as they are told. A caller that is gone has none; `confirm` says so next.
fn arguments(caller: &Caller) -> Vec<String> {
    use std::os::unix::ffi::OsStrExt;
    let name = caller.proc("cmdline");
    arguments_in(Path::new(std::ffi::OsStr::from_bytes(name.to_bytes())))
}

/// Arguments as a `/proc/PID/cmdline` has them, as far as they are told; none when that is gone.
pub(super) fn arguments_in(path: &Path) -> Vec<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
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
        assert_eq!(stream("8.8.8.8:53"), Reach::Names);
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
        assert_eq!(datagram("8.8.8.8:53"), Reach::Names);
        assert!(hosts.answers_names(&address("8.8.8.8:53")));
        assert!(!hosts.answers_names(&address("8.8.8.8:443")));
        assert!(!Network::Open.answers_names(&address("8.8.8.8:53")));
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
            "network: hosts: [{host: 10.1.2.3, ports: [22], private: true}]"
        );
        assert_eq!(
            line("198.19.0.1:22", true).unwrap(),
            "network: hosts: [{host: …, ports: [22]}]"
        );
        assert_eq!(line("10.1.2.3:22", false), None);
        assert_eq!(line("[2001:db8::1]:443", true), None);
        // Without hosts who asks a resolver wants a name, whichever way it asks.
        for (network, stream) in [
            (Network::Apart, false),
            (Network::Apart, true),
            (Network::Closed, false),
        ] {
            let asked = would_allow(&network, &address("10.255.255.53:53"), stream);
            assert_eq!(asked.unwrap(), "network: hosts: [NAME]");
        }
        assert_eq!(
            would_allow(&Network::Apart, &address("10.0.0.1:54"), false),
            None
        );
        let apart = would_allow(&Network::Apart, &address("192.0.2.1:443"), true);
        assert_eq!(
            apart.unwrap(),
            "network: hosts: [{host: 192.0.2.1, ports: [443]}]"
        );
        let closed = would_allow(&Network::Closed, &address("10.1.2.3:22"), true);
        assert_eq!(closed, None);
    }
}
