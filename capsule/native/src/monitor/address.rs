//! Socket addresses, copied from the command and read once.
//!
//! Pure. What it refuses: addresses longer than the kernel takes, and families it does not know ([`Address::Other`],
//! which is then refused).

use super::errno::Errno;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `sizeof(struct sockaddr_storage)`: no address is longer.
pub const LONGEST: u64 = 128;
/// Where the path begins in `struct sockaddr_un`.
const PATH_AT: usize = 2;

/// Where a socket is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An internet address and a port.
    Internet(IpAddr, u16),
    /// A Unix socket by path.
    Path(Vec<u8>),
    /// A Unix socket by abstract name: of this network namespace only.
    Abstract(Vec<u8>),
    /// No name: `bind` picks one.
    Unnamed,
    /// The kernel, by netlink.
    Netlink,
    /// `AF_UNSPEC`: dissolves an association.
    Unspecified,
    /// Any other family.
    Other(u16),
}

impl Address {
    /// From the bytes of a `struct sockaddr`, for a socket of this family (`SO_DOMAIN`).
    ///
    /// # Errors
    /// `EINVAL` when it is too short for its family.
    pub fn parse(bytes: &[u8], domain: i32) -> Result<Self, Errno> {
        let family = u16::from_ne_bytes(*bytes.first_chunk().ok_or(Errno::EINVAL)?);
        let port = || {
            Ok(u16::from_be_bytes(
                *bytes
                    .get(2..)
                    .and_then(<[u8]>::first_chunk)
                    .ok_or(Errno::EINVAL)?,
            ))
        };
        match i32::from(family) {
            libc::AF_INET => {
                let octets: [u8; 4] = *bytes
                    .get(4..)
                    .and_then(<[u8]>::first_chunk)
                    .ok_or(Errno::EINVAL)?;
                Ok(Self::Internet(Ipv4Addr::from(octets).into(), port()?))
            }
            libc::AF_INET6 => {
                let octets: [u8; 16] = *bytes
                    .get(8..)
                    .and_then(<[u8]>::first_chunk)
                    .ok_or(Errno::EINVAL)?;
                Ok(Self::Internet(
                    Ipv6Addr::from(octets).to_canonical(),
                    port()?,
                ))
            }
            libc::AF_UNIX => Ok(match &bytes[PATH_AT..] {
                [] => Self::Unnamed,
                [0, name @ ..] => Self::Abstract(name.to_vec()),
                path => Self::Path(path.split(|&b| b == 0).next().unwrap_or_default().to_vec()),
            }),
            libc::AF_NETLINK => Ok(Self::Netlink),
            // A datagram to an unspecified family is one to IPv4 (udp_sendmsg in the kernel).
            libc::AF_UNSPEC if domain == libc::AF_INET && bytes.len() >= 16 => Self::parse(
                &[&(libc::AF_INET as u16).to_ne_bytes(), &bytes[2..]].concat(),
                domain,
            ),
            libc::AF_UNSPEC => Ok(Self::Unspecified),
            _ => Ok(Self::Other(family)),
        }
    }

    /// Whether it stays on this host's own loopback: there, "any" means loopback too.
    pub fn is_loopback(&self) -> bool {
        matches!(self, Self::Internet(ip, _) if ip.is_loopback() || ip.is_unspecified())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = super::wire::text;
        match self {
            Self::Internet(IpAddr::V4(ip), port) => write!(f, "{ip}:{port}"),
            Self::Internet(IpAddr::V6(ip), port) => write!(f, "[{ip}]:{port}"),
            Self::Path(path) => write!(f, "{}", text(path)),
            Self::Abstract(name) => write!(f, "@{}", text(name)),
            Self::Unnamed => f.write_str("unnamed"),
            Self::Netlink => f.write_str("netlink"),
            Self::Unspecified => f.write_str("unspecified"),
            Self::Other(family) => write!(f, "family {family}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(number: i32, rest: &[u8]) -> Vec<u8> {
        [&(number as u16).to_ne_bytes()[..], rest].concat()
    }

    #[test]
    fn addresses_are_read_as_the_kernel_reads_them() {
        let v4 = family(
            libc::AF_INET,
            &[0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        );
        let address = Address::parse(&v4, libc::AF_INET).unwrap();
        assert_eq!(
            (address.to_string().as_str(), address.is_loopback()),
            ("127.0.0.1:8080", true)
        );
        let mut mapped = family(libc::AF_INET6, &[0, 53, 0, 0, 0, 0]);
        mapped.extend([
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 8, 8, 8, 8, 0, 0, 0, 0,
        ]);
        let address = Address::parse(&mapped, libc::AF_INET6).unwrap();
        assert_eq!(
            (address.to_string().as_str(), address.is_loopback()),
            ("8.8.8.8:53", false)
        );
        let unspecified = family(libc::AF_UNSPEC, &v4[2..]);
        assert_eq!(
            Address::parse(&unspecified, libc::AF_INET),
            Address::parse(&v4, libc::AF_INET)
        );
        assert_eq!(
            Address::parse(&family(libc::AF_UNSPEC, &[]), libc::AF_INET),
            Ok(Address::Unspecified)
        );
    }

    #[test]
    fn unix_addresses_end_at_their_first_zero() {
        let parse =
            |rest: &[u8]| Address::parse(&family(libc::AF_UNIX, rest), libc::AF_UNIX).unwrap();
        assert_eq!(parse(b"/run/x\0junk"), Address::Path(b"/run/x".to_vec()));
        assert_eq!(parse(b"rel"), Address::Path(b"rel".to_vec()));
        assert_eq!(parse(b"\0name"), Address::Abstract(b"name".to_vec()));
        assert_eq!(parse(b""), Address::Unnamed);
    }

    #[test]
    fn what_is_too_short_is_invalid() {
        for bytes in [&b""[..], b"\x02", b"\x02\x00\x00", b"\x02\x00\x00\x50\x7f"] {
            assert_eq!(
                Address::parse(bytes, libc::AF_INET),
                Err(Errno::EINVAL),
                "{bytes:?}"
            );
        }
    }
}
