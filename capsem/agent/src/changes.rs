//! What changed in directories and all below them, as the kernel's inotify tells it, looked at a few times a second.
//!
//! Directories are walked a few at a time, so that nobody waits for it; one that is new is watched from the next look on, and
//! what is in it by then is told as made. Links are not followed, and other file systems not entered: one that a program
//! serves may keep whoever looks into it waiting. Refuses more than so many directories, and counts those it does not watch.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::Result;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::sys;
use crate::window::{Change, Raw, What, Window, notices};

/// Directories that are watched.
const DIRECTORIES: usize = 4096;
/// Directories that wait to be looked into.
const WAITING: usize = 4096;
/// Directories that are looked into in one turn.
const TURN: usize = 32;
/// How long changes are gathered before they are told.
pub const GATHERED: Duration = Duration::from_millis(200);
/// Reads of one look: more than the kernel keeps.
const READS: usize = 32;

/// A directory to look into, and whether what is in it is new.
type Step = (PathBuf, bool);
/// The first half of a rename: its cookie, the name, and whether it is a directory's.
type Moved = (u32, PathBuf, bool);

/// How far is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// Into what is below, not only at the names of the directories themselves.
    pub below: bool,
    /// Into a directory that another file system begins at, where it is one of those that were asked for.
    pub mounted: bool,
}

/// What is watched.
#[derive(Debug)]
pub struct Changes {
    watch: OwnedFd,
    roots: Vec<PathBuf>,
    directories: HashMap<i32, PathBuf>,
    /// Where the roots are in: one that is not there yet, or is made anew, is seen there.
    above: HashMap<i32, PathBuf>,
    walk: VecDeque<Step>,
    scope: Scope,
    /// When the next look is due; None: nothing has happened since the last.
    due: Option<Instant>,
    window: Window,
    unwatched: u64,
}

/// What one look came to.
#[derive(Debug, Default)]
pub struct Looked {
    /// In order, equal ones once.
    pub changes: Vec<Change>,
    /// How many more there were.
    pub lost: u64,
    /// Directories that are not watched.
    pub unwatched: u64,
}

impl Changes {
    /// Begins to watch these directories, and all that are below them; no other file system.
    pub fn of(roots: &[String]) -> Result<Self> {
        Self::within(
            roots,
            Scope {
                below: true,
                mounted: false,
            },
        )
    }

    /// Begins to watch these directories, as far as `scope` says.
    pub fn within(roots: &[String], scope: Scope) -> Result<Self> {
        let mut this = Self {
            watch: sys::notices::changes()?,
            roots: Vec::new(),
            directories: HashMap::new(),
            above: HashMap::new(),
            walk: VecDeque::new(),
            scope,
            due: None,
            window: Window::default(),
            unwatched: 0,
        };
        this.also(roots);
        Ok(this)
    }

    /// Whether these are among what it watches.
    pub fn among(&self, roots: &[String]) -> bool {
        self.roots
            .iter()
            .all(|root| roots.iter().any(|other| Path::new(other) == root.as_path()))
    }

    /// Watches more.
    pub fn also(&mut self, roots: &[String]) {
        for root in roots.iter().map(PathBuf::from) {
            if self.roots.contains(&root) {
                continue;
            }
            if let Some(parent) = root.parent()
                && let Ok(number) = sys::notices::watch_directory(self.watch.as_fd(), parent)
            {
                self.above.insert(number, parent.to_owned());
            }
            self.walk.push_back((root.clone(), false));
            self.roots.push(root);
        }
    }

    /// What to wait for, unless a look is due anyway.
    pub fn interest(&self) -> Option<RawFd> {
        self.due.is_none().then(|| self.watch.as_raw_fd())
    }

