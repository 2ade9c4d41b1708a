//! The network of a run that reaches hosts by name: every IPv4 address is the sandbox's own, and what listens there is
//! handed out.
//!
//! Runs in the first process while it still holds the namespace's capabilities. A connection to any address arrives at
//! a listener made here, and `getsockname` on it is the address that was meant. It refuses: TCP Fast Open, by which a
//! connection would begin without a `connect` that is seen.
//!
//! ```no_run
//! let sockets = capsule::sandbox::network::listeners(&[80, 443]).unwrap();
//! assert_eq!(sockets.len(), 4); // UDP 53, TCP 53, 80, 443
//! ```

use super::system::{self, check};
use super::{Fault, at};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Connections that wait for egress, at each port.
const BACKLOG: i32 = 1024;
/// Where names are resolved.
const NAMES: u16 = 53;
/// Bytes of a datagram that are seen: the longest IPv4 header, and the two ports.
pub const DATAGRAM_HEAD: u32 = 64;

/// A request of rtnetlink(7) with one attribute of four bytes, as the kernel lays it out.
#[repr(C)]
struct Request<B> {
    header: libc::nlmsghdr,
    body: B,
    attribute: libc::nlattr,
    value: [u8; 4],
}

/// `struct rtmsg` (linux/rtnetlink.h).
#[repr(C)]
struct RouteMessage {
    family: u8,
    destination_length: u8,
    source_length: u8,
    service: u8,
    table: u8,
    protocol: u8,
    scope: u8,
    kind: u8,
    flags: u32,
}

/// `struct ifaddrmsg` (linux/if_addr.h).
#[repr(C)]
struct AddressMessage {
    family: u8,
    prefix_length: u8,
    flags: u8,
    scope: u8,
    interface: u32,
}

/// `struct nlmsgerr` without the header it echoes.
#[repr(C)]
struct Answer {
    header: libc::nlmsghdr,
    error: i32,
}

/// The loopback interface is the first of every network namespace.
const LOOPBACK: u32 = 1;
/// The resolver's address, which `resolv.conf` names; the pool of names leaves it out.
const RESOLVER: [u8; 4] = [198, 18, 0, 1];

fn owned(result: i32) -> io::Result<OwnedFd> {
    let raw = check(result.into())?;
    // SAFETY: the call succeeded and returned a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(raw as i32) })
}

/// Send one request and wait for the kernel's word.
fn ask<B>(kind: u16, body: B, attribute: u16, value: [u8; 4]) -> io::Result<()> {
    let raw = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: plain integers.
    let socket = owned(unsafe { libc::socket(libc::AF_NETLINK, raw, libc::NETLINK_ROUTE) })?;
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_CREATE | libc::NLM_F_EXCL | libc::NLM_F_ACK;
    let request = Request {
        header: libc::nlmsghdr {
            nlmsg_len: size_of::<Request<B>>() as u32,
            nlmsg_type: kind,
            nlmsg_flags: flags as u16,
            nlmsg_seq: 1,
            nlmsg_pid: 0,
        },
        body,
        attribute: libc::nlattr {
            nla_len: 8,
            nla_type: attribute,
        },
        value,
    };
    // SAFETY: a plain structure without padding, of the length given.
    let sent = unsafe {
        libc::send(
            socket.as_raw_fd(),
            (&raw const request).cast(),
            size_of::<Request<B>>(),
            0,
        )
    };
    check(sent as libc::c_long)?;
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut answer: Answer = unsafe { std::mem::zeroed() };
    // SAFETY: the place has the length given; the kernel cuts off what is longer.
    let length = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            (&raw mut answer).cast(),
            size_of::<Answer>(),
            0,
        )
    };
    let length = check(length as libc::c_long)? as usize;
    if length < size_of::<Answer>() || i32::from(answer.header.nlmsg_type) != libc::NLMSG_ERROR {
        return Err(io::ErrorKind::InvalidData.into());
    }
    match answer.error {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)),
    }
}

/// `ip route add local 0.0.0.0/0 dev lo`: every address is here.
fn route_everything() -> io::Result<()> {
    let route = RouteMessage {
        family: libc::AF_INET as u8,
        destination_length: 0,
        source_length: 0,
        service: 0,
        table: libc::RT_TABLE_LOCAL,
        protocol: libc::RTPROT_BOOT,
        scope: libc::RT_SCOPE_HOST,
        kind: libc::RTN_LOCAL,
        flags: 0,
    };
    let interface = LOOPBACK.to_ne_bytes();
    ask(libc::RTM_NEWROUTE, route, libc::RTA_OIF, interface)
}

