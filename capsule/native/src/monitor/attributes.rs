//! Modes, owners, times, extended attributes, length: changed on a pinned object, by its canonical name.
//!
//! Landlock governs none of these but `truncate`. What it refuses: what the plan refuses to write, also through a
//! descriptor that is only open for reading.

use super::broker::{Answer, Broker, Outcome};
use super::caller::{Base, Caller};
use super::errno::Errno;
use super::memory::Memory;
use super::resolve::Object;
use super::sys;
use super::wire::{Layer, Operation, RuleLine, text};
use crate::plan::Want;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd};

/// Longest name of an extended attribute (`XATTR_NAME_MAX`) with its end, and longest value (`XATTR_SIZE_MAX`).
const XATTR_NAME: usize = 256;
const XATTR_SIZE: u64 = 65536;

/// What a call is about.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// A path, its base and whether a link at its end is followed.
    Path(i32, &'a [u8], bool),
    /// An open descriptor.
    Descriptor(i32),
}

/// What is to change.
#[derive(Debug, Clone)]
pub enum Change {
    /// Permission bits.
    Mode(u32),
    /// User and group; -1 stays.
    Owner(u32, u32),
    /// Access and modification time; `None` is now.
    Times(Option<[libc::timespec; 2]>),
    /// Length in bytes.
    Length(i64),
    /// An extended attribute: name, value, flags.
    Set(CString, Vec<u8>, i32),
    /// An extended attribute is removed.
    Unset(CString),
}

/// Perform a change.
///
/// # Errors
/// As the kernel, or `EACCES`, reported.
pub fn change(
    broker: &mut Broker,
    caller: &Caller,
    subject: Subject<'_>,
    change: &Change,
) -> Outcome {
    let object = find(broker, caller, subject, matches!(change, Change::Length(_)))?;
    let operation = if matches!(change, Change::Length(_)) {
        Operation::Write
    } else {
        Operation::Change
    };
    if !object.nameless() {
        broker.demand(caller, operation, &object.name, Want::Write)?;
    }
    if lends_identity(change, &object) {
        let rule = RuleLine {
            text: "a program that runs as its owner (set-user-ID, set-group-ID)".into(),
            file: "capsule:always".into(),
            line: 0,
        };
        let (layer, errno) = (Layer::Supervisor, Errno::EPERM);
        broker.report(
            caller,
            operation,
            text(&object.name),
            layer,
            errno,
            Some(rule),
            None,
        );
        return Err(errno);
    }
    broker.confirm(caller)?;
    match subject {
        Subject::Descriptor(_) => through_descriptor(&object, change)?,
        Subject::Path(..) => by_name(&object, change)?,
    }
    if !object.nameless() {
        broker.done(caller, operation, &object.name, None);
    }
    Ok(Answer::Value(0))
}

/// Whether this would leave a file that lends its owner's identity to whoever runs it, on the host too. On a
/// directory the bit only says which group new files get.
fn lends_identity(change: &Change, object: &Object) -> bool {
    matches!(change, Change::Mode(mode) if mode & 0o6000 != 0)
        && sys::kind(&object.stat) != libc::S_IFDIR
}

fn find(
    broker: &mut Broker,
    caller: &Caller,
    subject: Subject<'_>,
    content: bool,
) -> Result<Object, Errno> {
    match subject {
        Subject::Descriptor(number) => Object::new(caller.descriptor(number)?),
        Subject::Path(dirfd, path, follow) => {
            let mut links = Vec::new();
            let object =
                broker
                    .resolver
                    .object(&Base::Of(caller, dirfd), path, follow, &mut |name| {
                        links.push(name.to_vec());
                        Ok(())
                    })?;
            let operation = if content {
                Operation::Write
            } else {
                Operation::Change
            };
            for name in links {
                broker.pass(caller, operation, &name, Want::Write)?;
            }
            Ok(object)
        }
    }
}

/// On the caller's open file: the kernel checks its mode of opening as it would for the caller.
fn through_descriptor(object: &Object, change: &Change) -> Result<(), Errno> {
    let fd = object.fd.as_raw_fd() as u64;
    let (number, arguments) = match change {
        Change::Mode(mode) => (libc::SYS_fchmod, [fd, u64::from(*mode), 0, 0, 0, 0]),
        Change::Owner(user, group) => (
            libc::SYS_fchown,
            [fd, u64::from(*user), u64::from(*group), 0, 0, 0],
        ),
        Change::Times(times) => (libc::SYS_utimensat, [fd, 0, pointer(times), 0, 0, 0]),
        Change::Length(length) => (libc::SYS_ftruncate, [fd, *length as u64, 0, 0, 0, 0]),
        Change::Set(name, value, flags) => (
            libc::SYS_fsetxattr,
            [
                fd,
                name.as_ptr() as u64,
                value.as_ptr() as u64,
                value.len() as u64,
                *flags as u64,
                0,
            ],
        ),
        Change::Unset(name) => (
            libc::SYS_fremovexattr,
            [fd, name.as_ptr() as u64, 0, 0, 0, 0],
        ),
    };
    // SAFETY: every pointer is into `change`, which outlives the call, with the lengths given.
    unsafe { sys::raw(number, arguments) }.map(drop)
}

