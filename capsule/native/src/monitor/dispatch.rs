//! From a call's number and arguments to what performs it.
//!
//! What it refuses: every call that the plan does not allow with these arguments, reported with name and arguments;
//! and every call it has no performer for, though the filter sent it.

use super::attributes::{self, Change, Subject, Unit, change};
use super::broker::{Answer, Broker, Outcome};
use super::caller::Caller;
use super::errno::Errno;
use super::how::How;
use super::notified::ATTRIBUTE_REQUESTS;
use super::opens;
use super::table::Why;
use super::wire::{Layer, Operation, RuleLine};
use super::{observe, paths, processes, sockets, sys};
use crate::plan::Want;
use std::os::fd::{AsFd, AsRawFd};

const HERE: i32 = libc::AT_FDCWD;
const NO_FOLLOW: i32 = libc::AT_SYMLINK_NOFOLLOW;
/// `struct open_how` is never larger than a page (the kernel's limit).
const LARGEST_HOW: u64 = 4096;

/// Answer one call.
///
/// # Errors
/// What the call fails with.
#[allow(clippy::too_many_lines)]
pub fn dispatch(broker: &mut Broker, caller: Caller) -> Outcome {
    let number = caller.call.number;
    if let Some(observed) = &mut broker.observed
        && observed.call(number)
    {
        // The filter asks about these for the count alone; it would allow them with any arguments.
        return Ok(Answer::Continue);
    }
    match i64::from(number) {
        // A layer of the command's own would not bind what is opened here: it is told there is no Landlock.
        libc::SYS_landlock_create_ruleset => return Err(unsupported(broker, &caller)),
        libc::SYS_prctl if caller.int(0) == libc::PR_SET_DUMPABLE => {
            // Processes of the command are hidden from nobody but each other; to be served they must be readable.
            return if caller.long(1) <= 1 {
                Ok(Answer::Value(0))
            } else {
                Err(Errno::EINVAL)
            };
        }
        libc::SYS_socket | libc::SYS_socketpair if caller.int(0) == libc::AF_UNIX => {
            let rule = "Unix datagram sockets: each message could name another address";
            return Err(refuse(broker, &caller, Errno::EACCES, Some(rule)));
        }
        _ => {}
    }
    if !broker.table.allows(number, &caller.call.arguments) {
        let errno = broker.table.errno(number);
        return Err(refuse(broker, &caller, errno, None));
    }
    let (b, c) = (broker, &caller);
    match i64::from(number) {
        libc::SYS_open => open(b, caller, HERE, 0, 1),
        libc::SYS_openat => {
            let dirfd = caller.int(0);
            open(b, caller, dirfd, 1, 2)
        }
        libc::SYS_creat => {
            let (path, mode) = (c.path(0)?, c.long(1));
            let how = How::classic(libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode);
            opens::open(b, caller, HERE, &path, how)
        }
        libc::SYS_openat2 => {
            let (dirfd, size) = (c.int(0), c.long(3));
            if size > LARGEST_HOW {
                return Err(Errno::E2BIG);
            }
            let how = How::from_bytes(&c.memory().bytes(c.long(2), size as usize)?)?;
            if how.has(libc::O_PATH) {
                // Such a descriptor cannot be handed over, and "continue" would read the flags anew.
                return Err(Errno::ENOSYS);
            }
            let path = c.path(1)?;
            opens::open(b, caller, dirfd, &path, how)
        }
        libc::SYS_mkdir => paths::make_directory(b, c, HERE, &c.path(0)?, c.long(1) as u32),
        libc::SYS_mkdirat => paths::make_directory(b, c, c.int(0), &c.path(1)?, c.long(2) as u32),
        libc::SYS_mknod => paths::make_node(b, c, HERE, &c.path(0)?, c.long(1) as u32, c.long(2)),
        libc::SYS_mknodat => {
            paths::make_node(b, c, c.int(0), &c.path(1)?, c.long(2) as u32, c.long(3))
        }
        libc::SYS_rmdir => paths::remove(b, c, HERE, &c.path(0)?, true),
        libc::SYS_unlink => paths::remove(b, c, HERE, &c.path(0)?, false),
        libc::SYS_unlinkat => match c.int(2) {
            flags if flags & !libc::AT_REMOVEDIR != 0 => Err(Errno::EINVAL),
            flags => paths::remove(b, c, c.int(0), &c.path(1)?, flags != 0),
        },
        libc::SYS_rename => paths::rename(b, c, (HERE, &c.path(0)?), (HERE, &c.path(1)?), 0),
        libc::SYS_renameat => {
            paths::rename(b, c, (c.int(0), &c.path(1)?), (c.int(2), &c.path(3)?), 0)
        }
        libc::SYS_renameat2 => paths::rename(
            b,
            c,
            (c.int(0), &c.path(1)?),
            (c.int(2), &c.path(3)?),
            c.long(4) as u32,
        ),
        libc::SYS_link => paths::link(b, c, (HERE, &c.path(0)?), (HERE, &c.path(1)?), 0),
        libc::SYS_linkat => paths::link(
            b,
            c,
            (c.int(0), &c.path(1)?),
            (c.int(2), &c.path(3)?),
            c.int(4),
        ),
        libc::SYS_symlink => paths::make_link(b, c, &c.path(0)?, HERE, &c.path(1)?),
        libc::SYS_symlinkat => paths::make_link(b, c, &c.path(0)?, c.int(1), &c.path(2)?),
        libc::SYS_umask => {
            b.masked(c.long(0));
            Ok(Answer::Continue)
        }
        libc::SYS_bind => sockets::bind(b, c),
        libc::SYS_connect => sockets::connect(b, caller),
        libc::SYS_sendto => sockets::send(b, caller),
        libc::SYS_execve => observe::exec(b, c, HERE, &c.path(0)?, c.long(1), 0),
        libc::SYS_execveat => observe::exec(b, c, c.int(0), &c.path(1)?, c.long(2), c.int(4)),
        libc::SYS_ioctl => set_attributes(b, c),
        libc::SYS_prlimit64
        | libc::SYS_sched_setaffinity
        | libc::SYS_sched_setattr
        | libc::SYS_sched_setparam
        | libc::SYS_sched_setscheduler
        | libc::SYS_setpriority
        | libc::SYS_ioprio_set => processes::act(b, c),
        _ => attribute_calls(b, c),
    }
}