/// `ip addr add 198.18.0.1/32 dev lo`: who asks for IPv4 addresses under `AI_ADDRCONFIG` is given none where the host
/// has no address but 127.0.0.1 (getaddrinfo(3)). Of one address alone, so that no other gets another source by it.
fn be_configured() -> io::Result<()> {
    let address = AddressMessage {
        family: libc::AF_INET as u8,
        prefix_length: 32,
        flags: 0,
        scope: libc::RT_SCOPE_UNIVERSE,
        interface: LOOPBACK,
    };
    ask(libc::RTM_NEWADDR, address, libc::IFA_LOCAL, RESOLVER)
}

/// No connection begins within a `sendmsg`, which nobody sees. The setting is the network namespace's own.
fn forbid_fast_open() -> io::Result<()> {
    // The view's `/proc` is read-only, and rightly; this one is attached nowhere.
    let proc = system::unattached(c"proc")?;
    // SAFETY: a valid C string; the descriptor is open.
    let file = owned(unsafe {
        libc::openat(
            proc.as_raw_fd(),
            c"sys/net/ipv4/tcp_fastopen".as_ptr(),
            libc::O_WRONLY | libc::O_CLOEXEC,
        )
    })?;
    // SAFETY: one byte of constant memory.
    check(unsafe { libc::write(file.as_raw_fd(), b"0".as_ptr().cast(), 1) } as libc::c_long)
        .map(drop)
}

fn bound(kind: i32, port: u16) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain integers.
    let socket = owned(unsafe { libc::socket(libc::AF_INET, kind | flags, 0) })?;
    // SAFETY: all-zero is a valid address: any, port 0.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as libc::sa_family_t;
    address.sin_port = port.to_be();
    let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // No `SO_REUSEADDR`: the command must not put a socket of its own beside it.
    // SAFETY: a valid address of the size given.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) }.into())?;
    if kind == libc::SOCK_STREAM {
        // SAFETY: plain integers.
        check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) }.into())?;
    } else {
        let on = 1i32;
        let (level, name) = (libc::IPPROTO_IP, libc::IP_PKTINFO);
        // SAFETY: four bytes that outlive the call.
        let set =
            unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), 4) };
        check(set.into())?;
    }
    Ok(socket)
}

/// The filter of the socket that sees datagrams: their heads alone, and only those that nobody is meant to answer, and
/// questions for names. Left out: answers to these (from port 53, which no program inside can send from), and loopback.
fn datagram_filter() -> [libc::sock_filter; 9] {
    let step = |code: u32, taken: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt: taken,
        jf: 0,
        k,
    };
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let port = libc::BPF_LD | libc::BPF_IND | libc::BPF_H;
    [
        // X is the length of the IPv4 header; the ports follow it.
        step(libc::BPF_LDX | libc::BPF_MSH | libc::BPF_B, 0, 0),
        // From the resolver: on to the last step. To it: on to the one before.
        step(port, 0, 0),
        step(equal, 5, NAMES.into()),
        step(port, 0, 2),
        step(equal, 2, NAMES.into()),
        // The destination begins with 127.
        step(libc::BPF_LD | libc::BPF_ABS | libc::BPF_B, 0, 16),
        step(equal, 1, 127),
        step(libc::BPF_RET | libc::BPF_K, 0, DATAGRAM_HEAD),
        step(libc::BPF_RET | libc::BPF_K, 0, 0),
    ]
}

/// A socket that is given the head of every datagram that is sent here and that nobody inside is meant to answer. It
/// stays with the first process, which tells whose they are.
///
/// # Errors
/// The step that failed and why.
pub fn datagrams() -> Result<OwnedFd, Fault> {
    let told = at("network: see datagrams");
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain integers.
    let socket =
        owned(unsafe { libc::socket(libc::AF_INET, kind, libc::IPPROTO_UDP) }).map_err(&told)?;
    let mut steps = datagram_filter();
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the program describes `steps`, which outlives the call; the kernel copies both.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size,
        )
    };
    check(set.into()).map_err(&told)?;
    Ok(socket)
}

/// Lead every address to this namespace and listen: UDP 53, TCP 53, then each of `ports`.
///
/// # Errors
/// The step that failed and why.
pub fn listeners(ports: &[u16]) -> Result<Vec<OwnedFd>, Fault> {
    route_everything().map_err(at("network: lead every address here"))?;
    be_configured().map_err(at("network: have an address"))?;
    forbid_fast_open().map_err(at("network: forbid TCP Fast Open"))?;
    let names = [(libc::SOCK_DGRAM, NAMES), (libc::SOCK_STREAM, NAMES)];
    let streams = ports.iter().map(|port| (libc::SOCK_STREAM, *port));
    names
        .into_iter()
        .chain(streams)
        .map(|(kind, port)| {
            bound(kind, port)
                .map_err(|error| Fault::new(format!("network: listen at port {port}"), error))
        })
        .collect()
}
