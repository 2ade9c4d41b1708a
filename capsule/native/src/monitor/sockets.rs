//! `connect`, `bind`, `sendto`, `socket`: performed on a copy of the caller's socket, with our copy of the address.
//!
//! Inside, only the sandbox's own loopback and the sockets bound inside can be reached, beside what `internet` lets pass. Ports and sockets of the host
//! that the plan names are dialled by the supervisor, and the connected descriptor takes the place of the caller's.
//! What it refuses: every other address, Unix sockets of the host that happen to lie in a readable directory, Unix
//! datagram sockets (each message could name another address), TCP Fast Open.

use super::address::{Address, LONGEST};
use super::broker::{Answer, Broker, Outcome};
use super::caller::{Base, Caller};
use super::dial::dial_path;
use super::errno::Errno;
use super::internet::{self, Network, asked_for_a_name};
use super::resolve::Object;
use super::sys;
use super::wire::{Denial, Layer, Operation, text};
use crate::plan::{Kind, Verdict, Want, bracketed};
use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

/// Sockets bound inside that are remembered (each pins its inode), and bytes of one datagram.
const MOST_BOUND: usize = 512;
const LONGEST_DATAGRAM: u64 = 256 * 1024;

/// What is known about sockets.
#[derive(Debug)]
pub struct Sockets {
    /// Host ports that may be dialled.
    pub ports: Vec<u16>,
    /// Host sockets that may be dialled, resolved.
    pub unix: Vec<Vec<u8>>,
    /// What the network is.
    pub network: Network,
    /// Bound inside: device and inode, and a descriptor so that the number stays theirs.
    bound: HashMap<(u64, u64), OwnedFd>,
}

/// A copy of the caller's socket, with `SO_DOMAIN` and `SO_TYPE`.
pub struct Socket {
    /// The copy: the same open socket.
    pub fd: OwnedFd,
    domain: i32,
    /// `SOCK_*`.
    pub kind: i32,
}

impl Sockets {
    /// With what the plan names.
    pub fn new(ports: Vec<u16>, unix: Vec<Vec<u8>>, network: Network) -> Self {
        Self {
            ports,
            unix,
            network,
            bound: HashMap::new(),
        }
    }

    fn remember(&mut self, object: Object) -> Result<(), Errno> {
        if self.bound.len() >= MOST_BOUND {
            self.bound
                .retain(|_, fd| sys::stat(fd.as_fd()).is_ok_and(|s| s.st_nlink > 0));
        }
        if self.bound.len() >= MOST_BOUND {
            return Err(Errno::ENOBUFS);
        }
        self.bound
            .insert((object.stat.st_dev, object.stat.st_ino), object.fd);
        Ok(())
    }
}

fn option(fd: &OwnedFd, name: i32) -> Result<i32, Errno> {
    let (mut value, mut length) = (0i32, 4u32);
    let (at, size) = (&raw mut value as u64, &raw mut length as u64);
    let arguments = [
        fd.as_raw_fd() as u64,
        libc::SOL_SOCKET as u64,
        name as u64,
        at,
        size,
        0,
    ];
    // SAFETY: the kernel writes at most four bytes to `value` and the length; both outlive the call.
    unsafe { sys::raw(libc::SYS_getsockopt, arguments) }?;
    Ok(value)
}

fn socket(caller: &Caller, number: i32) -> Result<Socket, Errno> {
    let fd = caller.descriptor(number)?;
    let (domain, kind) = (option(&fd, libc::SO_DOMAIN)?, option(&fd, libc::SO_TYPE)?);
    Ok(Socket { fd, domain, kind })
}

fn address(caller: &Caller, at: usize, length: usize) -> Result<Vec<u8>, Errno> {
    let length = caller.int(length);
    if length < 0 || length as u64 > LONGEST {
        return Err(Errno::EINVAL);
    }
    caller.memory().bytes(caller.long(at), length as usize)
}

