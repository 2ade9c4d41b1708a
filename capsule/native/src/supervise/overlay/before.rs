//! What a layer's directory held when the run began, so that a review knows what the host did meanwhile.
//!
//! One record a name beneath it, ended by a zero byte: `KIND INODE CTIME LAID PATH`, with the kind as a letter (`d`,
//! `f`, `l`, `s` for anything else), nanoseconds, and the mode that was laid into the layer in octal or `-`.
//!
//! What belongs to an owner or a group that the sandbox's user namespace does not know cannot be copied up
//! (`EOVERFLOW`); so it is laid into the layer before the run, as ours, with what its mode lets us do and no more.
//! What this refuses: more than two million names.
//!
//! ```text
//! f 1311 1764108000123456789 - src/a.py
//! ```

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, FileTimes, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

const MOST: usize = 2_000_000;

/// Who runs.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The user, known inside.
    pub user: u32,
    /// The group, known inside.
    pub group: u32,
    /// All groups.
    pub groups: Vec<u32>,
}

impl Identity {
    /// This process's.
    #[must_use]
    pub fn own() -> Self {
        // SAFETY: plain integers; nothing is written when no room is given.
        let (user, group, count) = unsafe {
            (
                libc::geteuid(),
                libc::getegid(),
                libc::getgroups(0, std::ptr::null_mut()),
            )
        };
        let mut groups = vec![0; usize::try_from(count).unwrap_or(0)];
        // SAFETY: room for `count` groups.
        let got = unsafe { libc::getgroups(count, groups.as_mut_ptr()) };
        groups.truncate(usize::try_from(got).unwrap_or(0));
        groups.push(group);
        Self {
            user,
            group,
            groups,
        }
    }

    fn known(&self, found: &Metadata) -> bool {
        (found.uid(), found.gid()) == (self.user, self.group)
    }

    /// What its mode lets us do, as in one octal digit. A privilege over files of unknown owners there is not.
    fn may(&self, found: &Metadata) -> u32 {
        let mode = found.mode();
        if found.uid() == self.user {
            mode >> 6 & 7
        } else if self.groups.contains(&found.gid()) {
            mode >> 3 & 7
        } else {
            mode & 7
        }
    }
}

/// Record the names beneath `lower` in `file`, and lay into `upper` what could not be copied up; not beneath `apart`,
/// which have layers of their own.
///
/// # Errors
/// As the file system says, and too many names.
pub fn record(
    lower: &Path,
    upper: &Path,
    file: File,
    apart: &HashSet<PathBuf>,
    identity: &Identity,
) -> io::Result<()> {
    let mut recorder = Recorder {
        lower,
        upper,
        file: io::BufWriter::new(file),
        apart,
        identity,
        names: 0,
        made: Vec::new(),
    };
    let writable = identity.may(&lower.metadata()?) & 2 != 0;
    recorder.walk(Path::new(""), writable)?;
    recorder.file.flush()?;
    // The deepest first: filling a directory changes its times, and it may be one that is not written any more.
    for (name, mode, found) in recorder.made.iter().rev() {
        let made = File::open(upper.join(name))?;
        made.set_times(
            FileTimes::new()
                .set_accessed(found.accessed()?)
                .set_modified(found.modified()?),
        )?;
        made.set_permissions(Permissions::from_mode(*mode))?;
    }
    Ok(())
}

struct Recorder<'a> {
    lower: &'a Path,
    upper: &'a Path,
    file: io::BufWriter<File>,
    apart: &'a HashSet<PathBuf>,
    identity: &'a Identity,
    names: usize,
    made: Vec<(PathBuf, u32, Metadata)>,
}

