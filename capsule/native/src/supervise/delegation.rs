//! Where a control group of our own may be made, and why nowhere.
//!
//! Three places are looked for, in this order: the caller's group when its children may have controllers already (the
//! top of the hierarchy), the group above when that is ours, and the caller's group when nobody else is in it (then the
//! supervisor moves into a leaf of it for the time of the run, because a group with processes hands no controllers down).
//! Looks and changes nothing; where nothing is delegated that is a handful of system calls. It refuses a group
//! that systemd manages and has not given away.
//!
//! Kernel: `Documentation/admin-guide/cgroup-v2.rst`, "Delegation" and "No Internal Process Constraint".

use super::kernel_file;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// `CGROUP2_SUPER_MAGIC` of `linux/magic.h`.
const MAGIC: i64 = 0x6367_7270;
/// What a group must be able to bound.
const NEEDED: [&str; 2] = ["memory", "pids"];
const SYSTEMD: &str = "systemd-run --user --scope -p Delegate=yes capsule run …";

/// What one directory of the hierarchy says of itself.
#[derive(Clone, Debug, Default)]
struct Facts {
    /// Whether we may make groups and move processes in it, and it is for us to do so.
    ours: bool,
    /// The controllers it has.
    has: String,
    /// The controllers its children have.
    gives: String,
    /// Whether no process but this one is in it.
    lonely: bool,
}

/// Where in relation to the caller's group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// In the caller's group.
    Within,
    /// Beside the caller's group.
    Beside,
    /// In the caller's group, after moving out of it.
    Instead,
}

fn lacks(controllers: &str) -> Vec<&'static str> {
    let has = |name: &&str| controllers.split_ascii_whitespace().any(|one| one == *name);
    NEEDED.into_iter().filter(|name| !has(name)).collect()
}

/// Refuse controllers without those that are needed.
fn lacking(controllers: &str) -> Result<(), String> {
    let missing = lacks(controllers);
    if missing.is_empty() {
        return Ok(());
    }
    let has = match controllers.trim() {
        "" => "none",
        some => some,
    };
    let missing = missing.join(" and ");
    Err(format!(
        "the cgroup v2 here lacks the controllers {missing}; it has {has}"
    ))
}

fn decide(own: &Facts, above: &Facts) -> Result<Where, String> {
    if own.ours && lacks(&own.gives).is_empty() {
        return Ok(Where::Within);
    }
    if above.ours && lacks(&above.gives).is_empty() {
        return Ok(Where::Beside);
    }
    if !own.ours {
        return Err(format!(
            "no cgroup v2 is delegated to this process; run: {SYSTEMD}"
        ));
    }
    lacking(&own.has)?;
    if own.lonely {
        return Ok(Where::Instead);
    }
    Err(format!(
        "other processes share the delegated cgroup, so it can hand no controllers down; run: {SYSTEMD}"
    ))
}

/// The path of the caller's group in the hierarchy of version 2, from `/proc/self/cgroup`.
fn own_path(text: &str) -> Option<&str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    // Outside of what this process's namespace shows, or removed: nothing to divide.
    let usable = path.starts_with('/')
        && !path.split('/').any(|part| part == "..")
        && !path.ends_with(" (deleted)");
    usable.then_some(path)
}

/// Where version 2 is mounted beside version 1.
const BESIDE: &str = "/sys/fs/cgroup/unified";

fn hierarchy() -> Option<PathBuf> {
    ["/sys/fs/cgroup", BESIDE]
        .into_iter()
        .find(|place| {
            let Ok(path) = std::ffi::CString::new(*place) else {
                return false;
            };
            // SAFETY: all-zero is a valid structure to fill, the path a valid C string.
            unsafe {
                let mut found: libc::statfs = std::mem::zeroed();
                libc::statfs(path.as_ptr(), &raw mut found) == 0 && found.f_type as i64 == MAGIC
            }
        })
        .map(PathBuf::from)
}

fn writable(path: &Path) -> bool {
    std::ffi::CString::new(path.as_os_str().as_bytes()).is_ok_and(|path| {
        // SAFETY: a valid C string.
        unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::W_OK, libc::AT_EACCESS) == 0 }
    })
}