/// Whether calls on it return at once.
pub fn nonblocking(fd: &OwnedFd) -> bool {
    // SAFETY: plain integers.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) & libc::O_NONBLOCK != 0 }
}

/// A call that takes a socket and an address.
///
/// # Errors
/// As the kernel.
pub fn call(number: libc::c_long, fd: &OwnedFd, address: &[u8]) -> Outcome {
    let arguments = [
        fd.as_raw_fd() as u64,
        address.as_ptr() as u64,
        address.len() as u64,
        0,
        0,
        0,
    ];
    // SAFETY: `address` has the length given and outlives the call.
    Ok(Answer::Value(unsafe { sys::raw(number, arguments) }?))
}

/// What a target begins with in reports.
pub fn scheme(socket: &Socket) -> &'static str {
    match (socket.domain, socket.kind) {
        (libc::AF_UNIX, _) => "unix",
        (_, libc::SOCK_STREAM) => "tcp",
        (_, libc::SOCK_DGRAM) => "udp",
        _ => "raw",
    }
}

/// Report a refusal of the network's; the error the program will see.
pub fn refuse(
    broker: &mut Broker,
    caller: &Caller,
    operation: Operation,
    target: String,
    allow: Option<String>,
) -> Errno {
    broker.report(
        caller,
        operation,
        target,
        Layer::Network,
        Errno::EACCES,
        None,
        allow,
    );
    Errno::EACCES
}

/// `connect(fd, address, length)`.
///
/// # Errors
/// As the kernel, or `EACCES`, reported.
pub fn connect(broker: &mut Broker, caller: Caller) -> Outcome {
    let bytes = address(&caller, 1, 2)?;
    let number = caller.int(0);
    let socket = socket(&caller, number)?;
    broker.confirm(&caller)?;
    let to = Address::parse(&bytes, socket.domain)?;
    match &to {
        Address::Internet(..) => {
            return internet::connect(broker, caller, number, socket, bytes, &to);
        }
        Address::Path(path) => return connect_path(broker, caller, number, socket, path),
        Address::Abstract(_) if broker.sockets.network.apart() => {
            let missed = internet::missed(broker, &caller, &to);
            return perform(broker, caller, socket, bytes, Some(missed));
        }
        Address::Netlink | Address::Unspecified | Address::Unnamed => {}
        Address::Abstract(_) | Address::Other(_) => {
            let target = format!("{}:{to}", scheme(&socket));
            return Err(refuse(broker, &caller, Operation::Connect, target, None));
        }
    }
    perform(broker, caller, socket, bytes, None)
}

/// Connect our copy; where that may wait, in a worker. `missed` is told when nobody is there.
fn perform(
    broker: &mut Broker,
    caller: Caller,
    socket: Socket,
    bytes: Vec<u8>,
    missed: Option<Denial>,
) -> Outcome {
    let late = broker.events.late();
    let at_once = nonblocking(&socket.fd)
        || socket.kind == libc::SOCK_DGRAM
        || socket.domain == libc::AF_NETLINK;
    let attempt = move || {
        let outcome = call(libc::SYS_connect, &socket.fd, &bytes);
        if let Some(missed) = missed
            && internet::reached_nobody(&socket.fd, &outcome)
        {
            late.push(missed);
        }
        outcome
    };
    if at_once {
        return attempt();
    }
    let listener = Arc::clone(&broker.listener);
    broker.workers.start(&listener, caller, attempt)
}

