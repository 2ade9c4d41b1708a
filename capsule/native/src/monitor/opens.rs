//! `open`, `openat`, `openat2`, `creat`: performed here, handed back as a descriptor.
//!
//! The directory is pinned, the full canonical name decided, the last name opened without following; a link at the
//! end is followed by hand and decided anew. After opening, the name of what was opened is looked at once more.
//! What it refuses: what the plan refuses; a file of any other kind where a guarded directory must be; to wait. `O_PATH`
//! never comes here: such a descriptor cannot be handed over, and gives no access to content.

use super::broker::{Answer, Broker, Outcome};
use super::caller::{Base, Caller};
use super::errno::Errno;
use super::how::{How, TMPFILE};
use super::resolve::{MAX_LINKS, Object, Place};
use super::sys;
use super::wire::Operation;
use crate::plan::{Kind, Verdict, Want};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Device number of `/dev/tty`.
const TTY: libc::dev_t = libc::makedev(5, 0);

/// Perform an open.
///
/// # Errors
/// As the kernel, or `EACCES`, reported.
pub fn open(broker: &mut Broker, caller: Caller, dirfd: i32, path: &[u8], how: How) -> Outcome {
    if how.resolve != 0 {
        return open_constrained(broker, caller, dirfd, path, how);
    }
    let mut place = match broker.resolver.place(&Base::Of(&caller, dirfd), path) {
        Ok(place) => place,
        Err(errno) => {
            super::observe::astray(broker, &caller, how.operation(), dirfd, path, errno);
            return Err(errno);
        }
    };
    broker.confirm(&caller)?;
    for _ in 0..=MAX_LINKS {
        if place.special || how.has(TMPFILE) || place.slash {
            return open_directory(broker, caller, place, how);
        }
        let stat = match sys::stat_at(place.parent.as_fd(), &place.last) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => return open_absent(broker, &caller, &place, how),
            Err(errno) => return Err(errno),
        };
        if how.has(libc::O_CREAT) && how.has(libc::O_EXCL) {
            return Err(Errno::EEXIST);
        }
        if sys::kind(&stat) != libc::S_IFLNK {
            return open_present(broker, caller, &place, how, &stat);
        }
        if how.has(libc::O_NOFOLLOW) {
            return Err(Errno::ELOOP);
        }
        broker.pass(&caller, how.operation(), &place.name, how.want())?;
        if broker.resolver.is_magic(place.parent.as_fd())? {
            if let Some(fd) = held(broker, &caller, &place, how) {
                return Ok(Answer::Descriptor {
                    fd,
                    cloexec: how.has(libc::O_CLOEXEC),
                });
            }
            let object = Object::new(broker.resolver.magic(place.parent.as_fd(), &place.last)?)?;
            return reopen(broker, caller, object, how);
        }
        let target = sys::read_link_at(place.parent.as_raw_fd(), &place.last)?;
        let next = broker
            .resolver
            .place(&Base::At(&caller, place.parent.as_fd()), &target)?;
        place = next;
    }
    Err(Errno::ELOOP)
}

/// `/dev/stdout` and its like where the name behind it is not granted, but the caller holds it open as it asks: it
/// gets what it has. So output redirected to a file outside works, and nothing is gained by it.
fn held(broker: &Broker, caller: &Caller, place: &Place, how: How) -> Option<OwnedFd> {
    let number = place.last.to_str().ok()?.parse().ok()?;
    let own = format!("/proc/{}/fd/{number}", caller.process());
    if place.name != own.as_bytes() {
        return None;
    }
    let fd = caller.descriptor(number).ok()?;
    let object = Object::new(fd).ok()?;
    if object.nameless() {
        return None;
    }
    match broker.judge(&object.name, how.want()) {
        Verdict::Refused(r) if matches!(r.kind, Kind::NotGranted | Kind::Hidden) => {}
        _ => return None,
    }
    // SAFETY: plain integers on a descriptor we own.
    let flags = unsafe { libc::fcntl(object.fd.as_raw_fd(), libc::F_GETFL) };
    let (has, wants) = (flags & libc::O_ACCMODE, how.flags & libc::O_ACCMODE);
    let enough = has == libc::O_RDWR || (has == wants && (has == libc::O_WRONLY || !how.writes()));
    (flags & libc::O_PATH == 0 && enough).then_some(object.fd)
}

