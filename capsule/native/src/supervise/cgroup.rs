//! A control group (cgroup v2) of the run's own, where one can be made: bounds the kernel keeps, and one word that ends all in it.
//!
//! It refuses to guess: a file that cannot be written makes the layer unavailable, with the file's name. It moves no
//! process but this one. What supervisors that were killed left behind, the next run removes.
//!
//! Kernel: `Documentation/admin-guide/cgroup-v2.rst`.

use super::delegation::{self, Where};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How the names of our groups begin.
const PREFIX: &str = "capsule-r-";
/// Where the supervisor goes when it has to leave its group.
const LEAF: &str = "capsule-supervisor";
/// Processes and threads beside the command's: the monitor, and its threads at most.
const MONITOR: u64 = 1 + 64;
/// How long the kernel may take to let go of the dead.
const EMPTY: Duration = Duration::from_secs(2);

fn put(directory: &Path, name: &str, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(directory.join(name))?
        .write_all(text.as_bytes())
}

fn told<'a>(directory: &'a Path, name: &'a str) -> impl Fn(io::Error) -> String + 'a {
    move |error| format!("{}: {error}", directory.join(name).display())
}

/// This process, moved out of its group for the time of a run.
#[derive(Debug)]
struct Moved {
    from: PathBuf,
}

impl Moved {
    fn out_of(from: &Path) -> Result<Moved, String> {
        let leaf = from.join(LEAF);
        match fs::create_dir(&leaf) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(told(from, LEAF)(error));
            }
            _ => {}
        }
        let moved = Moved {
            from: from.to_owned(),
        };
        put(&leaf, "cgroup.procs", "0").map_err(told(&leaf, "cgroup.procs"))?;
        put(from, "cgroup.subtree_control", "+memory +pids")
            .map_err(told(from, "cgroup.subtree_control"))?;
        Ok(moved)
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        // Whoever else is there by now keeps what it needs: then these fail, and that is right.
        let _ = put(&self.from, "cgroup.subtree_control", "-memory -pids");
        let _ = put(&self.from, "cgroup.procs", "0");
        let _ = fs::remove_dir(self.from.join(LEAF));
    }
}

/// Bounds the kernel keeps; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Bytes.
    pub memory: Option<u64>,
    /// Processes and threads of the command.
    pub processes: Option<u64>,
}

/// The group of one run. Dropping it ends what is left in it and removes it.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    directory: OwnedFd,
    _moved: Option<Moved>,
}

impl Group {
    /// Make one. `name` is the run's, unique on this host.
    ///
    /// # Errors
    /// Why there is none: a sentence with the next step. Nothing is left behind.
    pub fn make(name: &str) -> Result<Group, String> {
        let (parent, place) = delegation::find()?;
        let moved = match place {
            Where::Within | Where::Beside => None,
            Where::Instead => Some(Moved::out_of(&parent)?),
        };
        sweep(&parent);
        make_in(&parent, name, moved)
    }

    /// Set its bounds.
    ///
    /// # Errors
    /// Why it has none: a group to do without.
    pub fn bound(&self, bounds: Bounds) -> Result<(), String> {
        let set = |name: &str, value: Option<u64>| match value {
            Some(value) => {
                put(&self.path, name, &value.to_string()).map_err(told(&self.path, name))
            }
            None => Ok(()),
        };
        set("memory.max", bounds.memory)?;
        if bounds.memory.is_some() {
            // Memory on disk is memory. A kernel without swap has no such file.
            match put(&self.path, "memory.swap.max", "0") {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(told(&self.path, "memory.swap.max")(error));
                }
                _ => {}
            }
        }
        // All or nothing: a run that lost some of its processes has no meaningful end.
        set("memory.oom.group", Some(1))?;
        set(
            "pids.max",
            bounds.processes.map(|most| most.saturating_add(MONITOR)),
        )
    }

    /// For `CLONE_INTO_CGROUP`.
    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// End everything in it at once (`cgroup.kill`, Linux 5.14; on an older kernel the process namespace does it).
    pub fn kill(&self) {
        let _ = put(&self.path, "cgroup.kill", "1");
    }

    /// Whether the kernel ended the run because its memory was used up.
    #[must_use]
    pub fn ran_out_of_memory(&self) -> bool {
        fs::read_to_string(self.path.join("memory.events")).is_ok_and(|text| out_of_memory(&text))
    }
}

/// From `memory.events`: the group's own bound was reached, and something was killed.
fn out_of_memory(events: &str) -> bool {
    let count = |name: &str| {
        let line = events
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|number| number.parse::<u64>().ok())
            .unwrap_or(0)
    };
    count("oom") > 0 && count("oom_kill") > 0
}

impl Drop for Group {
    fn drop(&mut self) {
        let until = Instant::now() + EMPTY;
        while fs::remove_dir(&self.path)
            .is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY))
        {
            // Only stragglers of a run without a process namespace, or the dead that are not yet let go of.
            self.kill();
            if Instant::now() > until {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn lock(directory: &OwnedFd) -> bool {
    // SAFETY: plain integers.
    unsafe { libc::flock(directory.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW);
    options.open(path).map(OwnedFd::from)
}

fn make_in(parent: &Path, name: &str, moved: Option<Moved>) -> Result<Group, String> {
    let name = name.strip_prefix("r-").unwrap_or(name);
    let path = parent.join(format!("{PREFIX}{name}"));
    fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let made = open(&path).map_err(|error| format!("{}: {error}", path.display()));
    let group = made.map(|directory| Group {
        path: path.clone(),
        directory,
        _moved: moved,
    });
    match group {
        // Held as long as the run: a group that nobody holds is swept away by the next run.
        Ok(group) if lock(&group.directory) && path.exists() => Ok(group),
        Ok(_) => Err(format!("{}: another run is using it", path.display())),
        Err(why) => {
            let _ = fs::remove_dir(&path);
            Err(why)
        }
    }
}

/// Remove what supervisors that were killed left behind: empty groups of ours that nobody holds.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().as_bytes().starts_with(PREFIX.as_bytes())
            && open(&entry.path()).is_ok_and(|directory| lock(&directory))
        {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_group_s_own_bound_counts_as_out_of_memory() {
        assert!(out_of_memory(
            "low 0\nhigh 0\nmax 9\noom 1\noom_kill 2\noom_group_kill 1\n"
        ));
        assert!(!out_of_memory("max 9\noom 0\noom_kill 2\n"));
        assert!(!out_of_memory("max 9\noom 1\noom_kill 0\n"));
        assert!(!out_of_memory(""));
    }
}
