//! Mounts beneath a writable directory: the kernel lays no overlay over a directory that holds some.
//!
//! In a user namespace of its own the sandbox may not look beneath a mount of the host's, and an overlay, which shows
//! one file system, would. So what this refuses is every such directory, by the name of the mount.

use crate::sandbox::view::lies_in;
use std::ffi::CString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    id: u64,
    path: PathBuf,
}

/// That no mount lies beneath any of `roots`.
///
/// # Errors
/// A sentence for the user.
pub fn refuse(roots: &[PathBuf]) -> Result<(), String> {
    let table = std::fs::read("/proc/self/mountinfo")
        .map_err(|error| format!("--overlay: /proc/self/mountinfo: {error}"))?;
    let mounts = parse(&table);
    match beneath(&mounts, roots).find(|(mount, _)| visible(mount)) {
        None => Ok(()),
        Some((mount, root)) => Err(format!(
            "--overlay: {} is a mount inside {}, and no overlay can be laid over that: unmount it, or let smaller \
             directories be written",
            mount.path.display(),
            root.display()
        )),
    }
}

fn beneath<'a>(
    mounts: &'a [Mount],
    roots: &'a [PathBuf],
) -> impl Iterator<Item = (&'a Mount, &'a Path)> {
    mounts.iter().filter_map(|mount| {
        let root = roots
            .iter()
            .find(|root| mount.path != **root && lies_in(&mount.path, root));
        root.map(|root| (mount, root.as_path()))
    })
}

fn parse(table: &[u8]) -> Vec<Mount> {
    let lines = table.split(|&b| b == b'\n');
    lines.filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mount> {
    let mut halves = line.splitn(2, |&b| b == b' ');
    let id = std::str::from_utf8(halves.next()?).ok()?.parse().ok()?;
    let path = halves.next()?.split(|&b| b == b' ').nth(3)?;
    Some(Mount {
        id,
        path: PathBuf::from(std::ffi::OsString::from_vec(unescaped(path))),
    })
}

/// `\040` and its like.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let octal = text
            .get(at..at + 4)
            .filter(|part| part[0] == b'\\')
            .and_then(|part| std::str::from_utf8(&part[1..]).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(octal.unwrap_or(text[at]));
        at += if octal.is_some() { 4 } else { 1 };
    }
    out
}

/// Whether its path leads to it: nothing is mounted over it.
fn visible(mount: &Mount) -> bool {
    let Ok(path) = CString::new(mount.path.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: all-zero is a valid structure; a valid C string; the kernel writes one structure that outlives the call.
    unsafe {
        let mut found: libc::statx = std::mem::zeroed();
        let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
        libc::statx(
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            libc::STATX_MNT_ID,
            &raw mut found,
        ) == 0
            && found.stx_mnt_id == mount.id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(id: u64, path: &str) -> Mount {
        Mount {
            id,
            path: path.into(),
        }
    }

    #[test]
    fn mountinfo_is_read() {
        let table =
            b"36 35 98:0 /m /w/a\\040b rw,noatime master:1 - ext4 /dev/root rw,errors=continue\n\
            37 35 98:0 / /w/\\ ro - tmpfs none rw\nnonsense\n";
        assert_eq!(parse(table), [mount(36, "/w/a b"), mount(37, "/w/\\")]);
    }

    #[test]
    fn only_what_lies_in_a_root_counts() {
        let mounts = ["/w", "/w/m", "/wide", "/x/y", "/"].map(|path| mount(1, path));
        let roots = [PathBuf::from("/w"), PathBuf::from("/x/y")];
        let found: Vec<_> = beneath(&mounts, &roots)
            .map(|(m, root)| (&m.path, root))
            .collect();
        assert_eq!(found, [(&PathBuf::from("/w/m"), Path::new("/w"))]);
    }

    #[test]
    fn what_is_mounted_on_the_way_is_seen() {
        let table = std::fs::read("/proc/self/mountinfo").unwrap();
        let mounts = parse(&table);
        assert!(
            mounts
                .iter()
                .any(|m| m.path == Path::new("/proc") && visible(m))
        );
        assert!(!visible(&mount(u64::MAX, "/proc")));
    }
}
