//! Names that no run may change, or see, whatever its plan says.
//!
//! The policy it is under, every policy that a later run would obey, the log with its companions, and capsule's own
//! directories: their settings, cached plans and remembered heads may be read where granted, the key of the log
//! and what all runs wait for not.

use super::access::{Guard, Kept};
use super::directories::Directories;
use super::find::FILE;
use super::model::Plan;
use super::pattern::Pattern;
use crate::audit::heads::absolute;
use crate::audit::named::{Named, SHARED, USUAL};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// All of them. `log` is absolute and resolved; so should be the directories, where they exist.
pub fn always(plan: &Plan, log: Option<&Path>, directories: &Directories) -> Vec<Kept> {
    let mut kept = Vec::new();
    let mut keep = |names: Pattern, guard, reason: &str| {
        kept.push(Kept {
            names,
            guard,
            reason: reason.to_owned(),
        });
    };
    for source in plan
        .policy
        .sources
        .iter()
        .filter(|s| s.path.starts_with('/'))
    {
        for path in both(Path::new(&source.path)) {
            keep(literal(&path), Guard::Protected, "the policy of this run");
        }
    }
    let planted = "the name of a policy, which a later run would obey";
    keep(
        Pattern::anywhere(FILE.as_bytes()),
        Guard::Protected,
        planted,
    );
    let another = "the log of another run";
    keep(
        Pattern::anywhere(USUAL.as_bytes()),
        Guard::Protected,
        another,
    );
    keep(
        Pattern::anywhere_beginning(format!("{USUAL}.").as_bytes()),
        Guard::Protected,
        another,
    );
    if let Some(log) = log {
        keep(literal(log), Guard::Protected, "the log of this run");
        let log = log.as_os_str().as_bytes();
        keep(
            Pattern::beginning(&[log, b"."].concat()),
            Guard::Protected,
            "a companion of the log of this run",
        );
    }
    let names = |directory: &Option<PathBuf>| directory.as_deref().map(both).unwrap_or_default();
    let state = names(&directories.state);
    for (paths, guard, reason) in [
        (
            names(&directories.cache),
            Guard::Protected,
            "capsule's cache of compiled policies",
        ),
        (
            state.clone(),
            Guard::Protected,
            "capsule's memory of the logs it has seen",
        ),
        (
            names(&directories.config),
            Guard::Protected,
            "capsule's settings",
        ),
        (
            names(&directories.data),
            Guard::Denied,
            "the key that signs the log",
        ),
    ] {
        for path in paths {
            keep(literal(&path), guard, reason);
        }
    }
    // Who can open them can lock them, and every run waits for those locks.
    for path in state
        .iter()
        .flat_map(|state| SHARED.map(|name| state.join(name)))
    {
        keep(literal(&path), Guard::Denied, "what all runs are told by");
    }
    kept
}

/// The files of a policy that are kept from other runs only where those know of them: not called as every policy is.
pub fn named_sources(plan: &Plan) -> Vec<Named> {
    let sources = plan
        .policy
        .sources
        .iter()
        .map(|source| Path::new(&source.path));
    let mut named = Vec::new();
    for path in sources.filter(|path| path.is_absolute()) {
        // Of a link both: what it is called, and what it leads to.
        let given = absolute(path).unwrap_or_else(|| path.to_owned());
        let real = path.canonicalize().unwrap_or_else(|_| given.clone());
        for path in [given, real] {
            let usual = path.file_name() == Some(OsStr::new(FILE));
            let policy = Named::Policy(path);
            if !usual && !named.contains(&policy) {
                named.push(policy);
            }
        }
    }
    named
}

/// A name, and the one it really has.
fn both(path: &Path) -> Vec<PathBuf> {
    let real = path.canonicalize().ok().filter(|real| real != path);
    std::iter::once(path.to_owned()).chain(real).collect()
}

fn literal(path: &Path) -> Pattern {
    Pattern::literal(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::parse;

    #[test]
    fn covers_the_policy_the_log_and_what_is_capsules_own() {
        let plan = parse(include_bytes!(
            "../../../../tests/vectors/plan/good/full.json"
        ))
        .unwrap();
        let directories = Directories::of(Some(Path::new("/nonexistent/u")), |_| None);
        let kept = always(&plan, Some(Path::new("/w/[run].log")), &directories);
        let guard = |name: &str| {
            let found = kept.iter().filter(|k| k.names.covers(name.as_bytes()));
            found.map(|k| k.guard).max_by_key(|g| *g == Guard::Denied)
        };
        for name in [
            "/w/capsule.yaml",
            "/elsewhere/deep/capsule.yaml",
            "/w/[run].log",
            "/w/[run].log.torn-1",
            "/w/below/capsule.log",
            "/w/below/capsule.log.torn-1",
            "/nonexistent/u/.cache/capsule/plans/x",
            "/nonexistent/u/.local/state/capsule",
            "/nonexistent/u/.config/capsule/x",
        ] {
            assert_eq!(guard(name), Some(Guard::Protected), "{name}");
        }
        assert_eq!(
            guard("/nonexistent/u/.local/share/capsule/log.key"),
            Some(Guard::Denied)
        );
        for name in SHARED {
            let name = format!("/nonexistent/u/.local/state/capsule/{name}");
            assert_eq!(guard(&name), Some(Guard::Denied), "{name}");
        }
        for name in [
            "/w/x",
            "/w/r.log",
            "/w/capsule.logs",
            "/w/[run].logs",
            "/w/capsule.yaml.orig",
            "/nonexistent/u/.cache",
        ] {
            assert_eq!(guard(name), None, "{name}");
        }
    }

    #[test]
    fn what_all_runs_wait_for_is_denied_under_its_real_name_too() {
        let here = tempfile::tempdir().unwrap();
        let root = here.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("disk/capsule")).unwrap();
        std::os::unix::fs::symlink("disk", root.join("state")).unwrap();
        let plan = parse(include_bytes!(
            "../../../../tests/vectors/plan/good/full.json"
        ))
        .unwrap();
        let directories = Directories {
            state: Some(root.join("state/capsule")),
            ..Directories::of(None, |_| None)
        };
        let kept = always(&plan, None, &directories);
        for name in ["state/capsule/going", "disk/capsule/going"] {
            let name = root.join(name);
            let denied = |kept: &Kept| {
                kept.guard == Guard::Denied && kept.names.covers(name.as_os_str().as_bytes())
            };
            assert!(kept.iter().any(denied), "{name:?}");
        }
    }

    #[test]
    fn of_a_policy_behind_a_link_both_names_are_kept() {
        let here = tempfile::tempdir().unwrap();
        let root = here.path().canonicalize().unwrap();
        std::fs::write(root.join("real.yaml"), "").unwrap();
        let mut plan = parse(include_bytes!(
            "../../../../tests/vectors/plan/good/full.json"
        ))
        .unwrap();
        let source = plan.policy.sources[0].clone();
        plan.policy.sources = ["team.yaml", FILE]
            .map(|link| {
                std::os::unix::fs::symlink("real.yaml", root.join(link)).unwrap();
                let mut source = source.clone();
                source.path = root.join(link).to_str().unwrap().to_owned();
                source
            })
            .into();
        let named = ["team.yaml", "real.yaml"].map(|name| Named::Policy(root.join(name)));
        assert_eq!(named_sources(&plan), named);
    }
}
