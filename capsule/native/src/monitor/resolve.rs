//! From a path of the command to a pinned directory, a last name, and the canonical full name.
//!
//! The kernel walks the directories (`openat2`, inside the sandbox's root, without magic links) and says what the
//! result is called; nothing is decided on what the command wrote. `/proc/self` and the magic links of `/proc` are
//! walked by hand, so that "self" is the caller. What it refuses: entries of `/proc` that are the monitor's own,
//! more than 40 links, and directories that are deleted.
//!
//! The last name is never followed here: who follows it asks about each step (`opens`, [`Resolver::object`]).

use super::caller::Base;
use super::errno::Errno;
use super::sys;
use std::cell::RefCell;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// As the kernel's own limit (`MAXSYMLINKS`).
pub const MAX_LINKS: u32 = 40;
/// The inode of the root of every `/proc` (`PROC_ROOT_INO`).
const PROC_ROOT: libc::ino_t = 1;

/// A name in a pinned directory. It may exist or not.
#[derive(Debug)]
pub struct Place {
    /// The directory (`O_PATH`).
    pub parent: OwnedFd,
    /// The last name in it, without slashes; `.` and `..` only where `special`.
    pub last: CString,
    /// The canonical full name: decide on this.
    pub name: Vec<u8>,
    /// The path ended in `/`: it must be a directory.
    pub slash: bool,
    /// The last name is `.` or `..`, or the path is `/`: `name` is the directory's own.
    pub special: bool,
}

/// An existing file, directory or link, pinned.
#[derive(Debug)]
pub struct Object {
    /// The object (`O_PATH`).
    pub fd: OwnedFd,
    /// Its canonical name: decide on this. Not beginning with `/` for pipes, sockets and the like.
    pub name: Vec<u8>,
    /// What it is.
    pub stat: libc::stat,
}

impl Object {
    /// From a pinned descriptor.
    ///
    /// # Errors
    /// As `fstat(2)`, `readlink(2)`.
    pub fn new(fd: OwnedFd) -> Result<Self, Errno> {
        let (name, stat) = (sys::name_of(fd.as_fd())?, sys::stat(fd.as_fd())?);
        Ok(Self { fd, name, stat })
    }

    /// Whether no name leads to it any more, or none ever did: pipes, sockets, memory files, deleted files.
    pub fn nameless(&self) -> bool {
        !self.name.starts_with(b"/")
            || (self.stat.st_nlink == 0 && self.name.ends_with(b" (deleted)"))
    }
}

/// Walks paths inside the sandbox's root.
#[derive(Debug)]
pub struct Resolver {
    root: OwnedFd,
    own: libc::pid_t,
    /// Whether the names of links on the way are noted.
    watched: bool,
    crossed: RefCell<Vec<Vec<u8>>>,
}

/// A path in three: what leads to the directory, the last name, and whether a slash follows it.
pub fn split(path: &[u8]) -> (&[u8], &[u8], bool) {
    let end = path.iter().rposition(|&b| b != b'/').map_or(0, |at| at + 1);
    let slash = end < path.len();
    let start = path[..end]
        .iter()
        .rposition(|&b| b == b'/')
        .map_or(0, |at| at + 1);
    let lead = if start == 0 && !path.starts_with(b"/") {
        b"."
    } else {
        &path[..start.max(1).min(path.len())]
    };
    (lead, &path[start..end], slash)
}

impl Resolver {
    /// For paths inside `root` (`O_PATH`), which must be this process's own root: then an absolute link leads where
    /// it leads the command. `watched`: note the names of links on the way ([`Resolver::crossed`]).
    ///
    /// # Errors
    /// `EXDEV` when it is another directory.
    pub fn new(root: OwnedFd, watched: bool) -> Result<Self, Errno> {
        let slash = sys::stat(sys::open(c"/", libc::O_PATH | libc::O_DIRECTORY)?.as_fd())?;
        let given = sys::stat(root.as_fd())?;
        if (slash.st_dev, slash.st_ino) != (given.st_dev, given.st_ino) {
            return Err(Errno::EXDEV);
        }
        Ok(Self {
            root,
            own: std::process::id() as libc::pid_t,
            watched,
            crossed: RefCell::default(),
        })
    }

    /// The names of the links that were walked through on the way to directories since this was last asked.
    pub fn crossed(&self) -> Vec<Vec<u8>> {
        self.crossed.take()
    }

    /// The sandbox's root directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether a canonical name is an entry of `/proc` about the monitor itself: for nobody else to open.
    pub fn is_own(&self, name: &[u8]) -> bool {
        let Some(rest) = name.strip_prefix(b"/proc/") else {
            return false;
        };
        let digits = rest.split(|&b| b == b'/').next().unwrap_or_default();
        let Ok(pid) = std::str::from_utf8(digits)
            .unwrap_or_default()
            .parse::<libc::pid_t>()
        else {
            return false;
        };
        // A thread of ours is an entry of its own, found by name though not listed.
        pid == self.own || std::path::Path::new(&format!("/proc/self/task/{pid}")).exists()
    }

