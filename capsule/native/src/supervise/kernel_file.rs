//! The small files in which the kernel tells of itself: `/proc`, `/proc/sys`, control groups.
//!
//! They are read in one go, with nothing asked about them before: their size is said to be nothing, and asking costs as
//! much as reading. A program's name in it may be any bytes. It refuses a file that is longer than what such a file can be.
//!
//! ```no_run
//! let most = capsule::supervise::kernel_file::read("/proc/sys/user/max_user_namespaces".as_ref()).unwrap();
//! assert!(most.trim().parse::<u64>().is_ok());
//! ```

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Bytes of the longest that is read.
const MOST: usize = 16 * 1024;

/// What it says; a replacement character stands for what is no text.
///
/// # Errors
/// As `open(2)`, `read(2)`; `InvalidData` for what is too long.
pub fn read(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut bytes = [0u8; MOST];
    let mut length = 0;
    loop {
        match file.read(&mut bytes[length..]) {
            Ok(0) if length == MOST => return Err(io::ErrorKind::InvalidData.into()),
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_is() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("f");
        for text in ["", "memory pids\n", &"x".repeat(MOST - 1)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap(), text);
        }
        let of_kernel = read(Path::new("/proc/self/cgroup")).unwrap();
        assert_eq!(
            of_kernel,
            std::fs::read_to_string("/proc/self/cgroup").unwrap()
        );
    }

    #[test]
    fn what_is_no_text_is_read_all_the_same() {
        // SAFETY: a valid C string. It names this thread alone.
        unsafe { libc::prctl(libc::PR_SET_NAME, c"\xff)\xfe".as_ptr()) };
        let text = read(Path::new("/proc/thread-self/stat")).unwrap();
        assert!(text.contains("(\u{fffd})\u{fffd})"), "{text}");
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("f");
        for bytes in [vec![b'x'; MOST], vec![b'x'; MOST + 1]] {
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        assert_eq!(
            read(&here.path().join("absent")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
