//! The flags of an open, and what they ask for.
//!
//! Pure. What it refuses: from `openat2`, what the kernel refuses; the older calls ignore unknown flags, and so does
//! this.

use super::errno::Errno;
use super::wire::Operation;
use crate::plan::Want;

/// Flags the kernel knows (`VALID_OPEN_FLAGS` in linux/fcntl.h).
const KNOWN: u64 = 0o37_777_703;
/// All of `RESOLVE_*`.
const RESOLVE: u64 = 0x3f;
/// The part of `O_TMPFILE` that is not `O_DIRECTORY`.
pub const TMPFILE: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;
/// What a program asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct How {
    /// `O_*`.
    pub flags: i32,
    /// Permission bits of a new file.
    pub mode: u32,
    /// `RESOLVE_*`, from `openat2` only.
    pub resolve: u64,
}

/// Bits a new file may be born with: never those that lend its owner's identity.
pub const BORN: u32 = 0o1777;

impl How {
    /// From the three arguments of `open` and `openat`; unknown flags are ignored, as the kernel does.
    pub fn classic(flags: i32, mode: u64) -> Self {
        Self {
            flags: (flags as u32 as u64 & KNOWN) as i32,
            mode: mode as u32 & BORN,
            resolve: 0,
        }
    }

    /// From the bytes of a `struct open_how`; checked as the kernel does.
    ///
    /// # Errors
    /// `EINVAL` for what is unknown, `E2BIG` for fields beyond ours that are not zero.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Errno> {
        let field = |n: usize| -> Result<u64, Errno> {
            let bytes = bytes.get(n * 8..n * 8 + 8).ok_or(Errno::EINVAL)?;
            Ok(u64::from_ne_bytes(
                bytes.try_into().map_err(|_| Errno::EINVAL)?,
            ))
        };
        let (flags, mode, resolve) = (field(0)?, field(1)?, field(2)?);
        if bytes[24..].iter().any(|&b| b != 0) {
            return Err(Errno::E2BIG);
        }
        let creates = flags & (libc::O_CREAT | TMPFILE) as u64 != 0;
        if flags & !KNOWN != 0
            || resolve & !RESOLVE != 0
            || mode & !0o7777 != 0
            || (mode != 0 && !creates)
        {
            return Err(Errno::EINVAL);
        }
        Ok(Self {
            flags: flags as i32,
            mode: mode as u32 & BORN,
            resolve,
        })
    }

    /// Whether any bit of `flag` is set.
    pub fn has(self, flag: i32) -> bool {
        self.flags & flag != 0
    }

    /// Whether the content can change through it.
    pub fn writes(self) -> bool {
        !self.has(libc::O_PATH)
            && (self.flags & libc::O_ACCMODE != libc::O_RDONLY
                || self.has(libc::O_TRUNC)
                || self.has(TMPFILE))
    }

    /// Whether only reading was asked for, so that it need not be performed here.
    pub fn only_reads(self) -> bool {
        !self.writes() && (self.has(libc::O_PATH) || !self.has(libc::O_CREAT))
    }

    /// What is wanted of the name.
    pub fn want(self) -> Want {
        if self.writes() {
            Want::Write
        } else {
            Want::Read
        }
    }

    /// The same, for reports.
    pub fn operation(self) -> Operation {
        if self.writes() {
            Operation::Write
        } else {
            Operation::Read
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(flags: u64, mode: u64, resolve: u64) -> Vec<u8> {
        [flags, mode, resolve]
            .iter()
            .flat_map(|n| n.to_ne_bytes())
            .collect()
    }

    #[test]
    fn a_structure_is_checked_as_the_kernel_does() {
        let good =
            How::from_bytes(&bytes(libc::O_RDWR as u64 | libc::O_CREAT as u64, 0o600, 8)).unwrap();
        assert_eq!(
            good,
            How {
                flags: libc::O_RDWR | libc::O_CREAT,
                mode: 0o600,
                resolve: 8
            }
        );
        for (bad, errno) in [
            (bytes(0, 0o600, 0), Errno::EINVAL),
            (bytes(1 << 40, 0, 0), Errno::EINVAL),
            (bytes(0, 0, 1 << 20), Errno::EINVAL),
            (bytes(libc::O_CREAT as u64, 0o10_000, 0), Errno::EINVAL),
            (bytes(0, 0, 0)[..16].to_vec(), Errno::EINVAL),
            ([bytes(0, 0, 0), vec![0, 1]].concat(), Errno::E2BIG),
        ] {
            assert_eq!(How::from_bytes(&bad), Err(errno));
        }
    }

    #[test]
    fn writing_is_what_changes_content() {
        let how = |flags| How::classic(flags, 0);
        for flags in [
            libc::O_WRONLY,
            libc::O_RDWR,
            3,
            libc::O_TRUNC,
            libc::O_TMPFILE,
        ] {
            assert!(how(flags).writes() && !how(flags).only_reads(), "{flags:o}");
        }
        for flags in [
            libc::O_RDONLY,
            libc::O_PATH | libc::O_RDWR,
            libc::O_DIRECTORY,
        ] {
            assert!(!how(flags).writes() && how(flags).only_reads(), "{flags:o}");
        }
        assert!(!how(libc::O_CREAT).writes() && !how(libc::O_CREAT).only_reads());
    }

    #[test]
    fn every_known_flag_is_known_here() {
        let all = libc::O_ACCMODE
            | libc::O_CREAT
            | libc::O_EXCL
            | libc::O_NOCTTY
            | libc::O_TRUNC
            | libc::O_APPEND
            | libc::O_NONBLOCK
            | libc::O_SYNC
            | libc::O_DIRECT
            | 0o100_000
            | libc::O_DIRECTORY
            | libc::O_NOFOLLOW
            | libc::O_NOATIME
            | libc::O_CLOEXEC
            | libc::O_PATH
            | libc::O_TMPFILE
            | libc::O_ASYNC;
        assert_eq!(all as u64 & !KNOWN, 0);
    }
}
