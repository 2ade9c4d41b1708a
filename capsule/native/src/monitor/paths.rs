//! Names made, moved and removed: `mkdir`, `mknod`, `rmdir`, `unlink`, `rename`, `link`, `symlink` and their kin.
//!
//! Each pins the directories, decides on the canonical names, and performs the call relative to what is pinned; none
//! follows a link at the end, as the kernel does not. What it refuses, beyond what the plan refuses: moving or
//! removing a directory that carries guarded names, moving one to where such names are to be, and giving a second
//! name to what may not be changed.

use super::broker::{Answer, Broker, Outcome};
use super::caller::{Base, Caller};
use super::errno::Errno;
use super::how::BORN;
use super::resolve::{Object, Place};
use super::sys;
use super::wire::{Layer, Operation};
use crate::plan::{Kind, Verdict, Want};
use std::os::fd::{AsFd, AsRawFd};

const DONE: Outcome = Ok(Answer::Value(0));

/// `mkdir`, `mkdirat`.
///
/// # Errors
/// As the kernel, or `EACCES`, reported.
pub fn make_directory(
    broker: &mut Broker,
    caller: &Caller,
    dirfd: i32,
    path: &[u8],
    mode: u32,
) -> Outcome {
    let Some(place) = absent(broker, caller, dirfd, path)? else {
        return Err(Errno::EEXIST);
    };
    broker.demand(caller, Operation::Create, &place.name, Want::Write)?;
    broker.may_make_directory(caller, &place.name)?;
    broker.take_umask(caller)?;
    broker.confirm(caller)?;
    // SAFETY: the name is a valid C string that outlives the call.
    unsafe {
        sys::raw(
            libc::SYS_mkdirat,
            [at(&place), name(&place), u64::from(mode), 0, 0, 0],
        )
    }?;
    broker.made_directory(caller, &place)?;
    broker.done(caller, Operation::Create, &place.name, None);
    DONE
}

/// `mknod`, `mknodat`.
///
/// # Errors
/// As the kernel, or `EACCES`, reported.
pub fn make_node(
    broker: &mut Broker,
    caller: &Caller,
    dirfd: i32,
    path: &[u8],
    mode: u32,
    device: u64,
) -> Outcome {
    let Some(place) = absent(broker, caller, dirfd, path)? else {
        return Err(Errno::EEXIST);
    };
    if place.slash {
        return Err(Errno::ENOENT);
    }
    broker.demand(caller, Operation::Create, &place.name, Want::Write)?;
    broker.stays_directory(caller, Operation::Create, &place.name)?;
    broker.take_umask(caller)?;
    broker.confirm(caller)?;
    // SAFETY: the name is a valid C string that outlives the call.
    unsafe {
        sys::raw(
            libc::SYS_mknodat,
            [
                at(&place),
                name(&place),
                u64::from(mode & (libc::S_IFMT | BORN)),
                device,
                0,
                0,
            ],
        )
    }?;
    broker.done(caller, Operation::Create, &place.name, None);
    DONE
}

/// `symlink`, `symlinkat`. Where it points is no matter: who follows it is decided then.
///
/// # Errors
/// As the kernel, or `EACCES`, reported.
pub fn make_link(
    broker: &mut Broker,
    caller: &Caller,
    target: &[u8],
    dirfd: i32,
    path: &[u8],
) -> Outcome {
    let Some(place) = absent(broker, caller, dirfd, path)? else {
        return Err(Errno::EEXIST);
    };
    if place.slash || target.is_empty() {
        return Err(Errno::ENOENT);
    }
    broker.demand(caller, Operation::Create, &place.name, Want::Write)?;
    broker.stays_directory(caller, Operation::Create, &place.name)?;
    broker.confirm(caller)?;
    let target = sys::c_string(target)?;
    // SAFETY: both names are valid C strings that outlive the call.
    unsafe {
        sys::raw(
            libc::SYS_symlinkat,
            [target.as_ptr() as u64, at(&place), name(&place), 0, 0, 0],
        )
    }?;
    broker.done(caller, Operation::Create, &place.name, None);
    DONE
}

