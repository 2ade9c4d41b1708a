//! `--overlay`: what the run writes lands in layers beside the host's files, to be reviewed later.
//!
//! Each writable directory of the view is covered by an overlay whose upper layer lies in the user's state directory,
//! with a record of what was there and a manifest that `capsule diff`, `apply` and `discard` read. It refuses a writable single file (overlays are
//! made of directories), a directory with mounts in it, and names that JSON cannot say. The layers are held by a lock while the run goes on.

mod before;
mod nested;

use crate::plan::{Kept, Plan, Variables};
use crate::sandbox::view::{Place, Step};
use before::Identity;
use serde::Serialize;
use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the manifest is made of, beside the layers.
#[derive(Debug)]
pub struct About<'a> {
    /// The run's name.
    pub run: &'a str,
    /// As in the report.
    pub command: &'a [String],
    /// The plan in force.
    pub plan: &'a Plan,
    /// What its paths mean.
    pub variables: &'a Variables,
    /// What is kept whatever it says.
    pub kept: &'a [Kept],
}

/// The layers of a run. While this lives, nobody reviews them.
#[derive(Debug)]
pub struct Layers {
    /// Where they are.
    pub directory: PathBuf,
    _lock: File,
}

#[derive(Serialize)]
struct Manifest<'a> {
    overlay: u32,
    run: &'a str,
    when: String,
    command: &'a [String],
    policy: &'a str,
    roots: Vec<Root>,
    guards: Vec<Guarded>,
}

#[derive(Serialize)]
struct Root {
    path: String,
    layer: usize,
}

/// Names below `anchor` that match `tail`.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Guarded {
    anchor: String,
    tail: String,
    why: String,
}

/// Put layers under the writable directories of `steps`; `state` is capsule's state directory.
///
/// # Errors
/// A sentence for the user.
pub fn lay(
    about: &About,
    state: &Path,
    steps: &mut [Step],
    places: &[Place],
) -> Result<Layers, String> {
    let directory = state.join("overlays").join(about.run);
    let failed = |error: io::Error| format!("--overlay: {}: {error}", directory.display());
    private(&directory).map_err(failed)?;
    let lock = File::open(&directory).map_err(failed)?;
    // SAFETY: a valid descriptor. It is kept by the sandbox's processes too, should this one be killed.
    if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        return Err(failed(io::Error::last_os_error()));
    }
    let paths = writable(steps, places)?;
    nested::refuse(&paths)?;
    let identity = Identity::own();
    let mut roots = Vec::new();
    for path in &paths {
        let layer = directory.join(roots.len().to_string());
        let (upper, work) = (layer.join("upper"), layer.join("work"));
        private(&upper)
            .and_then(|()| private(&work))
            // The upper layer's own mode is what the command sees at the root.
            .and_then(|()| path.metadata())
            .and_then(|found| std::fs::set_permissions(&upper, found.permissions()))
            .and_then(|()| fresh(&layer.join("before")))
            .and_then(|file| {
                let apart: HashSet<PathBuf> =
                    paths.iter().filter(|p| *p != path).cloned().collect();
                before::record(path, &upper, file, &apart, &identity)
            })
            .map_err(failed)?;
        roots.push(Root {
            path: text(path)?,
            layer: roots.len(),
        });
        for step in steps.iter_mut() {
            if let Step::Keep { index, path: kept } = step
                && kept == path
            {
                *step = Step::Layer {
                    index: *index,
                    lower: path.clone(),
                    upper: upper.clone(),
                    work: work.clone(),
                };
            }
        }
    }
    // What the host changes from here on has another time than any that was recorded.
    let started = next_tick();
    let manifest = Manifest {
        overlay: 2,
        run: about.run,
        when: crate::audit::wall_text(u64::try_from(started.as_micros()).unwrap_or(0)),
        command: about.command,
        policy: &about.plan.name,
        roots,
        guards: guards(about)?,
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|error| failed(error.into()))?;
    fresh(&directory.join("manifest.json"))
        .and_then(|mut file| file.write_all(&bytes))
        .map_err(failed)?;
    Ok(Layers {
        directory,
        _lock: lock,
    })
}

/// The writable directories of the host in the view; its devices stay what they are.
fn writable(steps: &[Step], places: &[Place]) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for step in steps {
        let Step::Show {
            path,
            writable: true,
            ..
        } = step
        else {
            continue;
        };
        if path.starts_with("/dev") {
            continue;
        }
        if !places
            .iter()
            .any(|place| place.path == *path && place.directory)
        {
            return Err(format!(
                "--overlay: {} is a single file that may be written; grant its directory instead",
                path.display()
            ));
        }
        found.push(path.clone());
    }
    Ok(found)
}

