//! What is only watched: programs that start, and files that are read where reading needs no decision here.
//!
//! These calls go on in the kernel, where Landlock enforces; what is seen here is recorded, not relied on. What it
//! refuses: a program whose name the plan denies or does not list is refused here already.

use super::arguments::{MOST_ARGUMENTS, arguments};
use super::broker::{Answer, Broker, Outcome};
use super::caller::{Base, Caller};
use super::errno::Errno;
use super::events::now;
use super::resolve::Object;
use super::wire::{Event, Layer, Operation, Parent, text};
use crate::plan::{Audit, Kind, Verdict, Want};
use std::borrow::Cow;
use std::ffi::CString;
use std::os::fd::AsFd;

/// `execve`, `execveat`: `argv` is the address of the arguments.
///
/// # Errors
/// `EACCES`, reported.
pub fn exec(
    broker: &mut Broker,
    caller: &Caller,
    dirfd: i32,
    path: &[u8],
    argv: u64,
    flags: i32,
) -> Outcome {
    let found = if path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
        caller.descriptor(dirfd).and_then(Object::new)
    } else {
        let follow = flags & libc::AT_SYMLINK_NOFOLLOW == 0;
        broker
            .resolver
            .object(&Base::Of(caller, dirfd), path, follow, &mut |_| Ok(()))
    };
    // What cannot be found the kernel will not find either, and says so better.
    let Ok(object) = found else {
        return Ok(Answer::Continue);
    };
    broker.confirm(caller)?;
    broker.pass_crossed(caller, Operation::Execute, Want::Execute)?;
    if !object.nameless()
        && object.stat.st_mode & libc::S_IFMT == libc::S_IFREG
        && let Verdict::Refused(refusal) = broker.judge(&object.name, Want::Execute)
    {
        let layer = if refusal.kind == Kind::Denied {
            Layer::Supervisor
        } else {
            Layer::Landlock
        };
        return Err(broker.refuse_as(
            caller,
            Operation::Execute,
            &object.name,
            refusal,
            layer,
            Errno::EACCES,
        ));
    }
    let (argv, truncated) = arguments(caller.memory(), argv);
    broker.events.send(&Event::Exec {
        mono: now(),
        pid: caller.process(),
        program: text(&object.name),
        argv: argv.iter().map(|a| text(a)).collect(),
        truncated,
        parent: if caller.call.tid == broker.command {
            parent_of_command()
        } else {
            parent(caller)
        },
    });
    Ok(Answer::Continue)
}

/// What the command is a child of: us, who are no program of the sandbox's where we are its first process.
fn parent_of_command() -> Option<Parent> {
    described(i32::try_from(std::process::id()).ok()?)
}

/// What the caller is a child of, when that is a program of the sandbox's and can be told.
fn parent(caller: &Caller) -> Option<Parent> {
    described(caller.parent()?)
}

/// A parent's program and its arguments, as long as one look shows them.
fn described(pid: libc::pid_t) -> Option<Parent> {
    if pid <= 1 {
        return None;
    }
    let entry = |what: &str| CString::new(format!("/proc/{pid}/{what}")).ok();
    let program = super::sys::read_link_at(libc::AT_FDCWD, &entry("exe")?).ok()?;
    let shown = super::sys::read_head(&entry("cmdline")?).ok()?;
    let shown = shown.strip_suffix(b"\0").unwrap_or(&shown);
    let argv = shown.split(|&byte| byte == 0).take(MOST_ARGUMENTS);
    Some(Parent {
        pid,
        program: text(&program),
        argv: argv.map(text).collect(),
    })
}