/// `rmdir`, `unlink`, `unlinkat`.
///
/// # Errors
/// As the kernel, or `EACCES`, reported.
pub fn remove(
    broker: &mut Broker,
    caller: &Caller,
    dirfd: i32,
    path: &[u8],
    directory: bool,
) -> Outcome {
    let place = broker.resolver.place(&Base::Of(caller, dirfd), path)?;
    if place.special {
        return Err(match (directory, path) {
            (false, _) => Errno::EISDIR,
            (true, p) if p.iter().all(|&b| b == b'/') => Errno::EBUSY,
            (true, _) if place.last.as_c_str() == c".." => Errno::ENOTEMPTY,
            (true, _) => Errno::EINVAL,
        });
    }
    let stat = sys::stat_at(place.parent.as_fd(), &place.last)?;
    let is_directory = sys::kind(&stat) == libc::S_IFDIR;
    if directory != is_directory || (place.slash && !is_directory) {
        return Err(if directory || place.slash && !is_directory {
            Errno::ENOTDIR
        } else {
            Errno::EISDIR
        });
    }
    broker.demand(caller, Operation::Remove, &place.name, Want::Write)?;
    if is_directory && let Some(rule) = broker.access.guards_below(&place.name) {
        return Err(broker.refuse_for(caller, Operation::Remove, &place.name, rule));
    }
    // An empty `.git` of before: where it stood another could be made.
    let repository = is_directory && super::repositories::is_named(&place.name);
    if repository
        && !broker.repositories.made(&stat)
        && broker.access.keeps_repository(&place.name)
        && let Some(guarded) = broker.access.about_repositories()
    {
        return Err(broker.refuse(caller, Operation::Remove, &place.name, guarded.refusal()));
    }
    broker.confirm(caller)?;
    let flags = if directory {
        libc::AT_REMOVEDIR as u64
    } else {
        0
    };
    // SAFETY: the name is a valid C string that outlives the call.
    unsafe {
        sys::raw(
            libc::SYS_unlinkat,
            [at(&place), name(&place), flags, 0, 0, 0],
        )
    }?;
    if repository {
        broker.follow_repositories(caller);
    }
    broker.done(caller, Operation::Remove, &place.name, None);
    DONE
}

/// `rename`, `renameat`, `renameat2`.
///
/// # Errors
/// As the kernel, or `EACCES`, reported.
pub fn rename(
    broker: &mut Broker,
    caller: &Caller,
    (old_fd, old_path): (i32, &[u8]),
    (new_fd, new_path): (i32, &[u8]),
    flags: u32,
) -> Outcome {
    if flags & !(libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE | libc::RENAME_WHITEOUT) != 0
        || flags & libc::RENAME_EXCHANGE != 0 && flags != libc::RENAME_EXCHANGE
    {
        return Err(Errno::EINVAL);
    }
    let old = broker.resolver.place(&Base::Of(caller, old_fd), old_path)?;
    let new = broker.resolver.place(&Base::Of(caller, new_fd), new_path)?;
    if old.special || new.special {
        return Err(if new.special && flags & libc::RENAME_NOREPLACE != 0 {
            Errno::EEXIST
        } else {
            Errno::EBUSY
        });
    }
    let source = sys::stat_at(old.parent.as_fd(), &old.last)?;
    let target = sys::stat_at(new.parent.as_fd(), &new.last).ok();
    if flags & libc::RENAME_NOREPLACE != 0 && target.is_some() {
        return Err(Errno::EEXIST);
    }
    for place in [&old, &new] {
        broker.demand(caller, Operation::Rename, &place.name, Want::Write)?;
    }
    let exchange = flags & libc::RENAME_EXCHANGE != 0;
    // Over the edge of a file system nothing is moved: programs copy then, if they are told the reason.
    if sys::stat(old.parent.as_fd())?.st_dev != sys::stat(new.parent.as_fd())?.st_dev {
        return Err(Errno::EXDEV);
    }
    let mut directories = false;
    let arrivals = [
        (Some(source), &old, &new),
        (target.filter(|_| exchange), &new, &old),
    ];
    for (moved, from, to) in arrivals {
        let Some(moved) = moved else { continue };
        if sys::kind(&moved) == libc::S_IFDIR {
            broker.may_move_directory(caller, (&moved, from), &to.name)?;
            directories = true;
        } else {
            broker.stays_directory(caller, Operation::Rename, &to.name)?;
        }
    }
    broker.confirm(caller)?;
    // The kernel says whether a slash after a name that is no directory is an error.
    let (from, to) = (with_slash(&old), with_slash(&new));
    let arguments = [
        at(&old),
        from.as_ptr() as u64,
        at(&new),
        to.as_ptr() as u64,
        u64::from(flags),
        0,
    ];
    // SAFETY: both names are valid C strings that outlive the call.
    unsafe { sys::raw(libc::SYS_renameat2, arguments) }?;
    if directories {
        broker.follow_repositories(caller);
    }
    broker.done(caller, Operation::Rename, &new.name, Some(&old.name));
    DONE
}

