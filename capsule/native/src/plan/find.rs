//! Which policy a run is under, and the three directories its paths begin in.
//!
//! The value of `--policy` is a file when it has a `/` in it or ends in `.yaml` or `.yml`, else a preset's name: what
//! it means never depends on which files happen to exist. Without it, `capsule.yaml` is looked for from the working
//! directory upward to the repository (a directory with `.git`), the home directory or the root; else the preset
//! `workspace`. It refuses a working directory that is gone.

use super::load::LoadError;
use super::variables::Variables;
use crate::log_terminal::shown;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The name that is looked for.
pub const FILE: &str = "capsule.yaml";
/// The preset when no file is found.
pub const DEFAULT: &str = "workspace";

/// A policy that was asked for or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chosen {
    /// A file: absolute, links resolved but for its own name. Its directory is the workspace, also where that name is a
    /// link to a file kept elsewhere.
    File(PathBuf),
    /// A preset, by name.
    Preset(String),
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::File(path) => f.write_str(&shown(path)),
            Self::Preset(name) => write!(f, "preset:{name}"),
        }
    }
}

/// The policy of a run in `cwd` (absolute, resolved).
pub fn choose(asked: Option<&OsStr>, cwd: &Path, home: Option<&Path>) -> Result<Chosen, LoadError> {
    let Some(asked) = asked else {
        return upward(cwd, home);
    };
    let bytes = asked.as_bytes();
    if bytes.contains(&b'/') || bytes.ends_with(b".yaml") || bytes.ends_with(b".yml") {
        return placed(&cwd.join(asked)).map(Chosen::File);
    }
    let name = asked.to_str().filter(|n| {
        !n.is_empty()
            && n.len() <= 64
            && n.bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    });
    name.map(|n| Chosen::Preset(n.to_owned()))
        .ok_or_else(|| LoadError::NotAPolicy(asked.to_owned()))
}

fn upward(cwd: &Path, home: Option<&Path>) -> Result<Chosen, LoadError> {
    for directory in cwd.ancestors() {
        let file = directory.join(FILE);
        match file.symlink_metadata() {
            Ok(_) => return placed(&file).map(Chosen::File),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A policy that may be there must not be passed over for a weaker one further up.
            Err(error) => return Err(LoadError::File(file, error)),
        }
        if Some(directory) == home || directory.join(".git").symlink_metadata().is_ok() {
            break;
        }
    }
    Ok(Chosen::Preset(DEFAULT.to_owned()))
}

/// The name as it stands in its real directory; an error where it leads to nothing.
fn placed(path: &Path) -> Result<PathBuf, LoadError> {
    let failed = |error| LoadError::File(path.to_owned(), error);
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return path.canonicalize().map_err(failed);
    };
    let place = directory.canonicalize().map_err(failed)?.join(name);
    place.metadata().map_err(failed)?;
    Ok(place)
}

/// Directories that hold others' work or the system's, but may have a workspace beneath them.
const ABOVE: [&str; 13] = [
    "/",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/root",
    "/run",
    "/srv",
    // What programs of the host run and talk through lies here, of everybody.
    "/tmp",
    "/usr",
    "/usr/local",
    "/var",
    "/var/tmp",
];
/// Directories of the system, with all beneath them.
const SYSTEM: [&str; 18] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/proc",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/usr/include",
    "/usr/lib",
    "/usr/libexec",
    "/usr/sbin",
    "/usr/share",
    "/var/spool",
];

/// What a directory is that nobody means as a workspace unless they say so.
pub fn no_workspace(cwd: &Path, home: Option<&Path>) -> Option<&'static str> {
    if home == Some(cwd) {
        return Some("your home directory");
    }
    if home.is_some_and(|home| home.starts_with(cwd)) {
        return Some("above your home directory");
    }
    let system = ABOVE.iter().any(|name| cwd == Path::new(name))
        || SYSTEM.iter().any(|name| cwd.starts_with(name)) && !cwd.starts_with("/dev/shm/");
    system.then_some("a directory of the system")
}

/// The working directory, links resolved.
pub fn working_directory() -> Result<PathBuf, LoadError> {
    std::env::current_dir()
        .and_then(|cwd| cwd.canonicalize())
        .map_err(LoadError::Nowhere)
}

/// The home directory, links resolved: `HOME`, else what `/etc/passwd` says of this user.
pub fn home_directory() -> Option<PathBuf> {
    let named = std::env::var_os("HOME")
        .map(PathBuf::from)
        .filter(|home| home.is_absolute());
    let home = named.or_else(|| {
        // SAFETY: getuid cannot fail and touches no memory.
        let uid = unsafe { libc::getuid() };
        passwd_home(&std::fs::read("/etc/passwd").ok()?, uid)
    })?;
    Some(home.canonicalize().unwrap_or(home))
}

