//! The git repositories that this run made: what lies in them is the run's own.
//!
//! The monitor makes every directory itself, so it knows which `.git` were not there before. Each is held by a
//! descriptor: its inode can be nobody else's while it is, and the kernel says what it is called now. What it refuses:
//! to remember more than [`MOST`], and to take a directory for free because of its name.
//!
//! `mkdir new/.git` → `new/.git/hooks/pre-commit` may be written; `proj/.git`, which was there, stays as it is

use super::broker::Broker;
use super::caller::Caller;
use super::errno::Errno;
use super::events::now;
use super::sys;
use super::wire::{Event, Operation, text};
use crate::plan::{Guarded, Kind, Refusal, RuleRef, repository_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Repositories of one run.
const MOST: usize = 128;
/// Entries that are looked through before a directory is moved.
const MOST_LOOKED: usize = 200_000;

type Identity = (libc::dev_t, libc::ino_t);

/// What was made and still is.
#[derive(Debug, Default)]
pub struct Repositories {
    made: Vec<Made>,
    /// How many were ever made.
    count: u64,
}

#[derive(Debug)]
struct Made {
    number: u64,
    fd: OwnedFd,
    is: Identity,
    name: Vec<u8>,
}

fn identity(stat: &libc::stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

/// What an absolute, resolved name is, itself.
fn look(name: &[u8]) -> Result<libc::stat, Errno> {
    let here = sys::open(c"/", libc::O_PATH | libc::O_DIRECTORY)?;
    sys::stat_at(here.as_fd(), &sys::c_string(name)?)
}

/// Whether the last part of a name is `.git`.
pub fn is_named(name: &[u8]) -> bool {
    name.ends_with(b"/.git")
}

impl Repositories {
    /// Whether it was made by this run.
    pub fn made(&self, stat: &libc::stat) -> bool {
        let is = identity(stat);
        self.made.iter().any(|one| one.is == is)
    }

    /// Whether a name is, or lies in, a repository that this run made.
    pub fn hold(&self, name: &[u8]) -> bool {
        !self.made.is_empty()
            && repository_of(name)
                .and_then(|root| look(root).ok())
                .is_some_and(|stat| self.made(&stat))
    }

    /// Whether one more can be remembered.
    fn has_room(&mut self) -> bool {
        if self.made.len() >= MOST {
            self.made
                .retain(|one| sys::stat(one.fd.as_fd()).is_ok_and(|stat| stat.st_nlink > 0));
        }
        self.made.len() < MOST
    }

    /// What is called otherwise than it was, or is gone: its number, and its name now.
    fn moved(&mut self) -> Vec<(u64, Option<Vec<u8>>)> {
        let mut changes = Vec::new();
        self.made.retain_mut(|one| {
            let gone = sys::stat(one.fd.as_fd()).is_ok_and(|stat| stat.st_nlink == 0);
            let name = sys::name_of(one.fd.as_fd()).unwrap_or_else(|_| one.name.clone());
            if gone {
                changes.push((one.number, None));
            } else if name != one.name {
                changes.push((one.number, Some(name.clone())));
                one.name = name;
            }
            !gone
        });
        changes
    }

    /// Whether a directory holds, at any depth, a repository that this run did not make; what cannot be looked through
    /// may.
    pub fn others_in(&self, directory: BorrowedFd<'_>) -> bool {
        let root = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let (mut left, mut looked) = (vec![root], 0);
        while let Some(at) = left.pop() {
            let Ok(entries) = std::fs::read_dir(&at) else {
                return true;
            };
            for entry in entries {
                looked += 1;
                let Ok(entry) = entry else { return true };
                if looked > MOST_LOOKED {
                    return true;
                }
                let path = entry.path();
                if entry.file_name().as_bytes() == b".git" {
                    let stat = look(path.as_os_str().as_bytes());
                    if !stat.is_ok_and(|stat| self.made(&stat)) {
                        return true;
                    }
                } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    left.push(path);
                }
            }
        }
        false
    }
}

impl Broker {
    /// What keeps a name from being changed because it is, now, the file by which git finds a repository.
    pub fn leads(&self, name: &[u8]) -> Option<Refusal> {
        if !is_named(name) || !self.access.keeps_repository(name) {
            return None;
        }
        let stat = look(name).ok()?;
        if sys::kind(&stat) == libc::S_IFDIR {
            return None;
        }
        self.access.about_repositories().map(Guarded::refusal)
    }

    /// What keeps a name from being changed because a repository that this run did not make begins above it: what is
    /// kept at the workspace's top is kept at that one's.
    pub fn begins_above(&self, name: &[u8]) -> Option<Refusal> {
        let begins = |directory: &[u8]| {
            let dot = [directory, b"/.git"].concat();
            look(&dot).is_ok_and(|stat| !self.repositories.made(&stat))
        };
        self.access.top_of(name, begins).map(Guarded::refusal)
    }

    /// Before a directory is made. The first repository of the workspace is refused whole: half of one helps nobody.
    ///
    /// # Errors
    /// `EACCES`, reported.
    pub fn may_make_directory(&mut self, caller: &Caller, name: &[u8]) -> Result<(), Errno> {
        if !is_named(name) || !self.access.keeps_repository(name) {
            return Ok(());
        }
        if self.access.is_first_repository(name) {
            return self.refuse_repository(caller, Operation::Create, name, None);
        }
        if !self.repositories.has_room() {
            let why = format!("this run has made {MOST} repositories, and no more are told apart");
            return self.refuse_repository(caller, Operation::Create, name, Some(why));
        }
        Ok(())
    }

    /// A directory was made: remember it when it is a repository. When it cannot be remembered it is taken back.
    ///
    /// # Errors
    /// As `openat(2)`.
    pub fn made_directory(
        &mut self,
        caller: &Caller,
        place: &super::resolve::Place,
    ) -> Result<(), Errno> {
        if !is_named(&place.name) || !self.access.keeps_repository(&place.name) {
            return Ok(());
        }
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let pinned = sys::open_at(place.parent.as_fd(), &place.last, flags, 0);
        let pinned = pinned.and_then(|fd| sys::stat(fd.as_fd()).map(|stat| (fd, stat)));
        let (fd, stat) = match pinned {
            Ok(found) => found,
            Err(errno) => {
                let arguments = [
                    place.parent.as_raw_fd() as u64,
                    place.last.as_ptr() as u64,
                    libc::AT_REMOVEDIR as u64,
                    0,
                    0,
                    0,
                ];
                // SAFETY: the name is a valid C string that outlives the call.
                let _ = unsafe { sys::raw(libc::SYS_unlinkat, arguments) };
                return Err(errno);
            }
        };
        let number = self.repositories.count;
        self.repositories.count += 1;
        self.repositories.made.push(Made {
            number,
            fd,
            is: identity(&stat),
            name: place.name.clone(),
        });
        self.tell_repository(caller, number, Some(&place.name));
        Ok(())
    }

    /// Names were moved or removed: tell which repositories are called otherwise.
    pub fn follow_repositories(&mut self, caller: &Caller) {
        for (number, name) in self.repositories.moved() {
            self.tell_repository(caller, number, name.as_deref());
        }
    }

    fn tell_repository(&mut self, caller: &Caller, number: u64, name: Option<&[u8]>) {
        self.events.send(&Event::Repository {
            mono: now(),
            pid: caller.process(),
            program: text(&caller.program()),
            number,
            target: name.map(text),
        });
    }

    /// Before a directory goes from one name to another: a repository that was there before the run stays where it is,
    /// with every directory above it, or another could be put in its place.
    ///
    /// # Errors
    /// `EACCES`, reported.
    pub fn may_move_directory(
        &mut self,
        caller: &Caller,
        (stat, from): (&libc::stat, &super::resolve::Place),
        to: &[u8],
    ) -> Result<(), Errno> {
        let own = self.repositories.made(stat);
        if self.access.is_first_repository(to) {
            return self.refuse_repository(caller, Operation::Rename, to, None);
        }
        // What is beneath is guarded where it is and would not be where it goes, or the other way round: then a file
        // prepared elsewhere would appear under a guarded name.
        for (one, other) in [(from.name.as_slice(), to), (to, from.name.as_slice())] {
            if let Some(guarded) = self.access.guards_lost(one, other)
                && !(guarded.repository && (own || self.repositories.hold(one)))
            {
                return Err(self.refuse(caller, Operation::Rename, &from.name, guarded.refusal()));
            }
        }
        if own || self.repositories.hold(&from.name) {
            return Ok(());
        }
        if !self.access.keeps_repository(&from.name) && !self.access.keeps_repository(to) {
            return Ok(());
        }
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let directory = sys::open_at(from.parent.as_fd(), &from.last, flags, 0)?;
        if self.repositories.others_in(directory.as_fd()) {
            let why = "it holds a repository that was here before the run, or more than can be looked through";
            return self.refuse_repository(caller, Operation::Rename, &from.name, Some(why.into()));
        }
        Ok(())
    }

    fn refuse_repository(
        &mut self,
        caller: &Caller,
        operation: Operation,
        name: &[u8],
        why: Option<String>,
    ) -> Result<(), Errno> {
        let Some(guarded) = self.access.about_repositories() else {
            return Ok(());
        };
        let mut refusal = guarded.refusal();
        if let (Some(why), Some(rule)) = (why, &mut refusal.rule) {
            *rule = RuleRef {
                text: format!("{}: {why}", rule.text),
                ..rule.clone()
            };
        }
        debug_assert_eq!(refusal.kind, Kind::Protected);
        Err(self.refuse(caller, operation, name, refusal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn make(repositories: &mut Repositories, path: &std::path::Path) {
        std::fs::create_dir_all(path).unwrap();
        let name = path.as_os_str().as_bytes().to_vec();
        let fd = sys::open(&sys::c_string(&name).unwrap(), libc::O_PATH).unwrap();
        let stat = sys::stat(fd.as_fd()).unwrap();
        let number = repositories.count;
        repositories.count += 1;
        repositories.made.push(Made {
            number,
            is: identity(&stat),
            fd,
            name,
        });
    }

    #[test]
    fn what_was_made_is_known_by_what_it_is_and_not_by_its_name() {
        let here = tempfile::tempdir().unwrap();
        let root = here.path().canonicalize().unwrap();
        let mut repositories = Repositories::default();
        std::fs::create_dir_all(root.join("old/.git")).unwrap();
        make(&mut repositories, &root.join("new/.git"));
        let holds = |repositories: &Repositories, name: &str| {
            repositories.hold(root.join(name).as_os_str().as_bytes())
        };
        assert!(holds(&repositories, "new/.git/hooks/pre-commit"));
        assert!(holds(&repositories, "new/.git"));
        assert!(!holds(&repositories, "old/.git/hooks/pre-commit"));
        assert!(!holds(&repositories, "new/src"));
        std::fs::rename(root.join("old"), root.join("aside")).unwrap();
        std::fs::rename(root.join("new"), root.join("old")).unwrap();
        assert!(holds(&repositories, "old/.git/config"));
        assert!(!holds(&repositories, "aside/.git/config"));
        let name = root.join("old/.git").as_os_str().as_bytes().to_vec();
        assert_eq!(repositories.moved(), [(0, Some(name))]);
        assert_eq!(repositories.moved(), []);
        std::fs::remove_dir(root.join("old/.git")).unwrap();
        assert_eq!(repositories.moved(), [(0, None)]);
        assert!(std::fs::metadata(root.join("aside/.git")).unwrap().ino() > 0);
    }

    #[test]
    fn a_directory_with_a_repository_of_before_is_told_from_one_without() {
        let here = tempfile::tempdir().unwrap();
        let root = here.path().canonicalize().unwrap();
        let mut repositories = Repositories::default();
        make(&mut repositories, &root.join("a/deep/new/.git"));
        let others = |repositories: &Repositories, name: &str| {
            let path = sys::c_string(root.join(name).as_os_str().as_bytes()).unwrap();
            let fd = sys::open(&path, libc::O_PATH).unwrap();
            repositories.others_in(fd.as_fd())
        };
        assert!(!others(&repositories, "a"));
        std::fs::create_dir_all(root.join("a/b/c/lib")).unwrap();
        std::fs::write(root.join("a/b/c/lib/.git"), "gitdir: x\n").unwrap();
        assert!(others(&repositories, "a"));
        assert!(!others(&repositories, "a/deep"));
    }
}