/// `link`, `linkat`: a second name needs the right to change the first, or it would be a way to it.
///
/// # Errors
/// As the kernel; `EACCES`, or `EXDEV` where the file may only be read: programs then copy it. Both reported.
pub fn link(
    broker: &mut Broker,
    caller: &Caller,
    (old_fd, old_path): (i32, &[u8]),
    (new_fd, new_path): (i32, &[u8]),
    flags: i32,
) -> Outcome {
    if flags & !(libc::AT_SYMLINK_FOLLOW | libc::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let source = if old_path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
        let fd = if old_fd == libc::AT_FDCWD {
            caller.directory(old_fd)?
        } else {
            caller.descriptor(old_fd)?
        };
        Object::new(fd)?
    } else {
        let mut links = Vec::new();
        let follow = flags & libc::AT_SYMLINK_FOLLOW != 0;
        let base = Base::Of(caller, old_fd);
        let source = broker
            .resolver
            .object(&base, old_path, follow, &mut |name| {
                links.push(name.to_vec());
                Ok(())
            })?;
        for name in links {
            broker.pass(caller, Operation::Link, &name, Want::Write)?;
        }
        source
    };
    let Some(place) = absent(broker, caller, new_fd, new_path)? else {
        return Err(Errno::EEXIST);
    };
    if place.slash {
        return Err(Errno::ENOENT);
    }
    if sys::kind(&source.stat) == libc::S_IFDIR {
        return Err(Errno::EPERM);
    }
    if !source.nameless() {
        match broker.judge(&source.name, Want::Write) {
            Verdict::Granted => {}
            Verdict::Refused(r) if matches!(r.kind, Kind::NotGranted | Kind::Hidden) => {
                let (layer, errno) = (Layer::Supervisor, Errno::EXDEV);
                return Err(broker.refuse_as(
                    caller,
                    Operation::Link,
                    &source.name,
                    r,
                    layer,
                    errno,
                ));
            }
            Verdict::Refused(refusal) => {
                return Err(broker.refuse(caller, Operation::Link, &source.name, refusal));
            }
        }
    }
    broker.demand(caller, Operation::Link, &place.name, Want::Write)?;
    broker.stays_directory(caller, Operation::Link, &place.name)?;
    broker.confirm(caller)?;
    link_pinned(&source, &place)?;
    broker.done(caller, Operation::Link, &place.name, Some(&source.name));
    DONE
}

/// Link what is pinned. A symbolic link cannot be reached through `/proc`, so it is named in its pinned directory.
fn link_pinned(source: &Object, place: &Place) -> Result<(), Errno> {
    let (path, follow) = if sys::kind(&source.stat) == libc::S_IFLNK {
        let cut = source
            .name
            .iter()
            .rposition(|&b| b == b'/')
            .ok_or(Errno::ENOENT)?;
        let directory = sys::open(
            &sys::c_string(&source.name[..cut.max(1)])?,
            libc::O_PATH | libc::O_DIRECTORY,
        )?;
        let last = sys::c_string(&source.name[cut + 1..])?;
        let found = sys::stat_at(directory.as_fd(), &last)?;
        if (found.st_dev, found.st_ino) != (source.stat.st_dev, source.stat.st_ino) {
            return Err(Errno::ENOENT);
        }
        (
            sys::link_to(directory.as_fd(), last.to_bytes()),
            (0, Some(directory)),
        )
    } else {
        (
            sys::link(source.fd.as_fd()),
            (libc::AT_SYMLINK_FOLLOW, None),
        )
    };
    let arguments = [
        libc::AT_FDCWD as u64,
        path.as_ptr() as u64,
        at(place),
        name(place),
        follow.0 as u64,
        0,
    ];
    // SAFETY: both names are valid C strings that outlive the call, as does the pinned directory in `follow`.
    unsafe { sys::raw(libc::SYS_linkat, arguments) }.map(drop)
}

/// A place for a new name; `None` when the name exists, which is the answer whatever the plan says, except that a
/// denied name says nothing of itself.
fn absent(
    broker: &mut Broker,
    caller: &Caller,
    dirfd: i32,
    path: &[u8],
) -> Result<Option<Place>, Errno> {
    let place = broker.resolver.place(&Base::Of(caller, dirfd), path)?;
    if place.special {
        return Ok(None);
    }
    match sys::stat_at(place.parent.as_fd(), &place.last) {
        Err(Errno::ENOENT) => Ok(Some(place)),
        Err(errno) => Err(errno),
        Ok(_) => match broker.judge(&place.name, Want::Write) {
            Verdict::Refused(refusal) if refusal.kind == Kind::Denied => {
                Err(broker.refuse(caller, Operation::Create, &place.name, refusal))
            }
            _ => Ok(None),
        },
    }
}

fn with_slash(place: &Place) -> std::ffi::CString {
    let mut text = place.last.to_bytes().to_vec();
    if place.slash {
        text.push(b'/');
    }
    // The name came from a C string.
    std::ffi::CString::new(text).unwrap_or_default()
}

fn at(place: &Place) -> u64 {
    place.parent.as_raw_fd() as u64
}

fn name(place: &Place) -> u64 {
    place.last.as_ptr() as u64
}