fn attribute_calls(b: &mut Broker, c: &Caller) -> Outcome {
    let mode = |n: usize| Change::Mode(c.long(n) as u32 & 0o7777);
    let owner = |n: usize| Change::Owner(c.long(n) as u32, c.long(n + 1) as u32);
    let memory = c.memory();
    match i64::from(c.call.number) {
        libc::SYS_truncate if c.long(1) as i64 >= 0 => change(
            b,
            c,
            Subject::Path(HERE, &c.path(0)?, true),
            &Change::Length(c.long(1) as i64),
        ),
        libc::SYS_truncate => Err(Errno::EINVAL),
        libc::SYS_chmod => change(b, c, Subject::Path(HERE, &c.path(0)?, true), &mode(1)),
        libc::SYS_fchmod => change(b, c, Subject::Descriptor(c.int(0)), &mode(1)),
        libc::SYS_fchmodat => at(b, c, c.int(0), 1, 0, &mode(2)),
        libc::SYS_fchmodat2 => at(b, c, c.int(0), 1, c.int(3), &mode(2)),
        libc::SYS_chown => change(b, c, Subject::Path(HERE, &c.path(0)?, true), &owner(1)),
        libc::SYS_lchown => change(b, c, Subject::Path(HERE, &c.path(0)?, false), &owner(1)),
        libc::SYS_fchown => change(b, c, Subject::Descriptor(c.int(0)), &owner(1)),
        libc::SYS_fchownat => at(b, c, c.int(0), 1, c.int(4), &owner(2)),
        libc::SYS_utime => {
            let times = attributes::times(memory, c.long(1), Unit::Seconds)?;
            change(b, c, Subject::Path(HERE, &c.path(0)?, true), &times)
        }
        libc::SYS_utimes => {
            let times = attributes::times(memory, c.long(1), Unit::Micro)?;
            change(b, c, Subject::Path(HERE, &c.path(0)?, true), &times)
        }
        libc::SYS_futimesat => {
            let times = attributes::times(memory, c.long(2), Unit::Micro)?;
            match c.long(1) {
                0 => change(b, c, Subject::Descriptor(c.int(0)), &times),
                _ => at(b, c, c.int(0), 1, 0, &times),
            }
        }
        libc::SYS_utimensat => {
            let times = attributes::times(memory, c.long(2), Unit::Nano)?;
            match c.long(1) {
                0 => change(b, c, Subject::Descriptor(c.int(0)), &times),
                _ => at(b, c, c.int(0), 1, c.int(3), &times),
            }
        }
        libc::SYS_setxattr => change(
            b,
            c,
            Subject::Path(HERE, &c.path(0)?, true),
            &attributes::attribute(c)?,
        ),
        libc::SYS_lsetxattr => change(
            b,
            c,
            Subject::Path(HERE, &c.path(0)?, false),
            &attributes::attribute(c)?,
        ),
        libc::SYS_fsetxattr => change(
            b,
            c,
            Subject::Descriptor(c.int(0)),
            &attributes::attribute(c)?,
        ),
        libc::SYS_removexattr | libc::SYS_lremovexattr => {
            let follow = i64::from(c.call.number) == libc::SYS_removexattr;
            let unset = Change::Unset(attributes::attribute_name(memory, c.long(1))?);
            change(b, c, Subject::Path(HERE, &c.path(0)?, follow), &unset)
        }
        libc::SYS_fremovexattr => {
            let unset = Change::Unset(attributes::attribute_name(memory, c.long(1))?);
            change(b, c, Subject::Descriptor(c.int(0)), &unset)
        }
        // The filter sent it, the plan allows it, and nothing here performs it: then nothing does.
        _ => {
            let errno = b.table.errno(c.call.number);
            let rule = "never allowed with these arguments";
            Err(refuse(b, c, errno, Some(rule)))
        }
    }
}

