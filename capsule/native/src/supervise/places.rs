//! From the paths of a plan to places of this host: variables put in, symbolic links followed, rules for the kernel.
//!
//! Reads the host's directories and nothing else. It refuses: a grant that must exist and does not, and a working
//! directory that would not be in the view.

use super::egress::trust::INSIDE;
use super::programs;
use crate::plan::{Alias, Grant, Plan, Program, VariableError, Variables};
use crate::sandbox::landlock::{Rights, Rule};
use crate::sandbox::mounts::DEVICES;
use crate::sandbox::view::{Execution, Link, Place, Use, lies_in};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Why the plan does not fit this host.
#[derive(Debug)]
pub enum PlaceError {
    /// A variable without a value here.
    Variable(VariableError),
    /// A grant that must exist does not.
    Missing(Grant, PathBuf),
    /// A path could not be looked at.
    Unreadable(PathBuf, io::Error),
    /// A named program is not the one the policy means: what was found instead.
    Changed(Box<Program>, PathBuf, String),
    /// A named program with a digest lies where the command may write.
    Replaceable(Box<Program>, PathBuf),
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(error) => error.fmt(f),
            Self::Missing(grant, path) => {
                let origin = &grant.origin;
                write!(
                    f,
                    "{}:{}:{}: {} does not exist; create it, or write {{path: {}, optional: true}} to grant it where it exists",
                    origin.file,
                    origin.line,
                    origin.column,
                    path.display(),
                    grant
                        .path
                        .replacen("${home}", "~", 1)
                        .replacen("${workspace}", ".", 1)
                )
            }
            Self::Unreadable(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Changed(program, path, found) => write!(
                f,
                "{}:{}: {} has the digest {found}, not the one in the policy",
                program.origin.file,
                program.origin.line,
                path.display()
            ),
            Self::Replaceable(program, path) => write!(
                f,
                "{}:{}: {} lies where the command may write, so its digest could change during the run; move it",
                program.origin.file,
                program.origin.line,
                path.display()
            ),
        }
    }
}

impl std::error::Error for PlaceError {}

/// Rights by name. The names are clean and absolute: as bytes they are compared faster than part by part.
pub(super) type Granted = BTreeMap<OsString, Rights>;

/// The rights of one name.
pub(super) fn of<'a>(rights: &'a mut Granted, path: &Path) -> &'a mut Rights {
    rights.entry(path.as_os_str().to_owned()).or_default()
}

/// A plan's paths on this host.
#[derive(Debug, Default)]
pub struct Places {
    /// For the view.
    pub view: Vec<Place>,
    /// Links on the way to granted places.
    pub links: Vec<Link>,
    /// For Landlock.
    pub rules: Vec<Rule>,
    /// Names of the plan that are really others.
    pub aliases: Vec<Alias>,
    /// Unix sockets of the host that may be dialled.
    pub sockets: Vec<PathBuf>,
    /// What was found at a path without links before: plans name many places in the same directories.
    seen: HashMap<OsString, Found>,
}

/// What is at a path.
#[derive(Clone, Debug)]
enum Found {
    Directory,
    File,
    Link(PathBuf),
    Nothing,
}

/// Follow a plan's paths on this host. `in_view`: whether there will be a mount namespace with a view of its own.
///
/// # Errors
/// See [`PlaceError`].
pub fn resolve(plan: &Plan, variables: &Variables, in_view: bool) -> Result<Places, PlaceError> {
    let mut places = Places::default();
    let mut rights = Granted::new();
    let files = &plan.filesystem;
    let named = plan.process.programs.as_ref();

    for (list, wanted) in [(&files.hide, Use::Hide), (&files.private, Use::Private)] {
        for place in list {
            let path = variables.path(&place.path).map_err(PlaceError::Variable)?;
            let found = places.follow(&path)?;
            let given = of(&mut rights, &found.path);
            // What is hidden is empty, and may be seen to be: programs look for their settings at home. Without a
            // view both would be the host's own.
            match wanted {
                _ if !in_view => {}
                Use::Private => (given.read, given.write) = (true, true),
                _ => given.list = true,
            }
            places.view.push(Place { wanted, ..found });
        }
    }
    for (list, wanted) in [
        (&files.read, Use::Read),
        (&files.write, Use::Write),
        (&files.execute, Use::Read),
    ] {
        let executing = std::ptr::eq(list, &files.execute);
        for grant in list {
            let path = variables.path(&grant.path).map_err(PlaceError::Variable)?;
            let found = places.follow(&path)?;
            // Private directories and our own /proc and /dev exist in the view, whatever the host has.
            if !found.exists && !grant.optional && !made_by_us(&found.path, &places.view) {
                return Err(PlaceError::Missing(grant.clone(), path));
            }
            let entry = of(&mut rights, &found.path);
            match (executing, wanted) {
                (true, _) => entry.execute = named.is_none(),
                (false, Use::Write) => entry.write = true,
                (false, _) => entry.read = true,
            }
            // An `execute` below a hidden directory must be in the view, but takes no right to write away.
            let shown =
                executing && (made_by_us(&found.path, &places.view) || places.shows(&found.path));
            if found.exists && !shown && !in_our_dev(&found.path) {
                places.view.push(Place { wanted, ..found });
            }
        }
    }
    if let Some(list) = named {
        programs::only(
            list,
            &plan.filesystem.execute,
            variables,
            &mut places,
            &mut rights,
        )?;
    }
    for socket in &plan.network.unix {
        let path = variables.path(&socket.path).map_err(PlaceError::Variable)?;
        let found = places.follow(&path)?;
        if !found.exists && !socket.optional {
            return Err(PlaceError::Missing(socket.clone(), path));
        }
        places.sockets.push(found.path);
    }
    places.ours(&mut rights, in_view);
    places.rules = rules(rights, |path| places.there(path));
    Ok(places)
}

