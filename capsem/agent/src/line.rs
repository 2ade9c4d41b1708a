//! Where a port's bytes come from: a virtio-serial device of a machine, or a Unix socket outside of one.
//!
//! The narrow place at which a test and a machine differ. Refuses names that are not ports of the wire.

use std::fs;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use crate::sys;

/// The ports of the wire.
pub const PORTS: [u16; 6] = [5000, 5001, 5002, 5003, 5004, 5005];

/// One way to the host.
#[derive(Debug)]
pub enum Line {
    /// An open device. The host may be away: then `read` says 0, and again later it does not.
    Device(OwnedFd),
    /// Each connection is the host, until it hangs up.
    Listener(UnixListener),
}

impl Line {
    /// The descriptor that is readable when the host has come, where there is one.
    pub fn doorbell(&self) -> Option<RawFd> {
        match self {
            Self::Device(_) => None,
            Self::Listener(listener) => Some(listener.as_raw_fd()),
        }
    }

    /// The host's connection, when it is there.
    pub fn answer(&self) -> Result<Option<OwnedFd>> {
        match self {
            Self::Device(device) => {
                let away = sys::poll(&[(device.as_raw_fd(), 0)], Some(std::time::Duration::ZERO))?
                    [0]
                    & libc::POLLHUP
                    != 0;
                if away {
                    Ok(None)
                } else {
                    device.try_clone().map(Some)
                }
            }
            Self::Listener(listener) => match listener.accept() {
                Ok((connection, _)) => {
                    connection.set_nonblocking(true)?;
                    Ok(Some(connection.into()))
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error),
            },
        }
    }
}

/// The devices of this machine whose names are ports.
pub fn devices(classes: &Path, nodes: &Path) -> Result<Vec<(u16, Line)>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(classes) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        let Some(number) = name
            .trim()
            .strip_prefix("capsem.")
            .and_then(|number| number.parse().ok())
        else {
            continue;
        };
        if !PORTS.contains(&number) {
            continue;
        }
        let device = fs::File::options()
            .read(true)
            .write(true)
            .open(nodes.join(entry.file_name()))?;
        sys::set_nonblocking(device.as_fd())?;
        found.push((number, Line::Device(device.into())));
    }
    Ok(found)
}

/// Sockets in `directory`, one a port.
pub fn sockets(directory: &Path) -> Result<Vec<(u16, Line)>> {
    PORTS
        .iter()
        .map(|&number| {
            let listener = UnixListener::bind(directory.join(format!("capsem.{number}"))).map_err(
                |error| Error::new(error.kind(), format!("{}: {error}", directory.display())),
            )?;
            listener.set_nonblocking(true)?;
            Ok((number, Line::Listener(listener)))
        })
        .collect()
}