/// A call with a directory, a path as argument `n`, and `AT_*` flags.
fn at(b: &mut Broker, c: &Caller, dirfd: i32, n: usize, flags: i32, what: &Change) -> Outcome {
    if flags & !(NO_FOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let path = c.path(n)?;
    if path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
        return match dirfd {
            HERE => change(b, c, Subject::Path(HERE, b".", true), what),
            _ => pinned(b, c, dirfd, what),
        };
    }
    change(
        b,
        c,
        Subject::Path(dirfd, &path, flags & NO_FOLLOW == 0),
        what,
    )
}

/// `AT_EMPTY_PATH` also takes a descriptor that was opened with `O_PATH`: by way of its own link.
fn pinned(b: &mut Broker, c: &Caller, fd: i32, what: &Change) -> Outcome {
    if fd < 0 {
        return Err(Errno::EBADF);
    }
    let path = format!("/proc/{}/fd/{fd}", c.call.tid);
    change(b, c, Subject::Path(HERE, path.as_bytes(), true), what)
        .map_err(|e| if e == Errno::ENOENT { Errno::EBADF } else { e })
}

fn open(b: &mut Broker, caller: Caller, dirfd: i32, path: usize, flags: usize) -> Outcome {
    let how = How::classic(caller.int(flags), caller.long(flags + 1));
    // The flags are in a register, out of reach of the command's other threads: what may only be pinned stays only
    // pinned, and content is reached by opening it again, here.
    if how.has(libc::O_PATH) && b.read_denies {
        return Ok(Answer::Continue);
    }
    let path = caller.path(path)?;
    // Where no name in a readable directory is denied, Landlock says all there is to say about reading.
    if how.only_reads() && !b.read_denies {
        return observe::read(b, &caller, dirfd, &path);
    }
    opens::open(b, caller, dirfd, &path, how)
}

/// `ioctl` that changes a file's attributes: on our copy of the descriptor, with our copy of the value.
fn set_attributes(b: &mut Broker, c: &Caller) -> Outcome {
    let request = u64::from(c.long(1) as u32);
    if !ATTRIBUTE_REQUESTS.contains(&request) {
        return Err(refuse(b, c, Errno::EPERM, None));
    }
    let object = super::resolve::Object::new(c.descriptor(c.int(0))?)?;
    // The size is in the request; the flags themselves are an `int` whatever it says.
    let size = if request == 0x401c_5820 { 28 } else { 4 };
    let mut value = c.memory().bytes(c.long(2), size)?;
    value.resize(32, 0);
    if !object.nameless() {
        b.demand(c, Operation::Change, &object.name, Want::Write)?;
    }
    b.confirm(c)?;
    let arguments = [
        object.fd.as_fd().as_raw_fd() as u64,
        request,
        value.as_ptr() as u64,
        0,
        0,
        0,
    ];
    // SAFETY: `value` is larger than anything these requests read, and outlives the call.
    unsafe { sys::raw(libc::SYS_ioctl, arguments) }?;
    b.done(c, Operation::Change, &object.name, None);
    Ok(Answer::Value(0))
}

/// A call that is not allowed.
pub(super) fn refuse(b: &mut Broker, c: &Caller, errno: Errno, why: Option<&str>) -> Errno {
    let name = b.table.name(c.call.number);
    let [first, second, third, ..] = c.call.arguments;
    let target = format!("{name}({first:#x}, {second:#x}, {third:#x})");
    let always = |text: &str| RuleLine {
        text: text.to_owned(),
        file: "capsule:always".to_owned(),
        line: 0,
    };
    let (rule, allow) = match (why, b.table.why(c.call.number)) {
        (Some(text), _) | (None, Why::Never(text)) => (Some(always(text)), None),
        (None, Why::Line(line)) => (Some(line), None),
        (None, Why::NotAllowed(allow)) => (None, Some(allow)),
    };
    b.report(
        c,
        Operation::Syscall,
        target,
        Layer::Seccomp,
        errno,
        rule,
        allow,
    );
    errno
}

fn unsupported(b: &mut Broker, c: &Caller) -> Errno {
    let rule = "a Landlock layer of the command's own would not bind the monitor";
    refuse(b, c, Errno::EOPNOTSUPP, Some(rule))
}