/// The name does not exist.
fn open_absent(broker: &mut Broker, caller: &Caller, place: &Place, how: How) -> Outcome {
    if !how.has(libc::O_CREAT) {
        super::observe::absent(broker, caller, how.operation(), &place.name);
        return Err(Errno::ENOENT);
    }
    broker.demand(caller, Operation::Create, &place.name, Want::Write)?;
    broker.stays_directory(caller, Operation::Create, &place.name)?;
    broker.take_umask(caller)?;
    broker.confirm(caller)?;
    let flags = how.flags | libc::O_NOFOLLOW | libc::O_NOCTTY;
    let fd = sys::open_at(place.parent.as_fd(), &place.last, flags, how.mode)?;
    again(
        broker,
        caller,
        &fd,
        &place.name,
        Operation::Create,
        Want::Write,
    )?;
    broker.done(caller, Operation::Create, &place.name, None);
    Ok(Answer::Descriptor {
        fd,
        cloexec: how.has(libc::O_CLOEXEC),
    })
}

/// The name exists and is no link.
fn open_present(
    broker: &mut Broker,
    caller: Caller,
    place: &Place,
    how: How,
    stat: &libc::stat,
) -> Outcome {
    let kind = sys::kind(stat);
    if kind == libc::S_IFDIR && (how.writes() || how.has(libc::O_CREAT)) {
        return Err(Errno::EISDIR);
    }
    broker.demand(&caller, how.operation(), &place.name, how.want())?;
    let cloexec = how.has(libc::O_CLOEXEC);
    if kind == libc::S_IFCHR && stat.st_rdev == TTY {
        let fd = open_terminal(broker, how)?;
        return Ok(Answer::Descriptor { fd, cloexec });
    }
    if waits(kind, how) {
        let fd = sys::open_at(
            place.parent.as_fd(),
            &place.last,
            libc::O_PATH | libc::O_NOFOLLOW,
            0,
        )?;
        return open_in_worker(broker, caller, fd, how);
    }
    let flags = (how.flags & !libc::O_CREAT) | libc::O_NOFOLLOW | libc::O_NOCTTY;
    let fd = sys::open_at(place.parent.as_fd(), &place.last, flags, 0)?;
    again(
        broker,
        &caller,
        &fd,
        &place.name,
        how.operation(),
        how.want(),
    )?;
    broker.done(&caller, how.operation(), &place.name, None);
    Ok(opened(fd, kind, how))
}

/// The path can only mean a directory: it ends in `/`, `.` or `..`, or a file without a name is wanted in it.
fn open_directory(broker: &mut Broker, caller: Caller, place: Place, how: How) -> Outcome {
    if how.has(libc::O_CREAT) {
        return Err(Errno::EISDIR);
    }
    let object = if place.special {
        Object::new(place.parent)?
    } else {
        let path = if place.slash {
            [place.last.to_bytes(), b"/"].concat()
        } else {
            place.last.to_bytes().to_vec()
        };
        let (operation, want) = (how.operation(), how.want());
        let mut refused = Vec::new();
        let follow = !how.has(libc::O_NOFOLLOW) || place.slash;
        let base = Base::At(&caller, place.parent.as_fd());
        let object = broker.resolver.object(&base, &path, follow, &mut |name| {
            refused.push(name.to_vec());
            Ok(())
        })?;
        for name in refused {
            broker.pass(&caller, operation, &name, want)?;
        }
        object
    };
    if sys::kind(&object.stat) != libc::S_IFDIR {
        return Err(Errno::ENOTDIR);
    }
    reopen(broker, caller, object, how)
}

/// Open what is pinned, by the kernel's name for it.
fn reopen(broker: &mut Broker, caller: Caller, object: Object, how: How) -> Outcome {
    let named = !object.nameless();
    if named {
        broker.demand(&caller, how.operation(), &object.name, how.want())?;
    }
    let kind = sys::kind(&object.stat);
    if kind == libc::S_IFCHR && object.stat.st_rdev == TTY {
        let fd = open_terminal(broker, how)?;
        return Ok(Answer::Descriptor {
            fd,
            cloexec: how.has(libc::O_CLOEXEC),
        });
    }
    // A pipe without a name never waits: it has both ends.
    if object.name.starts_with(b"/") && waits(kind, how) {
        return open_in_worker(broker, caller, object.fd, how);
    }
    if how.has(TMPFILE) {
        broker.take_umask(&caller)?;
    }
    broker.confirm(&caller)?;
    let flags = (how.flags & !(libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW)) | libc::O_NOCTTY;
    let flags = if how.has(TMPFILE) {
        flags | (how.flags & libc::O_EXCL)
    } else {
        flags
    };
    let fd = sys::open_at(
        broker.resolver.root(),
        &sys::link(object.fd.as_fd()),
        flags,
        how.mode,
    )?;
    if named {
        broker.done(&caller, how.operation(), &object.name, None);
    }
    Ok(opened(fd, kind, how))
}

/// What is handed back.
fn opened(fd: OwnedFd, kind: u32, how: How) -> Answer {
    let cloexec = how.has(libc::O_CLOEXEC);
    if kind == libc::S_IFIFO {
        Answer::PipeEnd { fd, cloexec }
    } else {
        Answer::Descriptor { fd, cloexec }
    }
}

