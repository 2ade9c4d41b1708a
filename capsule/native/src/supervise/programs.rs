//! Where a policy names programs: those may be executed, nothing else may, also not by way of a loader.
//!
//! Landlock lets the kernel execute the named files (and the loader they ask for) alone. A loader that is told to run
//! another file only maps it, which Landlock does not see: so directories of programs and everything writable are
//! mounted without execution, and the named files are shown on top. What remains: files in library directories can
//! still be mapped, because libraries must be. It refuses programs whose digest is another than the policy says, and
//! digests for files that the command could replace.

use super::places::{Granted, PlaceError, Places, of};
use crate::plan::{Grant, Program, Variables};
use crate::sandbox::view::{Execution, Place, Use};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Names of directories that hold programs.
const OF_PROGRAMS: [&str; 4] = ["bin", "sbin", "libexec", "games"];

/// Let only `list` be executed.
///
/// # Errors
/// See [`PlaceError`].
pub fn only(
    list: &[Program],
    execute: &[Grant],
    variables: &Variables,
    places: &mut Places,
    rights: &mut Granted,
) -> Result<(), PlaceError> {
    for place in &mut places.view {
        if matches!(place.wanted, Use::Write | Use::Private) {
            place.execution = Execution::Never;
        }
    }
    let mut closed = Vec::new();
    for grant in execute {
        let path = variables.path(&grant.path).map_err(PlaceError::Variable)?;
        let root = places.follow(&path)?.path;
        for directory in directories(&root) {
            let found = places.follow(&directory)?;
            if found.exists && found.directory && places.shows(&found.path) {
                let wanted = places.around(&found.path);
                closed.push(Place {
                    wanted,
                    execution: Execution::Never,
                    ..found
                });
            }
        }
    }
    places.view.append(&mut closed);
    for program in list {
        let path = variables
            .path(&program.path)
            .map_err(PlaceError::Variable)?;
        let found = places.follow(&path)?;
        if !found.exists {
            // It cannot be executed; the run may never try.
            continue;
        }
        let wanted = match places.around(&found.path) {
            Use::Write => Use::Write,
            _ => Use::Read,
        };
        if program.digest.is_some() && wanted == Use::Write {
            return Err(PlaceError::Replaceable(
                Box::new(program.clone()),
                found.path,
            ));
        }
        let given = of(rights, &found.path);
        (given.read, given.execute) = (true, true);
        if !found.directory {
            check(program, &found.path)?;
            if let Some(loader) = loader(&found.path) {
                let real = places.follow(&loader)?.path;
                let given = of(rights, &real);
                (given.read, given.execute) = (true, true);
            }
        }
        places.view.push(Place {
            wanted,
            execution: Execution::Allowed,
            ..found
        });
    }
    Ok(())
}

/// The directories of programs at and below a granted one.
fn directories(root: &Path) -> Vec<PathBuf> {
    let named = |path: &Path| {
        OF_PROGRAMS
            .iter()
            .any(|name| path.file_name().is_some_and(|last| last == *name))
    };
    let mut list = Vec::new();
    if named(root) {
        list.push(root.to_owned());
    }
    for above in [
        root.to_owned(),
        root.join("usr"),
        root.join("local"),
        root.join("usr/local"),
    ] {
        list.extend(OF_PROGRAMS.iter().map(|name| above.join(name)));
    }
    list
}

fn check(program: &Program, path: &Path) -> Result<(), PlaceError> {
    let Some(wanted) = &program.digest else {
        return Ok(());
    };
    let unreadable = |error| PlaceError::Unreadable(path.to_owned(), error);
    let mut hasher = blake3::Hasher::new();
    io::copy(&mut File::open(path).map_err(unreadable)?, &mut hasher).map_err(unreadable)?;
    let found = format!("blake3:{}", hasher.finalize().to_hex());
    if found == *wanted {
        Ok(())
    } else {
        Err(PlaceError::Changed(
            Box::new(program.clone()),
            path.to_owned(),
            found,
        ))
    }
}

/// The loader an ELF file of this machine's word size asks for (`PT_INTERP`); none for a script or a static program.
fn loader(path: &Path) -> Option<PathBuf> {
    const PT_INTERP: u32 = 3;
    let file = File::open(path).ok()?;
    let mut header = [0u8; 64];
    file.read_exact_at(&mut header, 0).ok()?;
    // 64-bit, little-endian: what this binary is built for.
    if header[..6] != *b"\x7fELF\x02\x01" {
        return None;
    }
    let u16_at =
        |bytes: &[u8], at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let u32_at =
        |bytes: &[u8], at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let u64_at =
        |bytes: &[u8], at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (offset, size, count) = (
        u64_at(&header, 32)?,
        u16_at(&header, 54)?,
        u16_at(&header, 56)?,
    );
    for n in 0..u64::from(count) {
        let mut entry = [0u8; 56];
        file.read_exact_at(&mut entry, offset.checked_add(n * u64::from(size))?)
            .ok()?;
        if u32_at(&entry, 0)? != PT_INTERP {
            continue;
        }
        let mut name = vec![
            0;
            usize::try_from(u64_at(&entry, 32)?)
                .ok()
                .filter(|length| *length <= 4096)?
        ];
        file.read_exact_at(&mut name, u64_at(&entry, 8)?).ok()?;
        let name = name.split(|byte| *byte == 0).next()?;
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(name));
        return path.is_absolute().then_some(path);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_of_a_dynamic_program_is_found_and_a_script_has_none() {
        let found = loader(Path::new("/bin/sh")).unwrap();
        assert!(
            found
                .file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("ld-"),
            "{found:?}"
        );
        let here = tempfile::tempdir().unwrap();
        let script = here.path().join("s");
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        assert_eq!(loader(&script), None);
        // A header that claims a program header table far away.
        let mut odd = b"\x7fELF\x02\x01".to_vec();
        odd.resize(64, 0xff);
        std::fs::write(&script, odd).unwrap();
        assert_eq!(loader(&script), None);
    }

    #[test]
    fn directories_of_programs_at_and_below() {
        let list = directories(Path::new("/usr"));
        for path in ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/libexec"] {
            assert!(list.contains(&PathBuf::from(path)), "{path}");
        }
        assert!(directories(Path::new("/opt/x/bin")).contains(&PathBuf::from("/opt/x/bin")));
        assert!(!directories(Path::new("/usr")).contains(&PathBuf::from("/usr")));
    }
}