/// An open for reading that Landlock decides.
pub fn read(broker: &mut Broker, caller: &Caller, dirfd: i32, path: &[u8]) -> Outcome {
    // The common case must be cheap: a plain name under a grant.
    if let Some(name) = plain(caller, dirfd, path)
        && let uses = broker.access.uses(&name)
        && uses.read
        && !(uses.write && is_link(broker, &name))
    {
        if let Some(observed) = &mut broker.observed {
            let there = super::sys::c_string(&name)
                .and_then(|text| super::sys::stat_at(broker.resolver.root(), &text));
            match there {
                Err(Errno::ENOENT) => observed.absent(&name),
                _ => observed.done(Operation::Read, &name, None),
            }
        } else if broker.audit == Audit::All {
            broker.done(caller, Operation::Read, &name, None);
        }
        return Ok(Answer::Continue);
    }
    let base = Base::Of(caller, dirfd);
    match broker.resolver.object(&base, path, true, &mut |_| Ok(())) {
        Ok(object) if object.nameless() => {}
        Ok(object) => match broker.judge(&object.name, Want::Read) {
            Verdict::Granted => broker.done(caller, Operation::Read, &object.name, None),
            // What covers a hidden directory is empty, and may be seen to be.
            Verdict::Refused(refusal) if refusal.kind == Kind::Hidden && lists(&object) => {}
            Verdict::Refused(refusal) => {
                // What is denied where reading is not brokered, the view covers.
                let layer = if matches!(refusal.kind, Kind::Hidden | Kind::Denied) {
                    Layer::View
                } else {
                    Layer::Landlock
                };
                broker.refuse_as(
                    caller,
                    Operation::Read,
                    &object.name,
                    refusal,
                    layer,
                    Errno::EACCES,
                );
            }
        },
        Err(Errno::ENOENT) => match broker.resolver.place(&base, path) {
            Ok(place) => absent(broker, caller, Operation::Read, &place.name),
            Err(errno) => astray(broker, caller, Operation::Read, dirfd, path, errno),
        },
        Err(_) => {}
    }
    Ok(Answer::Continue)
}

/// Whether the command can list a directory: we stand in the same Landlock layer.
fn lists(object: &Object) -> bool {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    super::sys::open_at(object.fd.as_fd(), c".", flags, 0).is_ok()
}

/// Whether a name is a link. Where the command can make links, it is where one leads that says whether Landlock refuses.
fn is_link(broker: &Broker, name: &[u8]) -> bool {
    let Ok(text) = super::sys::c_string(name) else {
        return false;
    };
    let stat = super::sys::stat_at(broker.resolver.root(), &text);
    stat.is_ok_and(|s| super::sys::kind(&s) == libc::S_IFLNK)
}

/// A name whose directory is not there: as [`absent`], where the name can be told without walking to it.
pub fn astray(
    broker: &mut Broker,
    caller: &Caller,
    operation: Operation,
    dirfd: i32,
    path: &[u8],
    errno: Errno,
) {
    if errno == Errno::ENOENT
        && let Some(name) = plain(caller, dirfd, path)
    {
        absent(broker, caller, operation, &name);
    }
}

/// A name that is not there. When that is because the view hides it, it is reported, as a probe.
pub fn absent(broker: &mut Broker, caller: &Caller, operation: Operation, name: &[u8]) {
    if let Some(observed) = &mut broker.observed {
        observed.absent(name);
    }
    let want = if operation == Operation::Write {
        Want::Write
    } else {
        Want::Read
    };
    if let Verdict::Refused(refusal) = broker.judge(name, want)
        && matches!(refusal.kind, Kind::Hidden | Kind::Denied)
    {
        broker.refuse_as(caller, operation, name, refusal, Layer::View, Errno::ENOENT);
    }
}

/// The full name of a path that needs no walking to tell, as far as no link is in it.
fn plain<'p>(caller: &Caller, dirfd: i32, path: &'p [u8]) -> Option<Cow<'p, [u8]>> {
    if path.starts_with(b"/") {
        return is_plain(path).then_some(Cow::Borrowed(path));
    }
    let base = if dirfd == libc::AT_FDCWD {
        caller.proc("cwd")
    } else {
        caller.proc(&format!("fd/{dirfd}"))
    };
    let mut name = super::sys::read_link_at(libc::AT_FDCWD, &base).ok()?;
    name.push(b'/');
    name.extend_from_slice(path);
    is_plain(&name).then_some(Cow::Owned(name))
}

/// An absolute path that is its own lexical normal form and not in `/proc`, where names mean their caller.
fn is_plain(path: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(b"/") else {
        return false;
    };
    !rest.starts_with(b"proc/")
        && rest
            .split(|&b| b == b'/')
            .all(|segment| !matches!(segment, b"" | b"." | b".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_in_normal_form_are_plain() {
        for path in ["/usr/lib/x.so", "/a"] {
            assert!(is_plain(path.as_bytes()), "{path}");
        }
        for path in [
            "",
            "/",
            "a/b",
            "/a/../b",
            "/a//b",
            "/a/.",
            "/a/",
            "/proc/self/maps",
            "./x",
        ] {
            assert!(!is_plain(path.as_bytes()), "{path}");
        }
    }
}
