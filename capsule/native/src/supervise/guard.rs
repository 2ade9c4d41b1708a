//! The log, its key and the policy can be changed by no run.
//!
//! With a monitor they are kept by name, wherever they lie. Without one, nothing can be taken out of a writable
//! directory, so a run is refused when one of them lies in one; and always when the log itself would be an odd thing.

use crate::audit::Error;
use crate::audit::going::Going;
use crate::audit::heads;
use crate::audit::named::{self, Named};
use crate::plan::{Guard, Kept, Pattern, Plan, Variables};
use crate::sandbox::view::{Place, Use};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// What must not be writable, and what it is.
#[derive(Debug)]
pub struct Precious {
    /// Absolute, resolved as far as it exists.
    pub path: PathBuf,
    /// In words.
    pub what: &'static str,
}

/// Refuse when one of `precious` lies in a place that the command may write. For a run without a monitor, which would
/// keep it by name.
///
/// # Errors
/// A sentence for the user.
pub fn unwritable(precious: &[Precious], places: &[Place]) -> Result<(), String> {
    for one in precious {
        let root = places
            .iter()
            .filter(|place| place.wanted == Use::Write)
            .find(|place| {
                // A writable file or directory at, above or below the name reaches it.
                one.path.starts_with(&place.path) || place.path.starts_with(&one.path)
            });
        if let Some(root) = root {
            return Err(format!(
                "{} ({}) lies in {}, which the command may write, and without the layer `supervisor` nothing keeps it; \
                 move it out of there",
                one.what,
                one.path.display(),
                root.path.display()
            ));
        }
    }
    Ok(())
}

/// The logs and policies of other runs that lie where the command may write, and what makes those known to its monitor
/// that come while it runs.
#[derive(Debug)]
pub struct Others {
    /// Its place among the runs that are going.
    pub going: Going,
    /// The list of named logs and policies, open.
    pub list: File,
    /// Where it may write.
    pub writable: Vec<PathBuf>,
    /// What is on the list and lies there.
    pub named: Vec<Named>,
}

impl Others {
    /// Of a run that is about to begin, with this view, under policies whose names need remembering; `monitored`:
    /// whether a monitor will keep names from it.
    ///
    /// # Errors
    /// A sentence for the user, where it cannot be known which there are.
    pub fn of(
        state: &Path,
        policies: &[Named],
        places: &[Place],
        monitored: bool,
    ) -> Result<Others, String> {
        let over = places.iter().filter(|place| place.wanted == Use::Write);
        let writable: Vec<PathBuf> = over.map(|place| place.path.clone()).collect();
        let roots = writable.iter().map(PathBuf::as_path);
        let known = || {
            // First the place, then the list: who adds a log sees the one, or is seen in the other.
            let going = Going::enter(state, roots, monitored)?;
            let list = named::open(state, false)?;
            let mut named = named::read(&list)?;
            if policies.iter().any(|policy| !named.contains(policy)) {
                named::remember(state, policies)?;
            }
            if !monitored {
                // Those of the usual name are on no list: a monitor keeps them wherever they are.
                let usual = heads::logs(state)?.into_iter();
                named.extend(usual.filter(|log| !named::is_named(log)).map(Named::Log));
            }
            Ok((going, list, named))
        };
        let (going, list, mut named) = known().map_err(|error: Error| error.to_string())?;
        let within = |path: &Path| writable.iter().any(|root| path.starts_with(root));
        named.retain(|named| within(named.path()));
        Ok(Others {
            going,
            list,
            writable,
            named,
        })
    }

    /// To be kept by name.
    pub fn kept(&self) -> impl Iterator<Item = Kept> {
        self.named.iter().flat_map(|named| {
            named.names().into_iter().map(|names| Kept {
                names,
                guard: Guard::Protected,
                reason: named.reason().to_owned(),
            })
        })
    }

    /// To be out of reach where nothing keeps names: those that are there.
    pub fn precious(&self) -> impl Iterator<Item = Precious> {
        let there = |named: &&Named| named.path().symlink_metadata().is_ok();
        self.named.iter().filter(there).map(|named| Precious {
            path: named.path().to_owned(),
            what: named.reason(),
        })
    }
}

/// The lines of the plan that do not hold without a monitor: a `deny` in what may be read, a `protect` in what may be
/// written. Each as the policy says it, with its place.
#[must_use]
pub fn lost(plan: &Plan, variables: &Variables, places: &[Place]) -> Vec<String> {
    let files = &plan.filesystem;
    let denies = files.deny.iter().map(|line| ("deny", line));
    let protects = files.protect.iter().map(|line| ("protect", line));
    denies
        .chain(protects)
        .filter(|(field, line)| {
            let Ok(pattern) = Pattern::new(&line.pattern, variables) else {
                return false;
            };
            let anchor = Path::new(OsStr::from_bytes(pattern.anchor()));
            if anchor.as_os_str().is_empty() {
                // Everywhere, so also where something may be written.
                return places.iter().any(|place| match place.wanted {
                    Use::Write => true,
                    Use::Read => *field == "deny",
                    _ => false,
                });
            }
            let over = places
                .iter()
                .filter(|place| anchor.starts_with(&place.path));
            let nearest = over.max_by_key(|place| place.path.as_os_str().len());
            nearest.is_some_and(|place| match place.wanted {
                Use::Write => true,
                Use::Read => *field == "deny",
                _ => false,
            })
        })
        .map(|(field, line)| {
            let (text, origin) = (&line.pattern, &line.origin);
            format!("{field} {text} ({}:{})", origin.file, origin.line)
        })
        .collect()
}

/// `path` with symbolic links followed as far as it exists; the last part need not.
#[must_use]
pub fn real(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => path.to_owned(),
    }
}

/// `path` without `.` and `..`, as text: for what does not exist, or is not to be looked at.
#[must_use]
pub fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::view::Execution;

    #[test]
    fn without_a_monitor_nothing_precious_may_be_in_reach() {
        let place = |path: &str, wanted| Place {
            path: path.into(),
            wanted,
            directory: true,
            exists: true,
            execution: Execution::Inherited,
        };
        let places = [place("/w", Use::Write), place("/r", Use::Read)];
        let log = |path: &str| {
            [Precious {
                path: path.into(),
                what: "the log",
            }]
        };
        assert!(
            unwritable(&log("/w/capsule.log"), &places)
                .unwrap_err()
                .contains("/w")
        );
        assert!(unwritable(&log("/r/capsule.log"), &places).is_ok());
        assert!(unwritable(&log("/w2/capsule.log"), &places).is_ok());
        assert!(unwritable(&log("/"), &places).is_err());
    }

    #[test]
    fn a_name_that_does_not_exist_is_followed_to_its_directory() {
        let here = tempfile::tempdir().unwrap();
        let root = here.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("d")).unwrap();
        std::os::unix::fs::symlink("d", root.join("l")).unwrap();
        assert_eq!(real(&root.join("l/x.log")), root.join("d/x.log"));
    }
}
