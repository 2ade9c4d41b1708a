//! A live share: the guest's kernel asks for files over `/dev/fuse`, the host answers over the port `capsem.5006`.
//!
//! `capsem-agent share DIR` mounts it and carries requests one way and answers the other, unread but for their length, until
//! the host hangs up or the mount goes; then every call below DIR fails. Refuses an answer of a length that none has.

use std::fs;
use std::io::{Error, ErrorKind, Result, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use crate::sys;

/// The port's name.
pub const NAME: &str = "capsem.5006";
/// Bytes of a request or an answer: as much as one write carries, and its header.
const LARGEST: usize = (128 << 10) + 4096;
const SMALLEST: usize = 16;

/// Mounts and carries; returns when it is over.
pub fn serve(directory: &str) -> Result<()> {
    let port = port(Path::new("/sys/class/virtio-ports"), Path::new("/dev"))?;
    let device: OwnedFd = fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .map_err(|error| Error::new(error.kind(), format!("/dev/fuse: {error}")))?
        .into();
    fs::create_dir_all(directory)?;
    sys::mount(
        "capsem",
        directory,
        "fuse.capsem",
        libc::MS_NOSUID | libc::MS_NODEV,
        &format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,max_read=131072",
            device.as_raw_fd()
        ),
    )
    .map_err(|error| Error::new(error.kind(), format!("mounting {directory}: {error}")))?;
    println!("mounted");
    std::io::stdout().flush()?;
    carry(&device, &port)
}

/// Whether this machine has a live share.
pub fn mounted() -> bool {
    fs::read_to_string("/proc/mounts")
        .is_ok_and(|mounts| mounts.lines().any(|row| row.contains(" fuse.capsem ")))
}

fn port(classes: &Path, nodes: &Path) -> Result<OwnedFd> {
    for entry in fs::read_dir(classes)? {
        let entry = entry?;
        if fs::read_to_string(entry.path().join("name"))
            .unwrap_or_default()
            .trim()
            == NAME
        {
            let port = fs::File::options()
                .read(true)
                .write(true)
                .open(nodes.join(entry.file_name()))?;
            return Ok(port.into());
        }
    }
    Err(Error::new(
        ErrorKind::NotFound,
        format!("this machine has no port {NAME}"),
    ))
}

// What waits for the host to take it is one request; meanwhile answers are taken all the same, so neither side waits for ever.
fn carry(device: &OwnedFd, port: &OwnedFd) -> Result<()> {
    sys::set_nonblocking(device.as_fd())?;
    sys::set_nonblocking(port.as_fd())?;
    let mut scratch = vec![0; LARGEST];
    let (mut out, mut sent, mut waiting) = (Vec::new(), 0, Vec::new());
    loop {
        let asking = sent == out.len();
        let interests = [
            (device.as_raw_fd(), if asking { libc::POLLIN } else { 0 }),
            (
                port.as_raw_fd(),
                libc::POLLIN | if asking { 0 } else { libc::POLLOUT },
            ),
        ];
        let ready = sys::poll(&interests, None)?;
        if asking && ready[0] != 0 {
            match sys::read(device.as_fd(), &mut scratch) {
                Ok(count) => {
                    out.clear();
                    out.extend_from_slice(&scratch[..count]);
                    sent = 0;
                }
                // Interrupted, or taken back before it was read.
                Err(error) if passing(&error) => {}
                Err(error) => return Err(error),
            }
        }
        while sent < out.len() {
            match sys::write(port.as_fd(), &out[sent..]) {
                Ok(count) => sent += count,
                Err(error) if passing(&error) => break,
                Err(error) => return Err(error),
            }
        }
        if ready[1] & (libc::POLLIN | libc::POLLHUP | libc::POLLERR) != 0 {
            let count = match sys::read(port.as_fd(), &mut scratch) {
                Ok(0) => return Err(Error::new(ErrorKind::BrokenPipe, "the host hung up")),
                Ok(count) => count,
                Err(error) if passing(&error) => continue,
                Err(error) => return Err(error),
            };
            waiting.extend_from_slice(&scratch[..count]);
            let mut at = 0;
            while let Some(size) = whole(&waiting[at..])? {
                // One that nobody waits for any more is refused by the kernel, which is right.
                let _ = sys::write(device.as_fd(), &waiting[at..at + size]);
                at += size;
            }
            waiting.drain(..at);
        }
    }
}

fn passing(error: &Error) -> bool {
    [libc::EINTR, libc::EAGAIN, libc::ENOENT].contains(&error.raw_os_error().unwrap_or(0))
}

/// Bytes of the answer that begins here, once all of it is here.
fn whole(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(start) = bytes.first_chunk::<4>() else {
        return Ok(None);
    };
    let size = u32::from_le_bytes(*start) as usize;
    if !(SMALLEST..=LARGEST).contains(&size) {
        return Err(Error::new(
            ErrorKind::InvalidData,
            format!("an answer of {size} bytes"),
        ));
    }
    Ok((bytes.len() >= size).then_some(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_written_when_all_of_it_is_here() {
        let mut answer = 20_u32.to_le_bytes().to_vec();
        assert_eq!(whole(&answer[..3]).expect("no length yet"), None);
        answer.extend_from_slice(&[7; 16]);
        assert_eq!(whole(&answer[..19]).expect("not whole"), None);
        answer.push(1);
        assert_eq!(whole(&answer).expect("whole"), Some(20));
    }

    #[test]
    fn no_answer_has_another_length() {
        for size in [0_u32, 15, (LARGEST + 1) as u32, u32::MAX] {
            assert!(whole(&size.to_le_bytes()).is_err(), "{size}");
        }
    }

    #[test]
    fn a_machine_without_the_port_says_so() {
        let place = std::env::temp_dir().join(format!("capsem-share-{}", std::process::id()));
        fs::create_dir_all(place.join("vport0p1")).expect("a directory");
        fs::write(place.join("vport0p1/name"), "capsem.5000\n").expect("a name");
        let error = port(&place, &place).expect_err("another port");
        assert_eq!(error.kind(), ErrorKind::NotFound);
        fs::remove_dir_all(&place).expect("its end");
    }
}