    /// The directory and the last name of a path.
    ///
    /// # Errors
    /// As the kernel for the same path; `ENOENT` for an empty one.
    pub fn place(&self, base: &Base<'_>, path: &[u8]) -> Result<Place, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        let (lead, last, slash) = split(path);
        if matches!(last, b"" | b"." | b"..") {
            let (parent, name) = self.directory(base, path)?;
            let name = standing(parent.as_fd(), name)?;
            let last = sys::c_string(if last.is_empty() { b"." } else { last })?;
            return Ok(Place {
                parent,
                last,
                name,
                slash,
                special: true,
            });
        }
        let (parent, name) = self.directory(base, lead)?;
        let mut name = standing(parent.as_fd(), name)?;
        let substitute = if name == b"/proc" {
            self.own_name(base, last)
        } else {
            None
        };
        let last = substitute.as_deref().unwrap_or(last);
        if name != b"/" {
            name.push(b'/');
        }
        name.extend_from_slice(last);
        Ok(Place {
            parent,
            last: sys::c_string(last)?,
            name,
            slash,
            special: false,
        })
    }

    /// An existing object; a link at its end is followed when `follow`. `hop` is asked about the name of each link
    /// that is followed at the end.
    ///
    /// # Errors
    /// As the kernel for the same path; what `hop` answers.
    pub fn object(
        &self,
        base: &Base<'_>,
        path: &[u8],
        follow: bool,
        hop: &mut dyn FnMut(&[u8]) -> Result<(), Errno>,
    ) -> Result<Object, Errno> {
        match self.straight(path) {
            Some(Ok(object)) => return Ok(object),
            Some(Err(errno)) => return Err(errno),
            None => {}
        }
        let mut place = self.place(base, path)?;
        for _ in 0..=MAX_LINKS {
            if place.special {
                return Object::new(place.parent);
            }
            let fd = sys::open_at(
                place.parent.as_fd(),
                &place.last,
                libc::O_PATH | libc::O_NOFOLLOW,
                0,
            )?;
            let stat = sys::stat(fd.as_fd())?;
            let is_link = sys::kind(&stat) == libc::S_IFLNK;
            if !is_link && place.slash && sys::kind(&stat) != libc::S_IFDIR {
                return Err(Errno::ENOTDIR);
            }
            if !is_link || !(follow || place.slash) {
                let name = sys::name_of(fd.as_fd())?;
                return Ok(Object { fd, name, stat });
            }
            hop(&place.name)?;
            if self.is_magic(place.parent.as_fd())? {
                return Object::new(self.magic(place.parent.as_fd(), &place.last)?);
            }
            let mut target = sys::read_link_at(fd.as_raw_fd(), c"")?;
            if place.slash {
                target.push(b'/');
            }
            let next = self.place(&Base::At(base.caller(), place.parent.as_fd()), &target)?;
            place = next;
        }
        Err(Errno::ELOOP)
    }

    /// The object at an absolute path that no link is on, in one step; `None` where it takes walking by hand.
    fn straight(&self, path: &[u8]) -> Option<Result<Object, Errno>> {
        let (_, last, slash) = split(path);
        let by_hand = !path.starts_with(b"/") || path.starts_with(b"/proc");
        if by_hand || slash || matches!(last, b"" | b"." | b"..") {
            return None;
        }
        let text = sys::c_string(path).ok()?;
        match sys::open_resolved(self.root(), &text, libc::O_PATH, libc::RESOLVE_NO_SYMLINKS) {
            // A link before what is missing would have been the error.
            Err(Errno::ENOENT) => Some(Err(Errno::ENOENT)),
            Err(_) => None,
            Ok(fd) => {
                let object = Object::new(fd).ok()?;
                (!object.name.starts_with(b"/proc/")).then_some(Ok(object))
            }
        }
    }

    /// Follow a magic link: not by its text, but to what it stands for.
    ///
    /// # Errors
    /// `EACCES` where it is the monitor's own.
    pub fn magic(&self, parent: BorrowedFd<'_>, last: &CString) -> Result<OwnedFd, Errno> {
        if self.is_own(&sys::name_of(parent)?) {
            return Err(Errno::EACCES);
        }
        sys::open_at(parent, last, libc::O_PATH, 0)
    }

    /// Whether links in this directory are magic: those of one process in `/proc`.
    ///
    /// # Errors
    /// As `fstatfs(2)`.
    pub fn is_magic(&self, directory: BorrowedFd<'_>) -> Result<bool, Errno> {
        Ok(sys::in_proc(directory)? && sys::stat(directory)?.st_ino != PROC_ROOT)
    }