/// Root may write everywhere; where systemd manages the hierarchy it says by an attribute what it has given away.
fn given_away(path: &Path) -> bool {
    // SAFETY: takes nothing, cannot fail.
    if unsafe { libc::geteuid() } != 0 || !Path::new("/run/systemd/system").exists() {
        return true;
    }
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    [c"trusted.delegate", c"user.delegate"]
        .into_iter()
        .any(|name| {
            let mut value = [0u8; 8];
            // SAFETY: valid C strings, and a place of the length given.
            let length = unsafe {
                libc::getxattr(
                    path.as_ptr(),
                    name.as_ptr(),
                    value.as_mut_ptr().cast(),
                    value.len(),
                )
            };
            length == 1 && value[0] == b'1'
        })
}

fn facts(path: &Path) -> Facts {
    if !(writable(&path.join("cgroup.procs")) && writable(path) && given_away(path)) {
        return Facts::default();
    }
    let read = |name: &str| kernel_file::read(&path.join(name)).unwrap_or_default();
    let has = read("cgroup.controllers");
    let us = std::process::id().to_string();
    Facts {
        ours: true,
        gives: if has.trim().is_empty() {
            String::new()
        } else {
            read("cgroup.subtree_control")
        },
        lonely: lacks(&has).is_empty()
            && kernel_file::read(&path.join("cgroup.procs"))
                .is_ok_and(|text| text.lines().all(|line| line == us)),
        has,
    }
}

/// The group to make ours in, and how.
///
/// # Errors
/// Why there is none: a sentence with the next step.
pub fn find() -> Result<(PathBuf, Where), String> {
    let none = || "no cgroup v2 is mounted for this process".to_owned();
    let top = hierarchy().ok_or_else(none)?;
    if top == Path::new(BESIDE) {
        // Beside version 1, which has most controllers then, nothing more need be looked at.
        let has = kernel_file::read(&top.join("cgroup.controllers")).unwrap_or_default();
        lacking(&has)?;
    }
    let text = kernel_file::read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let path = own_path(&text).ok_or_else(none)?;
    let own = top.join(path.trim_start_matches('/'));
    let above = own.parent().filter(|_| own != top).map(Path::to_owned);
    let theirs = above.as_deref().map(facts).unwrap_or_default();
    match (decide(&facts(&own), &theirs)?, above) {
        (Where::Beside, Some(above)) => Ok((above, Where::Beside)),
        (place, _) => Ok((own, place)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(has: &str, gives: &str, lonely: bool) -> Facts {
        Facts {
            ours: true,
            has: has.into(),
            gives: gives.into(),
            lonely,
        }
    }

    #[test]
    fn the_place_is_the_first_that_hands_controllers_down() {
        let none = Facts::default();
        let full = "cpuset cpu io memory pids\n";
        assert_eq!(decide(&facts(full, full, false), &none), Ok(Where::Within));
        assert_eq!(
            decide(&facts(full, "", false), &facts(full, full, false)),
            Ok(Where::Beside)
        );
        assert_eq!(decide(&none, &facts(full, full, false)), Ok(Where::Beside));
        assert_eq!(decide(&facts(full, "", true), &none), Ok(Where::Instead));
        // A neighbour that is ours but hands nothing down does not help.
        assert_eq!(
            decide(&facts(full, "", true), &facts(full, "cpu", false)),
            Ok(Where::Instead)
        );
    }

    #[test]
    fn why_there_is_none_names_what_is_missing() {
        let none = Facts::default();
        let why = |own: &Facts| decide(own, &none).unwrap_err();
        assert!(why(&none).contains("systemd-run --user --scope -p Delegate=yes"));
        assert!(
            why(&facts("", "", true))
                .ends_with("lacks the controllers memory and pids; it has none")
        );
        assert!(
            why(&facts("cpu memory\n", "", true))
                .contains("lacks the controllers pids; it has cpu memory")
        );
        assert!(why(&facts("memory pids", "", false)).contains("other processes"));
        // A controller's name is a whole word.
        assert!(why(&facts("memory_v9 pids", "", true)).contains("memory"));
    }

    #[test]
    fn the_caller_s_group_is_the_unnamed_hierarchy_s() {
        assert_eq!(
            own_path("3:cpu:/x\n0::/user.slice/a\n"),
            Some("/user.slice/a")
        );
        assert_eq!(own_path("3:cpu:/x\n"), None);
        assert_eq!(own_path("0::/../elsewhere\n"), None);
        assert_eq!(own_path("0::/gone (deleted)\n"), None);
    }
}