    /// When it has something to do by itself.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.walk.is_empty() {
            self.due
        } else {
            Some(now)
        }
    }

    /// Something has happened.
    pub fn woken(&mut self, now: Instant) {
        self.due.get_or_insert(now + GATHERED);
    }

    /// Whether it is time for a look.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Looks into a few of the directories that wait for it; what is new in them is told with the next look.
    pub fn walk(&mut self, now: Instant) {
        for _ in 0..TURN {
            let Some((path, new)) = self.walk.pop_front() else {
                return;
            };
            if self.step(&path, new) {
                self.woken(now);
            }
        }
    }

    // Whether something in it is told.
    fn step(&mut self, path: &Path, new: bool) -> bool {
        let asked = self.scope.mounted && self.roots.iter().any(|root| root == path);
        if !asked && sys::notices::is_mount_point(path) {
            return false;
        }
        match sys::notices::watch_directory(self.watch.as_fd(), path) {
            Ok(number) => {
                if self.directories.len() >= DIRECTORIES && !self.directories.contains_key(&number)
                {
                    sys::notices::forget_directory(self.watch.as_fd(), number);
                    self.unwatched += 1;
                    return false;
                }
                self.directories.insert(number, path.to_owned());
            }
            Err(error) => {
                // One that is gone, or never was, has nothing to tell.
                let known = [libc::ENOENT, libc::ENOTDIR, libc::EACCES, libc::ELOOP];
                self.unwatched +=
                    u64::from(!known.iter().any(|one| error.raw_os_error() == Some(*one)));
                return false;
            }
        }
        let Ok(entries) = fs::read_dir(path) else {
            return false;
        };
        let mut told = false;
        for entry in entries.flatten() {
            let below = entry.path();
            if new {
                self.window.add(What::Create, &below, None);
                told = true;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.later((below, new));
            }
        }
        told
    }

    fn later(&mut self, step: Step) {
        if !self.scope.below && !self.roots.contains(&step.0) {
            return;
        }
        if self.walk.len() < WAITING {
            self.walk.push_back(step);
        } else {
            self.unwatched += 1;
        }
    }

    /// Whether all directories have been looked into.
    pub fn walked(&self) -> bool {
        self.walk.is_empty()
    }

    /// Everything that has happened since the last look.
    pub fn look(&mut self, scratch: &mut [u8]) -> Looked {
        self.due = None;
        let mut moved: Option<Moved> = None;
        for _ in 0..READS {
            let Ok(count) = sys::read(self.watch.as_fd(), scratch) else {
                break;
            };
            for raw in notices(&scratch[..count]) {
                self.notice(&raw, &mut moved);
            }
        }
        self.gone(moved.take());
        let unwatched = std::mem::take(&mut self.unwatched);
        let (changes, lost) = std::mem::take(&mut self.window).close();
        Looked {
            changes,
            lost,
            unwatched,
        }
    }

    fn notice(&mut self, raw: &Raw<'_>, moved: &mut Option<Moved>) {
        if raw.mask & libc::IN_Q_OVERFLOW != 0 {
            self.window.lost += 1;
            // A directory may have been made that nobody watches.
            let roots = self.roots.iter().map(|root| (root.clone(), false));
            self.walk.extend(roots.take(WAITING));
            return;
        }
        if raw.mask & libc::IN_IGNORED != 0 {
            self.directories.remove(&raw.watch);
            self.above.remove(&raw.watch);
            return;
        }
        // The two halves of a rename follow each other, unless one of them is elsewhere.
        let other_half =
            moved.take_if(|half| raw.mask & libc::IN_MOVED_TO != 0 && raw.cookie == half.0);
        self.gone(moved.take());
        let Some(path) = self.path_of(raw) else {
            self.gone(other_half);
            return;
        };
        let is_directory = raw.mask & libc::IN_ISDIR != 0;
        if let Some((_, from, was_directory)) = other_half {
            if was_directory {
                self.renamed(&from, &path);
            }
            self.window.add(What::Rename, &path, Some(&from));
            return;
        }
        if raw.mask & libc::IN_MOVED_FROM != 0 {
            *moved = Some((raw.cookie, path, is_directory));
        } else if raw.mask & (libc::IN_CREATE | libc::IN_MOVED_TO) != 0 {
            self.window.add(What::Create, &path, None);
            if is_directory {
                self.later((path, true));
            }
        } else if raw.mask & libc::IN_CLOSE_WRITE != 0 {
            self.window.add(What::Write, &path, None);
        } else if raw.mask & libc::IN_DELETE != 0 {
            self.window.add(What::Remove, &path, None);
        } else if raw.mask & libc::IN_ATTRIB != 0 {
            self.window.add(What::Attributes, &path, None);
        }
    }

    // The name that a notice is of, where it is one that is told.
    fn path_of(&self, raw: &Raw<'_>) -> Option<PathBuf> {
        let directory = self.directories.get(&raw.watch);
        let place = directory.or_else(|| self.above.get(&raw.watch))?;
        let path = place.join(raw.name_as_path());
        let told = directory.is_some() || self.roots.contains(&path);
        (told && !raw.name.is_empty()).then_some(path)
    }

    // What was moved to where nobody looks.
    fn gone(&mut self, moved: Option<Moved>) {
        let Some((_, path, was_directory)) = moved else {
            return;
        };
        self.window.add(What::Remove, &path, None);
        if was_directory {
            let below: Vec<i32> = self
                .directories
                .iter()
                .filter(|(_, directory)| directory.starts_with(&path))
                .map(|(number, _)| *number)
                .collect();
            for number in below {
                self.directories.remove(&number);
                if !self.above.contains_key(&number) {
                    sys::notices::forget_directory(self.watch.as_fd(), number);
                }
            }
        }
    }

    fn renamed(&mut self, from: &Path, to: &Path) {
        for directory in self.directories.values_mut() {
            if let Ok(rest) = directory.strip_prefix(from) {
                *directory = if rest.as_os_str().is_empty() {
                    to.to_owned()
                } else {
                    to.join(rest)
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("capsem-changes-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(path.join("there/below")).expect("a directory");
            Self(path)
        }

        fn watched(&self) -> Changes {
            let mut changes =
                Changes::of(&[self.0.to_str().expect("text").to_owned()]).expect("inotify");
            while !changes.walked() {
                changes.walk(Instant::now());
            }
            changes
        }

        fn told(&self, changes: &mut Changes) -> Vec<(&'static str, String)> {
            let mut scratch = vec![0; 64 << 10];
            let looked = changes.look(&mut scratch);
            assert_eq!((looked.lost, looked.unwatched), (0, 0));
            let short = |path: &str| path.replace(self.0.to_str().expect("text"), "");
            looked
                .changes
                .iter()
                .map(|one| {
                    let from = one.from.as_deref().map(|from| short(from) + " ");
                    (
                        one.what.word(),
                        from.unwrap_or_default() + &short(&one.path),
                    )
                })
                .collect()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn owned(told: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
        told.iter()
            .map(|(what, path)| (*what, (*path).to_owned()))
            .collect()
    }

    #[test]
    fn what_happens_below_is_told() {
        let place = Place::new("below");
        let mut changes = place.watched();
        fs::write(place.0.join("there/below/a"), "1").expect("written");
        fs::rename(place.0.join("there/below/a"), place.0.join("b")).expect("renamed");
        fs::remove_file(place.0.join("b")).expect("removed");
        fs::set_permissions(
            place.0.join("there"),
            std::os::unix::fs::PermissionsExt::from_mode(0o700),
        )
        .expect("changed");
        assert_eq!(
            place.told(&mut changes),
            owned(&[
                ("create", "/there/below/a"),
                ("rename", "/there/below/a /b"),
                ("remove", "/b"),
                ("attributes", "/there"),
            ])
        );
        assert_eq!(place.told(&mut changes), []);
    }

    #[test]
    fn a_new_directory_is_looked_into_and_a_renamed_one_keeps_its_watch() {
        let place = Place::new("new");
        let mut changes = place.watched();
        fs::create_dir_all(place.0.join("new/deep")).expect("made");
        fs::write(place.0.join("new/deep/early"), "1").expect("written");
        assert_eq!(place.told(&mut changes), owned(&[("create", "/new")]));
        while !changes.walked() {
            changes.walk(Instant::now());
        }
        assert!(changes.due.is_some());
        assert_eq!(
            place.told(&mut changes),
            owned(&[("create", "/new/deep"), ("create", "/new/deep/early")])
        );
        fs::rename(place.0.join("new"), place.0.join("there/old")).expect("renamed");
        fs::write(place.0.join("there/old/deep/late"), "1").expect("written");
        assert_eq!(
            place.told(&mut changes),
            owned(&[
                ("rename", "/new /there/old"),
                ("create", "/there/old/deep/late")
            ])
        );
    }

    #[test]
    fn what_is_moved_away_is_removed_and_links_are_not_followed() {
        let place = Place::new("away");
        let other = Place::new("elsewhere");
        std::os::unix::fs::symlink(&other.0, place.0.join("link")).expect("a link");
        let mut changes = place.watched();
        fs::rename(place.0.join("there"), other.0.join("gone")).expect("moved");
        fs::write(other.0.join("gone/below/x"), "1").expect("written");
        fs::write(other.0.join("there/y"), "1").expect("written");
        assert_eq!(place.told(&mut changes), owned(&[("remove", "/there")]));
        assert_eq!(changes.directories.len(), 1);
    }

    #[test]
    fn more_may_be_watched_and_what_is_not_there_is_not() {
        let place = Place::new("more");
        let root = |path: &str| place.0.join(path).to_str().expect("text").to_owned();
        let mut changes = Changes::of(&[root("there/below")]).expect("inotify");
        assert!(changes.among(&[root("there/below"), root("")]) && !changes.among(&[root("")]));
        changes.also(&[root("there/below"), root("nowhere")]);
        while !changes.walked() {
            changes.walk(Instant::now());
        }
        assert_eq!(changes.directories.len(), 1);
        assert_eq!(place.told(&mut changes), []);
        // It is seen once it is there, and what is beside it is not.
        fs::write(place.0.join("beside"), "1").expect("written");
        fs::create_dir(place.0.join("nowhere")).expect("made");
        assert_eq!(place.told(&mut changes), owned(&[("create", "/nowhere")]));
        while !changes.walked() {
            changes.walk(Instant::now());
        }
        fs::write(place.0.join("nowhere/a"), "1").expect("written");
        fs::remove_dir_all(place.0.join("nowhere")).expect("removed");
        fs::create_dir(place.0.join("nowhere")).expect("made again");
        let all = [
            "create /nowhere/a",
            "remove /nowhere/a",
            "remove /nowhere",
            "create /nowhere",
        ];
        let told = place.told(&mut changes);
        assert_eq!(
            told.iter()
                .map(|(what, path)| format!("{what} {path}"))
                .collect::<Vec<_>>(),
            all
        );
        while !changes.walked() {
            changes.walk(Instant::now());
        }
        fs::write(place.0.join("nowhere/b"), "1").expect("written");
        assert_eq!(place.told(&mut changes), owned(&[("create", "/nowhere/b")]));
    }

    #[test]
    fn one_level_is_watched_where_no_more_is_asked_for() {
        let place = Place::new("level");
        let scope = Scope {
            below: false,
            mounted: true,
        };
        let root = place.0.to_str().expect("text").to_owned();
        let mut changes = Changes::within(&[root], scope).expect("inotify");
        while !changes.walked() {
            changes.walk(Instant::now());
        }
        fs::write(place.0.join("there/deep"), "1").expect("written");
        fs::create_dir(place.0.join("new")).expect("made");
        assert_eq!(place.told(&mut changes), owned(&[("create", "/new")]));
        assert!(changes.walked(), "it is not looked into");
        fs::write(place.0.join("new/deep"), "1").expect("written");
        assert_eq!(place.told(&mut changes), []);
    }

    #[test]
    fn a_file_system_that_was_asked_for_is_entered() {
        let scope = Scope {
            below: false,
            mounted: true,
        };
        let mut changes = Changes::within(&["/proc".to_owned()], scope).expect("inotify");
        changes.walk(Instant::now());
        assert_eq!(changes.directories.len(), 1);
    }

    #[test]
    fn other_file_systems_are_not_entered() {
        assert!(sys::notices::is_mount_point(Path::new("/proc")));
        assert!(!sys::notices::is_mount_point(Path::new("/proc/self")));
        assert!(!sys::notices::is_mount_point(Path::new("/")));
        let mut changes = Changes::of(&["/proc".to_owned()]).expect("inotify");
        changes.walk(Instant::now());
        assert!(changes.walked() && changes.directories.is_empty());
    }
}
