//! File operations, in a forked child that has become the user it acts for.
//!
//! The child has two descriptors, the content and the report, and nothing else of the agent. Refuses `remove` of a directory
//! without `recursive`, and never follows a link when it removes or renames.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{Error, Read, Result, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use serde_json::{Value, json};

use crate::message::{File, FileOp};
use crate::{errno, sys};

/// Entries that a list has at most, and bytes of their names, as JSON has them, and of what is told of them.
const LIST_LIMIT: usize = 4096;
const LIST_BYTES: usize = 480 << 10;
const NAME_COST: usize = 100;
const CHUNK: usize = 128 << 10;

/// Which way content flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Direction {
    None,
    ToHost,
    FromHost,
}

/// Which way content of an operation flows.
pub fn direction(op: FileOp) -> Direction {
    match op {
        FileOp::Read => Direction::ToHost,
        FileOp::Write => Direction::FromHost,
        FileOp::Stat | FileOp::List | FileOp::Mkdir | FileOp::Remove | FileOp::Rename => {
            Direction::None
        }
    }
}

/// The child: does what is asked, tells how it went, and ends.
pub fn child(asked: &File, data: BorrowedFd<'_>, report: BorrowedFd<'_>) -> ! {
    let _ = sys::new_session();
    let told = sys::keep_only(&[data, report]).and_then(|()| {
        Ok((
            fs::File::from(sys::inherited(0)?),
            fs::File::from(sys::inherited(1)?),
        ))
    });
    let Ok((mut data, mut report)) = told else {
        sys::exit_now(126)
    };
    let become_who = || match sys::effective_uid() {
        uid if uid != 0 && uid == asked.uid => Ok(()),
        _ => sys::become_user(asked.uid, asked.gid),
    };
    let done = become_who().and_then(|()| act(asked, &mut data, &mut report));
    let text = match done {
        Ok(value) => json!({ "value": value }),
        Err(error) => {
            json!({ "errno": errno::of(&error), "reason": format!("{}: {error}", asked.path) })
        }
    };
    drop(data);
    let told = serde_json::to_vec(&text)
        .map_err(Error::from)
        .and_then(|text| report.write_all(&text));
    sys::exit_now(i32::from(told.is_err()))
}

fn act(asked: &File, data: &mut fs::File, report: &mut fs::File) -> Result<Value> {
    let path = Path::new(&asked.path);
    match asked.op {
        FileOp::Stat => {
            let about = fs::symlink_metadata(path)?;
            let target = if about.is_symlink() {
                Some(escaped(fs::read_link(path)?.as_os_str().as_bytes()))
            } else {
                None
            };
            Ok(json!({
                "kind": kind(&about), "size": about.len(), "mode": about.mode() & 0o7777, "uid": about.uid(), "gid": about.gid(),
                "mtime_ns": nanoseconds(&about), "target": target,
            }))
        }
        FileOp::List => list(path, asked.after.as_deref()),
        FileOp::Mkdir => {
            let mode = asked.mode.unwrap_or(0o755);
            fs::DirBuilder::new()
                .recursive(asked.recursive)
                .mode(mode)
                .create(path)?;
            Ok(json!({}))
        }
        FileOp::Remove => {
            let about = fs::symlink_metadata(path)?;
            if !about.is_dir() {
                fs::remove_file(path)?;
            } else if asked.recursive {
                fs::remove_dir_all(path)?;
            } else {
                fs::remove_dir(path)?;
            }
            Ok(json!({}))
        }
        FileOp::Rename => {
            let to = asked
                .to
                .as_deref()
                .ok_or_else(|| Error::from_raw_os_error(libc::EINVAL))?;
            fs::rename(path, to)?;
            Ok(json!({}))
        }
        FileOp::Read => {
            // Not waiting: a FIFO has no end, and to open one may take forever.
            let mut file = fs::OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(path)?;
            let about = file.metadata()?;
            if about.is_dir() {
                return Err(Error::from_raw_os_error(libc::EISDIR));
            }
            if !about.is_file() {
                return Err(Error::from_raw_os_error(libc::EINVAL));
            }
            report.write_all(b"started\n")?;
            Ok(json!({ "size": copy(&mut file, data)? }))
        }
        FileOp::Write => write(path, asked.mode.unwrap_or(0o644), data, report),
    }
}