fn connect_path(
    broker: &mut Broker,
    caller: Caller,
    number: i32,
    socket: Socket,
    path: &[u8],
) -> Outcome {
    let base = Base::Of(&caller, libc::AT_FDCWD);
    let object = match broker.resolver.object(&base, path, true, &mut |_| Ok(())) {
        Ok(object) => object,
        Err(Errno::ENOENT) => {
            // It may be a socket that is not in the view and that the plan lets the supervisor dial.
            let Ok(place) = broker.resolver.place(&base, path) else {
                return Err(Errno::ENOENT);
            };
            if broker.sockets.unix.contains(&place.name) {
                return dial_path(broker, caller, number, &socket, &place.name);
            }
            super::observe::absent(broker, &caller, Operation::Connect, &place.name);
            return Err(Errno::ENOENT);
        }
        Err(errno) => return Err(errno),
    };
    if broker.sockets.unix.contains(&object.name) {
        return dial_path(broker, caller, number, &socket, &object.name);
    }
    if sys::kind(&object.stat) != libc::S_IFSOCK {
        return Err(Errno::ECONNREFUSED);
    }
    if let Verdict::Refused(refusal) = broker.judge(&object.name, Want::Write)
        && matches!(refusal.kind, Kind::Denied | Kind::Protected)
    {
        return Err(broker.refuse(&caller, Operation::Connect, &object.name, refusal));
    }
    if !broker
        .sockets
        .bound
        .contains_key(&(object.stat.st_dev, object.stat.st_ino))
    {
        let name = text(&object.name);
        let allow = format!(
            "network: unix: [{}]",
            serde_json::Value::from(bracketed(&name))
        );
        return Err(refuse(
            broker,
            &caller,
            Operation::Connect,
            format!("unix:{name}"),
            Some(allow),
        ));
    }
    broker.confirm(&caller)?;
    let pinned = sys::link(object.fd.as_fd());
    let bytes = [
        &(libc::AF_UNIX as u16).to_ne_bytes()[..],
        pinned.to_bytes_with_nul(),
    ]
    .concat();
    if nonblocking(&socket.fd) {
        return call(libc::SYS_connect, &socket.fd, &bytes);
    }
    let listener = Arc::clone(&broker.listener);
    broker.workers.start(&listener, caller, move || {
        let outcome = call(libc::SYS_connect, &socket.fd, &bytes);
        drop(object);
        outcome
    })
}

/// `bind(fd, address, length)`.
///
/// # Errors
/// As the kernel, or `EACCES`, reported.
pub fn bind(broker: &mut Broker, caller: &Caller) -> Outcome {
    let bytes = address(caller, 1, 2)?;
    let socket = socket(caller, caller.int(0))?;
    broker.confirm(caller)?;
    let to = Address::parse(&bytes, socket.domain)?;
    match &to {
        Address::Path(path) => return bind_path(broker, caller, &socket, path, &bytes),
        Address::Netlink => {}
        Address::Internet(..) | Address::Abstract(_) | Address::Unnamed | Address::Unspecified
            if broker.sockets.network.apart() => {}
        Address::Internet(..) if broker.sockets.network == Network::Open => {
            let target = format!("{}:{to}", scheme(&socket));
            call(libc::SYS_bind, &socket.fd, &bytes)?;
            broker.done(caller, Operation::Bind, target.as_bytes(), None);
            return Ok(Answer::Value(0));
        }
        _ => {
            let target = format!("{}:{to}", scheme(&socket));
            return Err(refuse(broker, caller, Operation::Bind, target, None));
        }
    }
    call(libc::SYS_bind, &socket.fd, &bytes)
}

