//! Connecting to what the plan names on the host, on the command's behalf.
//!
//! The monitor asks, this checks against its own copy of the plan and connects. It refuses every address that the
//! plan does not name, and to wait long: the supervisor has a clock to keep.

use crate::monitor::wire::Target;
use crate::sandbox::system::check;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Loopback answers at once or not at all.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the plan names.
#[derive(Debug, Default)]
pub struct Reachable {
    /// TCP ports of the host's loopback.
    pub ports: Vec<u16>,
    /// Unix sockets, resolved.
    pub unix: Vec<PathBuf>,
}

impl Reachable {
    /// A connection, or the number of the error the command sees.
    ///
    /// # Errors
    /// `EACCES` for what the plan does not name; else as `connect(2)`.
    pub fn dial(&self, target: &Target) -> Result<OwnedFd, i32> {
        let number = |error: io::Error| match error.kind() {
            io::ErrorKind::TimedOut => libc::ETIMEDOUT,
            _ => error.raw_os_error().unwrap_or(libc::ECONNREFUSED),
        };
        match target {
            Target::Tcp { port, v6 } if self.ports.contains(port) => {
                let address = if *v6 {
                    Ipv6Addr::LOCALHOST.into()
                } else {
                    Ipv4Addr::LOCALHOST.into()
                };
                let stream = TcpStream::connect_timeout(&SocketAddr::new(address, *port), PATIENCE);
                stream.map(OwnedFd::from).map_err(number)
            }
            Target::Unix { path, seqpacket }
                if self.unix.iter().any(|known| known == Path::new(path)) =>
            {
                let kind = if *seqpacket {
                    libc::SOCK_SEQPACKET
                } else {
                    libc::SOCK_STREAM
                };
                connect(Path::new(path), kind).map_err(number)
            }
            _ => Err(libc::EACCES),
        }
    }
}

fn connect(path: &Path, kind: i32) -> io::Result<OwnedFd> {
    let kind = kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain integers.
    let raw = check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) }.into())?;
    // SAFETY: a new descriptor that nothing else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(raw as i32) };
    // SAFETY: all-zero is a valid `struct sockaddr_un`.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= address.sun_path.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    let size = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // A full backlog is EAGAIN here, as for any caller that does not wait.
    // SAFETY: a valid address of the size given.
    let result = unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), size) };
    check(result.into())?;
    // SAFETY: plain integers; the monitor sets the flag the command had.
    check(unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_SETFL, 0) }.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_what_is_named_is_dialled() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let none = Reachable::default();
        assert_eq!(
            none.dial(&Target::Tcp { port, v6: false }).unwrap_err(),
            libc::EACCES
        );
        let one = Reachable {
            ports: vec![port],
            unix: vec![],
        };
        assert!(one.dial(&Target::Tcp { port, v6: false }).is_ok());
        drop(listener);
        assert_eq!(
            one.dial(&Target::Tcp { port, v6: false }).unwrap_err(),
            libc::ECONNREFUSED
        );
    }

    #[test]
    fn a_unix_socket_by_its_whole_name() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let target = |path: &Path| Target::Unix {
            path: path.to_string_lossy().into_owned(),
            seqpacket: false,
        };
        let reachable = Reachable {
            ports: vec![],
            unix: vec![path.clone()],
        };
        assert!(reachable.dial(&target(&path)).is_ok());
        assert_eq!(
            reachable.dial(&target(&here.path().join("t"))).unwrap_err(),
            libc::EACCES
        );
    }
}