/// The links that a path leads over, each under its real name: who changes one of them changes what the path means.
///
/// # Errors
/// See [`PlaceError`].
pub fn links(path: &Path) -> Result<Vec<PathBuf>, PlaceError> {
    let mut places = Places::default();
    places.follow(path)?;
    Ok(places.links.into_iter().map(|link| link.path).collect())
}

/// The rules that change something: of what is there, and beyond what holds around it anyway.
fn rules(rights: Granted, there: impl Fn(&Path) -> bool) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    // What is above comes before what is beneath.
    for (path, given) in rights {
        let path = PathBuf::from(path);
        let around = rules.iter().filter(|rule| lies_in(&path, &rule.path));
        let around = around.fold(Rights::default(), |all, rule| all.and(rule.rights));
        if !given.within(around) && there(&path) {
            rules.push(Rule {
                path,
                rights: given,
                optional: true,
            });
        }
    }
    rules
}

/// Whether a path lies in what the view makes anew.
fn made_by_us(path: &Path, view: &[Place]) -> bool {
    lies_in(path, Path::new("/proc"))
        || lies_in(path, Path::new("/dev"))
        || lies_in(path, Path::new(INSIDE))
        || view
            .iter()
            .any(|place| place.wanted == Use::Private && lies_in(path, &place.path))
}

/// Whether a path is one that the minimal `/dev` has anyway.
fn in_our_dev(path: &Path) -> bool {
    let Ok(name) = path.strip_prefix("/dev") else {
        return false;
    };
    ["", "ptmx", "pts", "fd", "stdin", "stdout", "stderr"]
        .iter()
        .chain(&DEVICES)
        .any(|ours| name == Path::new(ours))
}

impl Places {
    /// Whether there may be something at `path` in the view: on the host, or made by us.
    fn there(&self, path: &Path) -> bool {
        let absent = matches!(self.seen.get(path.as_os_str()), Some(Found::Nothing));
        !absent || made_by_us(path, &self.view)
    }

    /// Whether the view already shows the host's files at `path`.
    pub(super) fn shows(&self, path: &Path) -> bool {
        matches!(self.around(path), Use::Read | Use::Write)
    }

    /// What the most specific place around `path` is for; the host's files are readable where nothing is said.
    pub(super) fn around(&self, path: &Path) -> Use {
        self.view
            .iter()
            .filter(|place| lies_in(path, &place.path))
            .max_by_key(|place| (place.path.as_os_str().len(), place.wanted))
            .map_or(Use::Read, |place| place.wanted)
    }

    /// The namespace's own `/proc` and the minimal `/dev`, in every view.
    fn ours(&mut self, rights: &mut Granted, in_view: bool) {
        if !in_view {
            // The host's own: only what the plan grants.
            return;
        }
        for (path, wanted) in [("/proc", Use::Processes), ("/dev", Use::Devices)] {
            self.view.push(Place {
                path: path.into(),
                wanted,
                directory: true,
                exists: true,
                execution: Execution::Inherited,
            });
        }
        // The kernel lets nobody reach another's processes here, and the devices are the harmless ones.
        rights.retain(|path, _| !in_our_dev(Path::new(path)));
        of(rights, Path::new("/proc")).read = true;
        let devices = of(rights, Path::new("/dev"));
        (devices.read, devices.write, devices.devices) = (true, true, true);
    }