    /// A directory and what the kernel calls it.
    fn directory(&self, base: &Base<'_>, path: &[u8]) -> Result<(OwnedFd, Vec<u8>), Errno> {
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let absolute = path.starts_with(b"/");
        let named = |found: OwnedFd| sys::name_of(found.as_fd()).map(|name| (found, name));
        if path == b"." {
            return named(base.directory()?);
        }
        let text = sys::c_string(path)?;
        let start = if absolute {
            None
        } else {
            Some(base.directory()?)
        };
        let at = match &start {
            None => self.root(),
            Some(directory) => directory.as_fd(),
        };
        let without = if self.watched {
            libc::RESOLVE_NO_SYMLINKS
        } else {
            libc::RESOLVE_NO_MAGICLINKS
        };
        if let Ok(found) = sys::open_resolved(at, &text, flags, without) {
            let (found, name) = named(found)?;
            if !self.is_own(&name) {
                return Ok((found, name));
            }
        }
        // Through a link whose name is to be noted, a magic link, or "self", which was us: by hand. Also what is
        // not there: it may be there for the caller's "self".
        let found = self.walk(base, at, path)?;
        if sys::kind(&sys::stat(found.as_fd())?) != libc::S_IFDIR {
            return Err(Errno::ENOTDIR);
        }
        let (found, name) = named(found)?;
        if self.is_own(&name) {
            return Err(Errno::EACCES);
        }
        Ok((found, name))
    }

    /// Follow a path component by component, links included.
    fn walk(&self, base: &Base<'_>, start: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
        let again = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map_err(|_| Errno::EMFILE);
        let components = |path: &[u8]| {
            path.split(|&b| b == b'/')
                .rev()
                .filter(|c| !matches!(*c, b"" | b"."))
                .map(<[u8]>::to_vec)
                .collect::<Vec<_>>()
        };
        let (mut at, mut left, mut links) = (again(start)?, components(path), 0);
        while let Some(component) = left.pop() {
            let in_root_of_proc =
                sys::in_proc(at.as_fd())? && sys::stat(at.as_fd())?.st_ino == PROC_ROOT;
            let substitute = if in_root_of_proc {
                self.own_name(base, &component)
            } else {
                None
            };
            if let Some(text) = &substitute {
                left.extend(components(text));
                continue;
            }
            let name = sys::c_string(&component)?;
            let next = sys::open_at(at.as_fd(), &name, libc::O_PATH | libc::O_NOFOLLOW, 0)?;
            if sys::kind(&sys::stat(next.as_fd())?) != libc::S_IFLNK {
                at = next;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::ELOOP);
            }
            if self.is_magic(at.as_fd())? {
                at = self.magic(at.as_fd(), &name)?;
                continue;
            }
            if self.watched {
                let mut link = canonical(at.as_fd())?;
                if link != b"/" {
                    link.push(b'/');
                }
                link.extend_from_slice(&component);
                self.crossed.borrow_mut().push(link);
            }
            let target = sys::read_link_at(next.as_raw_fd(), c"")?;
            if target.starts_with(b"/") {
                at = again(self.root())?;
            }
            left.extend(components(&target));
        }
        Ok(at)
    }

    /// What `self` and `thread-self` in `/proc` mean for the caller.
    fn own_name(&self, base: &Base<'_>, component: &[u8]) -> Option<Vec<u8>> {
        let caller = base.caller();
        match component {
            b"self" => Some(caller.process().to_string().into_bytes()),
            b"thread-self" => {
                Some(format!("{}/task/{}", caller.process(), caller.call.tid).into_bytes())
            }
            _ => None,
        }
    }
}

/// The canonical name of a directory.
fn canonical(directory: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    standing(directory, sys::name_of(directory)?)
}

/// A directory's name as long as it has one.
fn standing(directory: BorrowedFd<'_>, name: Vec<u8>) -> Result<Vec<u8>, Errno> {
    if !name.starts_with(b"/")
        || (name.ends_with(b" (deleted)") && sys::stat(directory)?.st_nlink == 0)
    {
        return Err(Errno::ENOENT);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_falls_into_directory_name_and_slash() {
        for (path, expected) in [
            ("a", (".", "a", false)),
            ("a/", (".", "a", true)),
            ("/a", ("/", "a", false)),
            ("/a//", ("/", "a", true)),
            ("/", ("/", "", true)),
            ("///", ("/", "", true)),
            ("a/b", ("a/", "b", false)),
            ("/a/../b/.", ("/a/../b/", ".", false)),
            ("..", (".", "..", false)),
            ("//x", ("//", "x", false)),
        ] {
            let (lead, last, slash) = split(path.as_bytes());
            let got = (
                std::str::from_utf8(lead).unwrap(),
                std::str::from_utf8(last).unwrap(),
                slash,
            );
            assert_eq!(got, expected, "{path:?}");
        }
    }
}