/// The address must stay what the program wrote, as it is what `getsockname` says; so the kernel walks it once more,
/// from the caller's directory. No name inside can change meanwhile: they change only through this loop.
fn bind_path(
    broker: &mut Broker,
    caller: &Caller,
    socket: &Socket,
    path: &[u8],
    bytes: &[u8],
) -> Outcome {
    let place = broker
        .resolver
        .place(&Base::Of(caller, libc::AT_FDCWD), path)?;
    if place.special || place.slash || sys::stat_at(place.parent.as_fd(), &place.last).is_ok() {
        return Err(Errno::EADDRINUSE);
    }
    broker.demand(caller, Operation::Bind, &place.name, Want::Write)?;
    broker.stays_directory(caller, Operation::Bind, &place.name)?;
    let directory = caller.directory(libc::AT_FDCWD)?;
    broker.take_umask(caller)?;
    broker.confirm(caller)?;
    // SAFETY: plain integers on descriptors we own.
    unsafe {
        sys::raw(
            libc::SYS_fchdir,
            [directory.as_raw_fd() as u64, 0, 0, 0, 0, 0],
        )
    }?;
    let outcome = call(libc::SYS_bind, &socket.fd, bytes);
    // SAFETY: as above; the root can always be entered.
    let _ = unsafe {
        sys::raw(
            libc::SYS_fchdir,
            [broker.resolver.root().as_raw_fd() as u64, 0, 0, 0, 0, 0],
        )
    };
    outcome?;
    let pinned = sys::open_at(
        place.parent.as_fd(),
        &place.last,
        libc::O_PATH | libc::O_NOFOLLOW,
        0,
    )?;
    broker.sockets.remember(Object::new(pinned)?)?;
    broker.done(caller, Operation::Bind, &place.name, None);
    Ok(Answer::Value(0))
}

/// `sendto(fd, bytes, length, flags, address, length)` with an address.
///
/// # Errors
/// As the kernel, or `EACCES`, reported.
pub fn send(broker: &mut Broker, caller: Caller) -> Outcome {
    let bytes = address(&caller, 4, 5)?;
    let socket = socket(&caller, caller.int(0))?;
    let flags = caller.int(3);
    if flags & libc::MSG_FASTOPEN != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    if caller.long(2) > LONGEST_DATAGRAM {
        return Err(Errno::EMSGSIZE);
    }
    let data = caller
        .memory()
        .bytes(caller.long(1), caller.long(2) as usize)?;
    broker.confirm(&caller)?;
    // A connected stream ignores the address, so it may be anything; we leave it out.
    let stream = socket.kind == libc::SOCK_STREAM || socket.kind == libc::SOCK_SEQPACKET;
    let mut names = None;
    if !stream {
        let to = if bytes.is_empty() {
            Address::Unspecified
        } else {
            Address::parse(&bytes, socket.domain)?
        };
        let inside = match &to {
            Address::Internet(..) => broker.sockets.network.takes_datagram(&to),
            Address::Netlink | Address::Unspecified => true,
            Address::Abstract(_) => broker.sockets.network.apart(),
            _ => false,
        };
        if !inside {
            let target = format!("{}:{to}", scheme(&socket));
            return Err(refuse(broker, &caller, Operation::Send, target, None));
        }
        names = broker.sockets.network.answers_names(&to).then_some(to);
    }
    let to = if stream { Vec::new() } else { bytes };
    let fd = socket.fd;
    match send_to(&fd, &data, &to, flags | libc::MSG_DONTWAIT) {
        Err(Errno::EAGAIN) if flags & libc::MSG_DONTWAIT == 0 => {
            let listener = Arc::clone(&broker.listener);
            broker
                .workers
                .start(&listener, caller, move || send_to(&fd, &data, &to, flags))
        }
        outcome => {
            if let (Some(asked), Ok(_)) = (&names, &outcome) {
                asked_for_a_name(broker, &caller, &fd, asked);
            }
            outcome
        }
    }
}

fn send_to(fd: &OwnedFd, data: &[u8], to: &[u8], flags: i32) -> Outcome {
    let (at, length) = if to.is_empty() {
        (0, 0)
    } else {
        (to.as_ptr() as u64, to.len() as u64)
    };
    let flags = (flags | libc::MSG_NOSIGNAL) as u64;
    let arguments = [
        fd.as_raw_fd() as u64,
        data.as_ptr() as u64,
        data.len() as u64,
        flags,
        at,
        length,
    ];
    // SAFETY: `data` and `to` have the lengths given and outlive the call.
    Ok(Answer::Value(unsafe {
        sys::raw(libc::SYS_sendto, arguments)
    }?))
}