// A file without a name until it is whole, then a rename: whoever reads sees the old content or the new, and a write that the
// host takes back (a reset: this process is killed) leaves nothing behind where the file system has such files.
fn write(path: &Path, mode: u32, data: &mut fs::File, report: &mut fs::File) -> Result<Value> {
    let name = path
        .file_name()
        .ok_or_else(|| Error::from_raw_os_error(libc::EISDIR))?;
    if fs::metadata(path).is_ok_and(|about| about.is_dir()) {
        return Err(Error::from_raw_os_error(libc::EISDIR));
    }
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    let beside = path.with_file_name(hidden);
    let directory = path.parent().unwrap_or(Path::new("/"));
    let unnamed = fs::OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o600)
        .open(directory);
    let (mut file, named) = match unnamed {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => (
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&beside)?,
            true,
        ),
        file => (file?, false),
    };
    let done = report
        .write_all(b"started\n")
        .and_then(|()| copy(data, &mut file))
        .and_then(|size| {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            if !named {
                sys::name_file(file.as_fd(), &beside)?;
            }
            fs::rename(&beside, path)?;
            Ok(size)
        });
    if done.is_err() {
        let _ = fs::remove_file(&beside);
    }
    Ok(json!({ "size": done? }))
}

fn copy(from: &mut fs::File, to: &mut fs::File) -> Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut size = 0;
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(size),
            count => {
                to.write_all(&buffer[..count])?;
                size += count as u64;
            }
        }
    }
}

// The first names after `after`, in order. However many there are, so many are kept and no more.
fn list(path: &Path, after: Option<&str>) -> Result<Value> {
    let mut first: BTreeMap<String, OsString> = BTreeMap::new();
    let (mut bytes, mut truncated) = (0, false);
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let shown = escaped(name.as_bytes());
        if after.is_some_and(|after| shown.as_str() <= after) {
            continue;
        }
        bytes += cost(&shown);
        if let Some(twin) = first.insert(shown, name) {
            bytes -= cost(&escaped(twin.as_bytes()));
        }
        while first.len() > LIST_LIMIT || bytes > LIST_BYTES {
            let Some((last, _)) = first.pop_last() else {
                break;
            };
            bytes -= cost(&last);
            truncated = true;
        }
    }
    let last = first.last_key_value().map(|(name, _)| name.clone());
    let entries: Vec<Value> = first
        .into_iter()
        // One that was removed meanwhile is not there.
        .filter_map(|(name, real)| Some((name, fs::symlink_metadata(path.join(real)).ok()?)))
        .map(|(name, about)| {
            json!({
                "name": name, "kind": kind(&about), "size": about.len(), "mode": about.mode() & 0o7777,
                "mtime_ns": nanoseconds(&about),
            })
        })
        .collect();
    Ok(json!({ "entries": entries, "truncated": truncated, "last": last }))
}

// A quote is two bytes of JSON, a control character six.
fn cost(shown: &str) -> usize {
    json!(shown).to_string().len() + NAME_COST
}

fn kind(about: &fs::Metadata) -> &'static str {
    let kind = about.file_type();
    if kind.is_file() {
        "file"
    } else if kind.is_dir() {
        "directory"
    } else if kind.is_symlink() {
        "link"
    } else if kind.is_fifo() {
        "fifo"
    } else if kind.is_socket() {
        "socket"
    } else if kind.is_char_device() {
        "character"
    } else {
        "block"
    }
}

fn nanoseconds(about: &fs::Metadata) -> i64 {
    about
        .mtime()
        .saturating_mul(1_000_000_000)
        .saturating_add(about.mtime_nsec())
}

/// Bytes as text, with `\xNN` for those that are not UTF-8.
pub fn escaped(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_that_grow_as_json_fits_its_report() {
        let directory = std::env::temp_dir().join(format!("capsem-list-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let count = 600;
        for number in 0..count {
            fs::write(
                directory.join(format!("{number:04}{}", "\u{1}".repeat(250))),
                "",
            )
            .unwrap();
        }
        let (mut seen, mut after) = (0, None);
        loop {
            let told = list(&directory, after.as_deref()).unwrap();
            assert!(json!({ "value": told }).to_string().len() <= crate::acts::REPORT_LIMIT);
            seen += told["entries"].as_array().unwrap().len();
            if told["truncated"] == false {
                break;
            }
            after = told["last"].as_str().map(str::to_owned);
        }
        fs::remove_dir_all(&directory).unwrap();
        assert_eq!(seen, count);
    }
}