impl Recorder<'_> {
    fn walk(&mut self, directory: &Path, writable: bool) -> io::Result<()> {
        let entries = match fs::read_dir(self.lower.join(directory)) {
            Ok(entries) => entries,
            // What we may not list the command may not list either; what is gone now it will not see.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let found = match entry.metadata() {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            self.names += 1;
            if self.names > MOST {
                return Err(io::Error::other(format!(
                    "{} holds more than {MOST} names: let less be written",
                    self.lower.display()
                )));
            }
            let name = directory.join(entry.file_name());
            let apart = self.apart.contains(&self.lower.join(&name));
            let laid = if apart || self.identity.known(&found) {
                None
            } else {
                self.lay(&name, &found, writable)?
            };
            self.write(&name, &found, laid)?;
            if found.is_dir() && !apart {
                let writable = self.identity.may(&found) & 2 != 0;
                self.walk(&name, writable)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, name: &Path, found: &Metadata, laid: Option<u32>) -> io::Result<()> {
        let kind = match found.file_type() {
            kind if kind.is_dir() => 'd',
            kind if kind.is_file() => 'f',
            kind if kind.is_symlink() => 'l',
            _ => 's',
        };
        let changed = i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec());
        let laid = laid.map_or_else(|| "-".to_owned(), |mode| format!("{mode:o}"));
        write!(self.file, "{kind} {} {changed} {laid} ", found.ino())?;
        self.file.write_all(name.as_os_str().as_bytes())?;
        self.file.write_all(b"\0")
    }

    /// Lay one name of an unknown owner into the layer, where the command could change or move it; its mode there.
    fn lay(&mut self, name: &Path, found: &Metadata, writable: bool) -> io::Result<Option<u32>> {
        let (may, at) = (self.identity.may(found), self.upper.join(name));
        let mode = may << 6 | found.mode() & 0o1077;
        let kind = found.file_type();
        if kind.is_dir() {
            self.make(name)?;
            return Ok(Some(mode));
        }
        if kind.is_symlink() && writable {
            self.make_parent(name)?;
            symlink(fs::read_link(self.lower.join(name))?, at)?;
            return Ok(None);
        }
        if kind.is_file() && may & 4 != 0 && (writable || may & 2 != 0) {
            self.make_parent(name)?;
            fs::copy(self.lower.join(name), at)?;
            self.made
                .push((name.to_owned(), mode & 0o777, found.clone()));
            return Ok(Some(mode & 0o777));
        }
        Ok(None)
    }

    fn make_parent(&mut self, name: &Path) -> io::Result<()> {
        name.parent().map_or(Ok(()), |parent| self.make(parent))
    }

    /// A directory and those above it in the layer.
    fn make(&mut self, name: &Path) -> io::Result<()> {
        let at = self.upper.join(name);
        if name.as_os_str().is_empty() || at.is_dir() {
            return Ok(());
        }
        self.make_parent(name)?;
        DirBuilder::new().mode(0o700).create(at)?;
        let found = fs::symlink_metadata(self.lower.join(name))?;
        let mode = if self.identity.known(&found) {
            found.mode() & 0o7777
        } else {
            self.identity.may(&found) << 6 | found.mode() & 0o1077
        };
        self.made.push((name.to_owned(), mode, found));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn recorded(lower: &Path, upper: &Path, identity: &Identity, apart: &[&str]) -> Vec<String> {
        let at = upper.parent().unwrap().join("before");
        let apart = apart.iter().map(|name| lower.join(name)).collect();
        record(lower, upper, File::create(&at).unwrap(), &apart, identity).unwrap();
        let bytes = fs::read(at).unwrap();
        let mut lines: Vec<String> = bytes
            .split(|&b| b == 0)
            .filter(|line| !line.is_empty())
            .map(|line| {
                let text = String::from_utf8(line.to_vec()).unwrap();
                let parts: Vec<&str> = text.splitn(5, ' ').collect();
                assert!(parts[1].parse::<u64>().unwrap() > 0 && parts[2].len() > 15);
                format!("{} {} {}", parts[0], parts[3], parts[4])
            })
            .collect();
        lines.sort();
        lines
    }

    fn made() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let here = tempfile::tempdir().unwrap();
        let (lower, upper) = (here.path().join("lower"), here.path().join("upper"));
        fs::create_dir_all(lower.join("d/apart")).unwrap();
        fs::create_dir(&upper).unwrap();
        fs::write(lower.join("d/a b"), "x").unwrap();
        fs::write(lower.join("d/apart/unseen"), "x").unwrap();
        symlink("a b", lower.join("d/l")).unwrap();
        (here, lower, upper)
    }

    #[test]
    fn every_name_is_recorded_and_nothing_is_laid_for_ones_own() {
        let (_here, lower, upper) = made();
        let lines = recorded(&lower, &upper, &Identity::own(), &["d/apart"]);
        assert_eq!(lines, ["d - d", "d - d/apart", "f - d/a b", "l - d/l"]);
        assert_eq!(fs::read_dir(upper).unwrap().count(), 0);
    }

    #[test]
    fn what_belongs_to_others_is_laid_with_what_we_may_do() {
        let (_here, lower, upper) = made();
        fs::set_permissions(lower.join("d"), Permissions::from_mode(0o757)).unwrap();
        fs::set_permissions(lower.join("d/a b"), Permissions::from_mode(0o646)).unwrap();
        fs::write(lower.join("d/secret"), "x").unwrap();
        fs::set_permissions(lower.join("d/secret"), Permissions::from_mode(0o640)).unwrap();
        // As somebody else to whom nothing here belongs.
        let other = Identity {
            user: 4_000_000,
            group: 4_000_000,
            groups: vec![],
        };
        let lines = recorded(&lower, &upper, &other, &["d/apart"]);
        assert_eq!(
            lines,
            [
                "d - d/apart",
                "d 757 d",
                "f - d/secret",
                "f 646 d/a b",
                "l - d/l"
            ]
        );
        assert_eq!(fs::read(upper.join("d/a b")).unwrap(), b"x");
        let time =
            |root: &Path, name: &str| root.join(name).metadata().unwrap().modified().unwrap();
        for name in ["d", "d/a b"] {
            assert_eq!(time(&lower, name), time(&upper, name));
        }
        assert!(!upper.join("d/secret").exists());
        fs::remove_dir_all(&upper).unwrap();
        fs::create_dir(&upper).unwrap();
        // Owned by us, of a group that is not known inside.
        let me = Identity::own();
        let elsewhere = Identity {
            group: 4_000_000,
            groups: vec![4_000_000],
            ..me
        };
        fs::set_permissions(lower.join("d"), Permissions::from_mode(0o555)).unwrap();
        fs::set_permissions(lower.join("d/a b"), Permissions::from_mode(0o444)).unwrap();
        let lines = recorded(&lower, &upper, &elsewhere, &["d/apart"]);
        assert_eq!(lines[1], "d 555 d");
        assert!(
            !upper.join("d/a b").exists(),
            "it can be neither written nor moved"
        );
    }
}
