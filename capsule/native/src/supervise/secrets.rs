//! Files of the system that only root may read, when root runs the command.
//!
//! In the sandbox root is still the owner of `/etc/shadow`, and a policy that lets `/etc` be read would hand it over. So
//! these few are denied and covered one by one with a file nobody may open, which costs nothing where the user is not
//! root. A grant of a file by its very path gives it back. What it does not hold up: the host replacing such a file by
//! rename while the command runs takes the cover off (a cover belongs to one inode); see `SECURITY.md`.

use crate::plan::{Guard, Kept, Pattern};
use crate::sandbox::view::{Place, Step, Use};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Password hashes, who may become root, and the copies that the tools which change them leave.
const FILES: [&str; 9] = [
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/security/opasswd",
    "/etc/krb5.keytab",
    "/etc/ppp/chap-secrets",
    "/etc/ppp/pap-secrets",
];
/// Directories of the host's keys: in them every file that others may not read.
const DIRECTORIES: [&str; 3] = ["/etc/ssh", "/etc/ssl/private", "/etc/sudoers.d"];

/// Those of them that exist and that the view would show to root; none for anybody else.
#[must_use]
pub fn of_root(places: &[Place]) -> Vec<PathBuf> {
    // SAFETY: takes nothing, cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return Vec::new();
    }
    let found = DIRECTORIES.into_iter().flat_map(|directory| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path())
    });
    let named = FILES.into_iter().map(PathBuf::from);
    named
        .chain(found)
        .filter(|path| secret(path) && shown(path, places))
        .collect()
}

/// A file, itself and not a link, that others may not read.
fn secret(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|found| found.is_file() && found.mode() & 0o004 == 0)
}

/// Whether it lies in what may be read, and is not granted by its own name.
fn shown(path: &Path, places: &[Place]) -> bool {
    let over = places.iter().filter(|place| path.starts_with(&place.path));
    over.max_by_key(|place| place.path.as_os_str().len())
        .is_some_and(|place| matches!(place.wanted, Use::Read | Use::Write) && place.path != path)
}

/// The name, kept; `covered` where there is a view to cover it.
#[must_use]
pub fn kept(path: &Path, covered: bool) -> Kept {
    Kept {
        names: Pattern::literal(path.as_os_str().as_bytes()),
        guard: if covered {
            Guard::Masked
        } else {
            Guard::Denied
        },
        reason: "only root can read it on this host; a grant of this very path gives it back"
            .to_owned(),
    }
}

/// Cover them once everything else stands, and before anything is sealed.
pub fn mask(steps: &mut Vec<Step>, secrets: Vec<PathBuf>) {
    let sealed = steps
        .iter()
        .position(|step| matches!(step, Step::Seal { .. }))
        .unwrap_or(steps.len());
    let masks = secrets.into_iter().map(|path| Step::Mask { path });
    steps.splice(sealed..sealed, masks);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::view::Execution;
    use std::os::unix::fs::PermissionsExt;

    fn place(path: &str, wanted: Use) -> Place {
        Place {
            path: path.into(),
            wanted,
            directory: true,
            exists: true,
            execution: Execution::Inherited,
        }
    }

    #[test]
    fn a_grant_by_the_very_path_gives_it_back() {
        let etc = place("/etc", Use::Read);
        let path = Path::new("/etc/shadow");
        assert!(shown(path, std::slice::from_ref(&etc)));
        assert!(!shown(path, &[place("/usr", Use::Read)]));
        assert!(!shown(path, &[etc, place("/etc/shadow", Use::Read)]));
        let hidden = [place("/", Use::Read), place("/etc", Use::Hide)];
        assert!(!shown(path, &hidden));
    }

    #[test]
    fn only_files_that_others_may_not_read_are_secrets() {
        let here = tempfile::tempdir().unwrap();
        let file = here.path().join("key");
        fs::write(&file, "x").unwrap();
        for (mode, expected) in [(0o600, true), (0o640, true), (0o644, false)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(secret(&file), expected);
        }
        assert!(!secret(here.path()));
    }

    #[test]
    fn masks_come_before_the_seals() {
        let mut steps = vec![Step::Freeze, Step::Seal { path: "/a".into() }];
        mask(&mut steps, vec!["/etc/shadow".into()]);
        assert!(matches!(steps[1], Step::Mask { .. }) && matches!(steps[2], Step::Seal { .. }));
    }
}
