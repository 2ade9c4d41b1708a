//! The calls that the machine's network needs: interfaces, a route, netfilter's socket, where a connection wanted to go.
//!
//! Refuses nothing itself; errors are the kernel's.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::check;

fn inet() -> Result<OwnedFd> {
    // SAFETY: integers; the new descriptor is owned by nobody else.
    unsafe {
        Ok(OwnedFd::from_raw_fd(check(libc::socket(
            libc::AF_INET,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
            0,
        ))?))
    }
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: plain data; all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let last = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..last].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let inner = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr {
            s_addr: u32::from(address).to_be(),
        },
        sin_zero: [0; 8],
    };
    // SAFETY: both are plain data of 16 bytes; this is how the kernel reads an IPv4 address in a sockaddr.
    unsafe { std::mem::transmute(inner) }
}

/// Turns an interface on.
pub fn up(name: &str) -> Result<()> {
    let socket = inet()?;
    let mut request = request(name);
    // SAFETY: the ioctls read and write one live ifreq; the flags are what the first one filled.
    unsafe {
        check(libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCGIFFLAGS as _,
            &raw mut request,
        ))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            &raw const request,
        ))
        .map(drop)
    }
}

/// Gives an interface an address.
pub fn address(name: &str, address: Ipv4Addr, mask: Ipv4Addr) -> Result<()> {
    let socket = inet()?;
    for (what, value) in [(libc::SIOCSIFADDR, address), (libc::SIOCSIFNETMASK, mask)] {
        let mut request = request(name);
        request.ifr_ifru.ifru_addr = socket_address(value);
        // SAFETY: the ioctl reads one live ifreq.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), what as _, &raw const request) })?;
    }
    Ok(())
}

/// Sends what no other route covers to an interface.
pub fn default_route(name: &str) -> Result<()> {
    let socket = inet()?;
    let mut device = super::text(name)?.into_bytes_with_nul();
    // SAFETY: plain data; all zeros is a valid value.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_flags = libc::RTF_UP;
    route.rt_dev = device.as_mut_ptr().cast();
    // SAFETY: one live rtentry, whose text lives over the call.
    match check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT as _, &raw const route) })
    {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        done => done.map(drop),
    }
}

/// Where a redirected connection wanted to go (`SO_ORIGINAL_DST`); its own address where nothing was redirected.
pub fn original_destination(socket: BorrowedFd<'_>) -> Result<SocketAddrV4> {
    const SO_ORIGINAL_DST: libc::c_int = 80;
    // SAFETY: plain data that the call fills; pointer and length are of one live structure.
    let found = unsafe {
        let mut found: libc::sockaddr_in = std::mem::zeroed();
        let mut length = libc::socklen_t::try_from(size_of::<libc::sockaddr_in>()).unwrap_or(16);
        check(libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_IP,
            SO_ORIGINAL_DST,
            (&raw mut found).cast(),
            &raw mut length,
        ))?;
        found
    };
    Ok(SocketAddrV4::new(
        Ipv4Addr::from(u32::from_be(found.sin_addr.s_addr)),
        u16::from_be(found.sin_port),
    ))
}

/// Makes the socket's end a reset: the program learns that it was cut off.
pub fn reset_at_close(socket: BorrowedFd<'_>) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: pointer and length are of one live structure; a refusal changes nothing.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            libc::socklen_t::try_from(size_of::<libc::linger>()).unwrap_or(8),
        )
    };
}

/// Sends a batch to netfilter and reads `answers` acknowledgements; the first error of one is the error.
pub fn netfilter(batch: &[u8], answers: usize) -> Result<()> {
    // SAFETY: integers; the new descriptor is owned by nobody else.
    let socket = unsafe {
        OwnedFd::from_raw_fd(check(libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::NETLINK_NETFILTER,
        ))?)
    };
    // SAFETY: pointer and length are of one live slice.
    let sent = unsafe { libc::send(socket.as_raw_fd(), batch.as_ptr().cast(), batch.len(), 0) };
    if sent < 0 {
        return Err(Error::last_os_error());
    }
    let mut seen = 0;
    let mut buffer = [0u8; 8192];
    while seen < answers {
        // SAFETY: pointer and length are of one live array; the answers are there already, so this does not wait.
        let count = unsafe {
            libc::recv(
                socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
            )
        };
        let count = usize::try_from(count).map_err(|_| Error::last_os_error())?;
        let mut rest = &buffer[..count];
        while let Some((header, after)) = rest.split_at_checked(16) {
            let number = |at: usize, from: &[u8]| {
                from.get(at..at + 4)
                    .and_then(|four| four.try_into().ok())
                    .map_or(0, u32::from_ne_bytes)
            };
            let length = number(0, header) as usize;
            if length < 20 || length > rest.len() {
                return Err(Error::from(ErrorKind::InvalidData));
            }
            let error = number(0, after).cast_signed();
            if error != 0 {
                return Err(Error::from_raw_os_error(-error));
            }
            seen += 1;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        }
    }
    Ok(())
}

/// How many connections wait in the kernel until they are accepted.
pub fn listener_backlog(socket: BorrowedFd<'_>, backlog: i32) -> Result<()> {
    // SAFETY: an open listening socket and an integer; listening again changes the backlog (listen(2)).
    check(unsafe { libc::listen(socket.as_raw_fd(), backlog) }).map(drop)
}

/// The process and the user at the other end of a Unix socket, as they were when it connected (unix(7), `SO_PEERCRED`).
pub fn peer(socket: BorrowedFd<'_>) -> Result<(u32, u32)> {
    // SAFETY: plain data; all zeros is a valid value.
    let mut found: libc::ucred = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or(12);
    // SAFETY: pointer and length are of one live ucred, which is what this option is read into.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    })?;
    Ok((found.pid.cast_unsigned(), found.uid))
}