/// On what is pinned: through `/proc/self/fd` where the call would follow a link there, which is the way to the
/// object; where the object is itself a link, by calls that take its descriptor.
fn by_name(object: &Object, change: &Change) -> Result<(), Errno> {
    let is_link = sys::kind(&object.stat) == libc::S_IFLNK;
    let (fd, here) = (object.fd.as_raw_fd() as u64, libc::AT_FDCWD as u64);
    let empty = libc::AT_EMPTY_PATH as u64;
    let none = c"".as_ptr() as u64;
    let path = sys::link(object.fd.as_fd());
    let path = path.as_ptr() as u64;
    let (number, arguments) = match change {
        Change::Mode(_) if is_link => return Err(Errno::EOPNOTSUPP),
        // The kernel has no attributes on links that a program without capabilities may change.
        Change::Set(..) | Change::Unset(_) if is_link => return Err(Errno::EPERM),
        Change::Length(_) if is_link => return Err(Errno::ELOOP),
        Change::Mode(mode) => (libc::SYS_fchmodat, [here, path, u64::from(*mode), 0, 0, 0]),
        Change::Owner(user, group) => (
            libc::SYS_fchownat,
            [fd, none, u64::from(*user), u64::from(*group), empty, 0],
        ),
        Change::Times(times) if is_link => {
            (libc::SYS_utimensat, [fd, none, pointer(times), empty, 0, 0])
        }
        Change::Times(times) => (libc::SYS_utimensat, [here, path, pointer(times), 0, 0, 0]),
        Change::Length(length) => (libc::SYS_truncate, [path, *length as u64, 0, 0, 0, 0]),
        Change::Set(name, value, flags) => (
            libc::SYS_setxattr,
            [
                path,
                name.as_ptr() as u64,
                value.as_ptr() as u64,
                value.len() as u64,
                *flags as u64,
                0,
            ],
        ),
        Change::Unset(name) => (
            libc::SYS_removexattr,
            [path, name.as_ptr() as u64, 0, 0, 0, 0],
        ),
    };
    // SAFETY: every pointer is into `change` or `path`, which outlive the call, with the lengths given.
    unsafe { sys::raw(number, arguments) }.map(drop)
}

fn pointer(times: &Option<[libc::timespec; 2]>) -> u64 {
    times.as_ref().map_or(0, |t| t.as_ptr() as u64)
}

/// The two times behind an address: none for null.
///
/// # Errors
/// `EFAULT`, `EINVAL`.
pub fn times(memory: Memory, address: u64, unit: Unit) -> Result<Change, Errno> {
    if address == 0 {
        return Ok(Change::Times(None));
    }
    if unit == Unit::Seconds {
        let bytes: [u8; 16] = memory.array(address)?;
        let [access, change] = numbers(&bytes);
        return Ok(Change::Times(Some([access, change].map(|s| {
            libc::timespec {
                tv_sec: s,
                tv_nsec: 0,
            }
        }))));
    }
    let bytes: [u8; 32] = memory.array(address)?;
    let [access, access_part, change, change_part] = numbers(&bytes);
    let scale = |part: i64| match unit {
        Unit::Micro if !(0..1_000_000).contains(&part) => Err(Errno::EINVAL),
        Unit::Micro => Ok(part * 1000),
        _ => Ok(part),
    };
    Ok(Change::Times(Some([
        libc::timespec {
            tv_sec: access,
            tv_nsec: scale(access_part)?,
        },
        libc::timespec {
            tv_sec: change,
            tv_nsec: scale(change_part)?,
        },
    ])))
}

/// How times are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// `struct utimbuf`.
    Seconds,
    /// `struct timeval[2]`.
    Micro,
    /// `struct timespec[2]`.
    Nano,
}

fn numbers<const N: usize>(bytes: &[u8]) -> [i64; N] {
    let mut out = [0; N];
    for (number, chunk) in out.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut raw = [0; 8];
        raw.copy_from_slice(chunk);
        *number = i64::from_ne_bytes(raw);
    }
    out
}

/// The name of an extended attribute.
///
/// # Errors
/// `ERANGE` when it is empty or too long, as the kernel.
pub fn attribute_name(memory: Memory, address: u64) -> Result<CString, Errno> {
    let name = memory.string(address, XATTR_NAME).map_err(|e| {
        if e == Errno::ENAMETOOLONG {
            Errno::ERANGE
        } else {
            e
        }
    })?;
    if name.is_empty() {
        Err(Errno::ERANGE)
    } else {
        sys::c_string(&name)
    }
}

/// Name, value and flags of `setxattr` and its kin, which all have them as arguments 1 to 4.
///
/// # Errors
/// `E2BIG`, `ERANGE`, `EFAULT`.
pub fn attribute(caller: &Caller) -> Result<Change, Errno> {
    if caller.long(3) > XATTR_SIZE {
        return Err(Errno::E2BIG);
    }
    let name = attribute_name(caller.memory(), caller.long(1))?;
    let value = caller
        .memory()
        .bytes(caller.long(2), caller.long(3) as usize)?;
    Ok(Change::Set(name, value, caller.int(4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_in_three_units() {
        let memory = Memory(std::process::id() as libc::pid_t);
        let seconds: [i64; 2] = [5, 6];
        let parts: [i64; 4] = [5, 7, 6, 8];
        let read = |address: *const i64, unit| match times(memory, address as u64, unit).unwrap() {
            Change::Times(Some([a, b])) => (a.tv_sec, a.tv_nsec, b.tv_sec, b.tv_nsec),
            other => panic!("{other:?}"),
        };
        assert_eq!(read(seconds.as_ptr(), Unit::Seconds), (5, 0, 6, 0));
        assert_eq!(read(parts.as_ptr(), Unit::Micro), (5, 7000, 6, 8000));
        assert_eq!(read(parts.as_ptr(), Unit::Nano), (5, 7, 6, 8));
        assert!(matches!(
            times(memory, 0, Unit::Nano),
            Ok(Change::Times(None))
        ));
        let bad: [i64; 4] = [5, 1_000_000, 6, 8];
        assert!(times(memory, bad.as_ptr() as u64, Unit::Micro).is_err());
    }
}