fn passwd_home(table: &[u8], uid: u32) -> Option<PathBuf> {
    let uid = uid.to_string();
    table.split(|&b| b == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&b| b == b':').collect();
        let home = fields
            .get(5)
            .filter(|_| fields.get(2) == Some(&uid.as_bytes()))?;
        home.starts_with(b"/")
            .then(|| PathBuf::from(OsStr::from_bytes(home)))
    })
}

/// The three directories: the workspace is where the policy file lies, or the working directory under a preset.
pub fn variables(chosen: &Chosen, cwd: &Path, home: Option<&Path>) -> Result<Variables, LoadError> {
    let workspace = match chosen {
        Chosen::File(path) => path.parent().unwrap_or(Path::new("/")),
        Chosen::Preset(_) => cwd,
    };
    Variables::new(workspace, home, cwd).map_err(LoadError::Variables)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_name_is_a_preset_and_a_path_is_a_file() {
        let here = tempfile::tempdir().unwrap();
        let root = here.path().canonicalize().unwrap();
        fs::write(root.join("git"), "").unwrap();
        fs::write(root.join("p.yaml"), "").unwrap();
        let choose = |text: &str| choose(Some(OsStr::new(text)), &root, None);
        assert_eq!(choose("git").unwrap(), Chosen::Preset("git".into()));
        assert_eq!(choose("./git").unwrap(), Chosen::File(root.join("git")));
        assert_eq!(choose("p.yaml").unwrap(), Chosen::File(root.join("p.yaml")));
        assert!(matches!(choose("missing.yml"), Err(LoadError::File(_, _))));
        for bad in ["", "a b", "-\u{1b}[2J", "é"] {
            assert!(
                matches!(choose(bad), Err(LoadError::NotAPolicy(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn the_search_goes_up_to_the_repository_or_home() {
        let here = tempfile::tempdir().unwrap();
        let root = here.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("repo/.git")).unwrap();
        fs::create_dir_all(root.join("repo/a/b")).unwrap();
        fs::write(root.join(FILE), "").unwrap();
        let from = |path: &str, home: Option<&str>| {
            choose(
                None,
                &root.join(path),
                home.map(|h| root.join(h)).as_deref(),
            )
        };
        assert_eq!(
            from("repo/a/b", None).unwrap(),
            Chosen::Preset("workspace".into())
        );
        fs::write(root.join("repo").join(FILE), "").unwrap();
        assert_eq!(
            from("repo/a/b", None).unwrap(),
            Chosen::File(root.join("repo/capsule.yaml"))
        );
        assert_eq!(
            from("repo/a/b", Some("repo/a")).unwrap(),
            Chosen::Preset("workspace".into())
        );
        // The workspace is where the name stands, not where a link leads.
        std::os::unix::fs::symlink("../../capsule.yaml", root.join("repo/a").join(FILE)).unwrap();
        let linked = from("repo/a/b", None).unwrap();
        assert_eq!(linked, Chosen::File(root.join("repo/a/capsule.yaml")));
        let places = variables(&linked, &root, Some(&root)).unwrap();
        assert_eq!(places.workspace(), root.join("repo/a"));
        fs::remove_file(root.join("repo/a").join(FILE)).unwrap();
        // A dangling link is a policy that cannot be read, not an absent one.
        std::os::unix::fs::symlink("nowhere", root.join("repo/a").join(FILE)).unwrap();
        assert!(matches!(from("repo/a/b", None), Err(LoadError::File(_, _))));
    }

    #[test]
    fn home_and_the_systems_directories_are_no_workspaces() {
        let what = |cwd: &str| no_workspace(Path::new(cwd), Some(Path::new("/home/u")));
        assert_eq!(what("/home/u"), Some("your home directory"));
        for above in ["/", "/home"] {
            assert_eq!(what(above), Some("above your home directory"));
        }
        for system in [
            "/etc",
            "/etc/cron.d",
            "/usr",
            "/usr/bin",
            "/root",
            "/var",
            "/tmp",
            "/var/tmp",
        ] {
            assert_eq!(what(system), Some("a directory of the system"), "{system}");
        }
        for fine in [
            "/home/u/p",
            "/tmp/x",
            "/var/tmp/x",
            "/usr/src/app",
            "/var/www/p",
            "/root/p",
            "/etcetera",
        ] {
            assert_eq!(what(fine), None, "{fine}");
        }
    }

    #[test]
    fn the_password_file_knows_the_home() {
        let table = b"root:x:0:0:root:/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\nbad:x:7\nrel:x:8:8::home:";
        assert_eq!(passwd_home(table, 1000).unwrap(), Path::new("/home/u"));
        assert_eq!(passwd_home(table, 7), None);
        assert_eq!(passwd_home(table, 8), None);
    }
}