/// `openat2` with constraints: the kernel walks with them to what exists; what does not exist is created in a
/// directory that was reached with them, and never through a link.
fn open_constrained(
    broker: &mut Broker,
    caller: Caller,
    dirfd: i32,
    path: &[u8],
    how: How,
) -> Outcome {
    if path.is_empty() {
        return Err(Errno::ENOENT);
    }
    let resolve = how.resolve | libc::RESOLVE_NO_MAGICLINKS;
    let rooted = how.resolve & (libc::RESOLVE_BENEATH | libc::RESOLVE_IN_ROOT) != 0;
    let start = if path.starts_with(b"/") && !rooted {
        broker
            .resolver
            .root()
            .try_clone_to_owned()
            .map_err(|_| Errno::EMFILE)?
    } else {
        caller.directory(dirfd)?
    };
    if how.resolve & libc::RESOLVE_NO_SYMLINKS == 0 {
        // Only for the names of the links on the way; where it leads the kernel says, with the constraints.
        let relative: Vec<u8> = path.iter().copied().skip_while(|&b| b == b'/').collect();
        let _ = broker
            .resolver
            .place(&Base::At(&caller, start.as_fd()), &relative);
    }
    broker.confirm(&caller)?;
    let pin = libc::O_PATH | (how.flags & libc::O_NOFOLLOW);
    match sys::open_resolved(start.as_fd(), &sys::c_string(path)?, pin, resolve) {
        Ok(_) if how.has(libc::O_CREAT) && how.has(libc::O_EXCL) => Err(Errno::EEXIST),
        Ok(fd) => {
            let object = Object::new(fd)?;
            let kind = sys::kind(&object.stat);
            if kind == libc::S_IFLNK {
                return Err(Errno::ELOOP);
            }
            if kind == libc::S_IFDIR && how.has(libc::O_CREAT) {
                return Err(Errno::EISDIR);
            }
            reopen(broker, caller, object, how)
        }
        Err(Errno::ENOENT) if how.has(libc::O_CREAT) => {
            let (lead, last, slash) = super::resolve::split(path);
            if slash || matches!(last, b"" | b"." | b"..") {
                return Err(Errno::EISDIR);
            }
            let flags = libc::O_PATH | libc::O_DIRECTORY;
            let parent = sys::open_resolved(start.as_fd(), &sys::c_string(lead)?, flags, resolve)?;
            let place = broker
                .resolver
                .place(&Base::At(&caller, parent.as_fd()), last)?;
            match sys::stat_at(place.parent.as_fd(), &place.last) {
                Err(Errno::ENOENT) => open_absent(broker, &caller, &place, how),
                Ok(stat) if sys::kind(&stat) != libc::S_IFLNK => {
                    open_present(broker, caller, &place, how, &stat)
                }
                Ok(_) => Err(Errno::ELOOP),
                Err(errno) => Err(errno),
            }
        }
        Err(errno) => Err(errno),
    }
}

/// What was opened must still be called what was decided, or something else that is granted.
fn again(
    broker: &mut Broker,
    caller: &Caller,
    fd: &OwnedFd,
    decided: &[u8],
    operation: Operation,
    want: Want,
) -> Result<(), Errno> {
    let name = sys::name_of(fd.as_fd())?;
    if name == decided || !name.starts_with(b"/") {
        return Ok(());
    }
    match broker.judge(&name, want) {
        Verdict::Refused(refusal)
            if refusal.kind != Kind::NotGranted || !name.ends_with(b" (deleted)") =>
        {
            Err(broker.refuse(caller, operation, &name, refusal))
        }
        _ => Ok(()),
    }
}

/// Whether opening may wait for another process.
fn waits(kind: u32, how: How) -> bool {
    let both = how.flags & libc::O_ACCMODE == libc::O_RDWR;
    kind == libc::S_IFIFO && !how.has(libc::O_NONBLOCK) && !both
}

fn open_in_worker(broker: &mut Broker, caller: Caller, pinned: OwnedFd, how: How) -> Outcome {
    let listener = std::sync::Arc::clone(&broker.listener);
    let flags = how.flags & !(libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_TRUNC);
    broker.workers.start(&listener, caller, move || {
        let fd = sys::open(&sys::link(pinned.as_fd()), flags | libc::O_NOCTTY)?;
        Ok(opened(fd, libc::S_IFIFO, how))
    })
}

/// `/dev/tty` means the caller's terminal, which is the sandbox's or none.
fn open_terminal(broker: &Broker, how: How) -> Result<OwnedFd, Errno> {
    let path = broker.terminal.as_ref().ok_or(Errno::ENXIO)?;
    sys::open(
        &sys::c_string(path)?,
        (how.flags & !(libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC)) | libc::O_NOCTTY,
    )
}