    fn look(&mut self, path: &Path) -> Result<Found, PlaceError> {
        if let Some(found) = self.seen.get(path.as_os_str()) {
            return Ok(found.clone());
        }
        let unreadable = |error| PlaceError::Unreadable(path.to_owned(), error);
        let found = match std::fs::symlink_metadata(path) {
            Ok(found) if found.is_symlink() => {
                Found::Link(std::fs::read_link(path).map_err(unreadable)?)
            }
            Ok(found) if found.is_dir() => Found::Directory,
            Ok(_) => Found::File,
            // What the caller cannot look at, the command cannot use either.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::NotADirectory
                        | io::ErrorKind::PermissionDenied
                ) =>
            {
                Found::Nothing
            }
            Err(error) => return Err(unreadable(error)),
        };
        self.seen.insert(path.as_os_str().to_owned(), found.clone());
        Ok(found)
    }

    /// What is really at `path`; remembers the links on the way.
    pub(super) fn follow(&mut self, path: &Path) -> Result<Place, PlaceError> {
        // A directory that was looked at under its own name has no link above it either.
        let known = path.parent().filter(|above| {
            let found = self.seen.get(above.as_os_str());
            matches!(found, Some(Found::Directory))
        });
        let (mut real, mut rest) = match (known, path.file_name()) {
            (Some(above), Some(last)) => (above.to_owned(), vec![PathBuf::from(last)]),
            _ => (PathBuf::from("/"), parts(path)),
        };
        let (mut jumps, mut exists, mut directory) = (0, true, true);
        while let Some(part) = rest.pop() {
            if part == Path::new("..") {
                real.pop();
                continue;
            }
            real.push(&part);
            if !exists {
                continue;
            }
            match self.look(&real)? {
                Found::Directory => directory = true,
                Found::File => directory = false,
                Found::Nothing => exists = false,
                Found::Link(target) => {
                    jumps += 1;
                    if jumps > 40 {
                        let error = io::Error::from_raw_os_error(libc::ELOOP);
                        return Err(PlaceError::Unreadable(path.to_owned(), error));
                    }
                    let link = Link {
                        path: real.clone(),
                        target: target.clone(),
                    };
                    if !self.links.contains(&link) {
                        self.links.push(link);
                    }
                    real.pop();
                    if target.is_absolute() {
                        real = PathBuf::from("/");
                    }
                    rest.extend(parts(&target));
                }
            }
        }
        if !exists {
            self.seen
                .insert(real.as_os_str().to_owned(), Found::Nothing);
        }
        if real != path {
            self.aliases.push(Alias {
                name: path.to_owned(),
                real: real.clone(),
            });
        }
        Ok(Place {
            path: real,
            wanted: Use::Read,
            directory,
            exists,
            execution: Execution::Inherited,
        })
    }
}

/// The parts of a path, the last one first; without `/` and `.`.
fn parts(path: &Path) -> Vec<PathBuf> {
    path.components()
        .rev()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_rules_that_change_something_are_made() {
        let mut rights = Granted::new();
        of(&mut rights, Path::new("/u")).read = true;
        of(&mut rights, Path::new("/u/bin")).read = true;
        of(&mut rights, Path::new("/u/bin")).execute = true;
        of(&mut rights, Path::new("/u/bin/x")).execute = true;
        of(&mut rights, Path::new("/u/lib")).read = true;
        of(&mut rights, Path::new("/u2")).read = true;
        of(&mut rights, Path::new("/gone")).read = true;
        let made = rules(rights, |path| path != Path::new("/gone"));
        let paths: Vec<&str> = made.iter().filter_map(|rule| rule.path.to_str()).collect();
        assert_eq!(paths, ["/u", "/u/bin", "/u2"]);
    }

    use std::os::unix::fs::symlink;

    fn follow(path: &Path) -> (Place, Places) {
        let mut places = Places::default();
        let found = places.follow(path).unwrap();
        (found, places)
    }

    #[test]
    fn links_are_followed_and_remembered() {
        let here = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(here.path()).unwrap();
        fs::create_dir_all(root.join("data/work")).unwrap();
        symlink("data", root.join("one")).unwrap();
        symlink(root.join("one/work"), root.join("two")).unwrap();
        let (found, places) = follow(&root.join("two/later"));
        assert_eq!(found.path, root.join("data/work/later"));
        assert!(!found.exists);
        assert_eq!(places.links.len(), 2);
        assert_eq!(
            links(&root.join("two/x.log")).unwrap(),
            [root.join("two"), root.join("one")]
        );
        assert_eq!(places.aliases[0].real, root.join("data/work/later"));
        let (found, places) = follow(&root.join("data/work"));
        assert!(
            found.exists && found.directory && places.links.is_empty() && places.aliases.is_empty()
        );
    }

    #[test]
    fn a_loop_ends() {
        let here = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(here.path()).unwrap();
        symlink("a", root.join("b")).unwrap();
        symlink("b", root.join("a")).unwrap();
        assert!(Places::default().follow(&root.join("a")).is_err());
    }

    #[test]
    fn a_link_upwards_is_followed_as_the_kernel_does() {
        let here = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(here.path()).unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("f"), "").unwrap();
        symlink("../../f", root.join("a/b/l")).unwrap();
        let (found, _) = follow(&root.join("a/b/l"));
        assert_eq!(found.path, root.join("f"));
        assert!(!found.directory);
    }
}