/// What must not be taken over, whatever a layer says: the same names that the run may not change.
fn guards(about: &About) -> Result<Vec<Guarded>, String> {
    let files = &about.plan.filesystem;
    let mut found = Vec::new();
    for (field, rules) in [("deny", &files.deny), ("protect", &files.protect)] {
        for rule in rules {
            let segments: Vec<&str> = rule.pattern.split('/').collect();
            let glob = |segment: &&str| segment.contains(['*', '?', '[']);
            let literal = segments.iter().position(glob).unwrap_or(segments.len());
            let anchor = match segments[..literal].join("/") {
                empty if empty.is_empty() => "/".to_owned(),
                anchor => anchor,
            };
            let anchor = about
                .variables
                .path(&anchor)
                .map_err(|error| error.to_string())?;
            found.push(Guarded {
                anchor: text(&anchor)?,
                tail: segments[literal..].join("/"),
                why: format!(
                    "{field}: [{}] ({}:{})",
                    rule.pattern, rule.origin.file, rule.origin.line
                ),
            });
        }
    }
    for kept in about.kept {
        let anchor = text(Path::new(std::ffi::OsStr::from_bytes(kept.names.anchor())))?;
        if let Some(tail) = kept.names.tail_text() {
            found.push(Guarded {
                anchor,
                tail,
                why: kept.reason.clone(),
            });
        }
    }
    Ok(found)
}

fn text(path: &Path) -> Result<String, String> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| format!("--overlay: {} is not UTF-8", path.display()))
}

fn fresh(path: &Path) -> io::Result<File> {
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn private(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

/// A moment after every time a file has by now, and not after any that one gets from here on.
///
/// Files get the coarse clock's time, or, where somebody looked at the last one (Linux 6.13's multigrain timestamps),
/// the fine one's; so the coarse clock has to pass what the fine one says now.
fn next_tick() -> Duration {
    let read = |clock| {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the kernel writes one structure that outlives the call; these clocks always exist.
        unsafe { libc::clock_gettime(clock, &raw mut time) };
        Duration::new(
            time.tv_sec.unsigned_abs(),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    };
    let before = read(libc::CLOCK_REALTIME);
    loop {
        let now = read(libc::CLOCK_REALTIME_COARSE);
        if now > before {
            return now;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Guard, Pattern, parse};

    #[test]
    fn guards_are_the_names_a_run_may_not_change() {
        let plan = parse(include_bytes!(
            "../../../../tests/vectors/plan/good/full.json"
        ))
        .unwrap();
        let variables = Variables::new("/w[1]", Some("/home/u"), "/").unwrap();
        let kept = Kept {
            names: Pattern::beginning(b"/w/x*.log."),
            guard: Guard::Protected,
            reason: "companion".into(),
        };
        let about = About {
            run: "r-1",
            command: &[],
            plan: &plan,
            variables: &variables,
            kept: &[kept],
        };
        let found: Vec<(String, String)> = guards(&about)
            .unwrap()
            .into_iter()
            .map(|g| (g.anchor, g.tail))
            .collect();
        let pair = |anchor: &str, tail: &str| (anchor.to_owned(), tail.to_owned());
        assert_eq!(
            found,
            [
                pair("/w[1]", "**/.env*"),
                pair("/", "**/id_[a-z]?[!.]*"),
                pair("/w[1]/.git/hooks", ""),
                pair("/w", "x[*].log.*"),
            ]
        );
    }

    #[test]
    fn what_is_made_after_the_tick_is_not_older() {
        let here = tempfile::tempdir().unwrap();
        let modified = |name: &str| {
            std::fs::write(here.path().join(name), "x").unwrap();
            let time = here
                .path()
                .join(name)
                .metadata()
                .unwrap()
                .modified()
                .unwrap();
            time.duration_since(std::time::UNIX_EPOCH).unwrap()
        };
        for _ in 0..40 {
            let before = modified("before");
            let tick = next_tick();
            let after = modified("after");
            assert!(
                before < tick && tick <= after,
                "{before:?} {tick:?} {after:?}"
            );
        }
    }

    #[test]
    fn devices_stay_and_single_files_are_refused() {
        let show = |path: &str| Step::Show {
            index: 0,
            path: path.into(),
            writable: true,
            no_execute: false,
        };
        let place = |path: &str, directory| Place {
            path: path.into(),
            wanted: crate::sandbox::view::Use::Write,
            directory,
            exists: true,
            execution: crate::sandbox::view::Execution::Inherited,
        };
        let places = [
            place("/w", true),
            place("/f", false),
            place("/dev/null", false),
        ];
        assert_eq!(
            writable(&[show("/w"), show("/dev/null")], &places).unwrap(),
            [PathBuf::from("/w")]
        );
        assert!(
            writable(&[show("/f")], &places)
                .unwrap_err()
                .contains("single file")
        );
    }
}
