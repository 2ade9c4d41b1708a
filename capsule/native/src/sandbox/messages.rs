//! Messages over a Unix socket that keeps boundaries, with descriptors beside them.
//!
//! What it refuses: a message longer than the receiver's buffer, and more descriptors than [`MOST_DESCRIPTORS`]
//! (the kernel closes what does not fit).

use super::system::check;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The most descriptors one message carries.
/// (`SCM_MAX_FD` of the kernel).
pub const MOST_DESCRIPTORS: usize = 253;
/// Bytes of a control message with that many: a header of 16 bytes, and padding.
const CONTROL: usize = 16 + MOST_DESCRIPTORS * size_of::<RawFd>() + 4;

/// Room for the control message, aligned as the kernel's header asks.
#[repr(align(8))]
struct Control([u8; CONTROL]);

/// Send one message.
///
/// # Errors
/// As `sendmsg(2)`; a closed peer is `EPIPE` and never a signal.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[RawFd]) -> io::Result<()> {
    let mut control = Control([0; CONTROL]);
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all-zero is a valid `struct msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        if descriptors.len() > MOST_DESCRIPTORS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let size = size_of_val(descriptors);
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: the control buffer holds one header and `MOST_DESCRIPTORS` descriptors; the macros only compute
        // places inside it.
        unsafe {
            message.msg_controllen = libc::CMSG_SPACE(size as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size as u32) as _;
            std::ptr::copy_nonoverlapping(
                descriptors.as_ptr().cast::<u8>(),
                libc::CMSG_DATA(header),
                size,
            );
        }
    }
    // SAFETY: every pointer in `message` outlives the call.
    check(
        unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) }
            as libc::c_long,
    )
    .map(drop)
}

/// Receive one message into `buffer`: its length (0 when the peer is gone) and the descriptors beside it.
///
/// # Errors
/// As `recvmsg(2)`; `EMSGSIZE` when the message did not fit.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    wait: bool,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = Control([0; CONTROL]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all-zero is a valid `struct msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    let flags = libc::MSG_CMSG_CLOEXEC | if wait { 0 } else { libc::MSG_DONTWAIT };
    // SAFETY: every pointer in `message` outlives the call.
    let length = check(
        unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) } as libc::c_long,
    )? as usize;
    let mut descriptors = Vec::new();
    // SAFETY: the kernel filled the control buffer; the macros walk it within `msg_controllen`.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                for at in 0..bytes / size_of::<RawFd>() {
                    let raw = libc::CMSG_DATA(header)
                        .cast::<RawFd>()
                        .add(at)
                        .read_unaligned();
                    descriptors.push(OwnedFd::from_raw_fd(raw));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    Ok((length, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::system::{message_pair, pipe};
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (left, right) = message_pair().unwrap();
        let (reading, writing) = pipe().unwrap();
        send(
            left.as_fd(),
            b"hello",
            &[writing.as_raw_fd(), left.as_raw_fd()],
        )
        .unwrap();
        drop(writing);
        let mut buffer = [0; 16];
        let (length, mut descriptors) = receive(right.as_fd(), &mut buffer, true).unwrap();
        assert_eq!((&buffer[..length], descriptors.len()), (&b"hello"[..], 2));
        std::fs::File::from(descriptors.remove(0))
            .write_all(b"through")
            .unwrap();
        let mut text = String::new();
        std::fs::File::from(reading)
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "through");
    }

    #[test]
    fn a_message_that_does_not_fit_is_an_error_and_a_closed_peer_is_not_a_signal() {
        let (left, right) = message_pair().unwrap();
        send(left.as_fd(), &[7; 32], &[]).unwrap();
        let error = receive(right.as_fd(), &mut [0; 16], true).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        drop(right);
        assert_eq!(
            send(left.as_fd(), b"x", &[]).unwrap_err().raw_os_error(),
            Some(libc::EPIPE)
        );
    }
}
