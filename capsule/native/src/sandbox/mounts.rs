//! Takes the steps of a view inside the new mount namespace.
//!
//! Every covering directory is a directory of one small memory file system, so that one size holds for all of
//! them. Paths were resolved by the supervisor and are opened again with symbolic links refused: a path that
//! was swapped in between ends the run. It refuses nothing else; what belongs in the view is decided in `view`.

use super::system::{self, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY};
use super::view::Step;
use super::{Fault, at};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Where the memory file system is attached while it is filled; `/proc` exists everywhere and is replaced last.
const SCRATCH: &str = "/proc";

/// The device files of the minimal `/dev`.
pub const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Make the view. `disk` bounds what can be written into all covering directories together, in bytes.
///
/// # Errors
/// The step that failed and why.
pub fn build(steps: &[Step], disk: Option<u64>) -> Result<(), Fault> {
    let private = libc::MS_REC | libc::MS_PRIVATE;
    system::mount(c"", c"/", c"", private, c"").map_err(at("mount: make the view private"))?;
    let mut builder = Builder {
        kept: Vec::new(),
        scratch: None,
        covers: 0,
        disk,
    };
    for step in steps {
        builder.take(step)?;
    }
    drop(builder);
    // Whatever the covering directories were made in stays reachable through them alone.
    // SAFETY: a valid C string; the file system that was attached there last is ours.
    unsafe { libc::umount2(c"/proc".as_ptr(), libc::MNT_DETACH) };
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_RDONLY;
    system::mount(c"proc", c"/proc", c"proc", flags, c"")
        .map_err(at("mount: the namespace's own /proc"))
}

struct Builder {
    kept: Vec<OwnedFd>,
    scratch: Option<()>,
    covers: usize,
    disk: Option<u64>,
}

fn c_path(path: &Path) -> Result<CString, Fault> {
    system::c_path(path).map_err(|error| Fault::new(format!("mount {}", path.display()), error))
}

fn open(path: &Path) -> Result<OwnedFd, Fault> {
    system::resolve(&c_path(path)?)
        .map_err(|error| Fault::new(format!("open {}", path.display()), error))
}

impl Builder {
    fn take(&mut self, step: &Step) -> Result<(), Fault> {
        let told = |what: &str, path: &Path| {
            let what = format!("{what} {}", path.display());
            move |error: io::Error| Fault::new(what, error)
        };
        match step {
            Step::Keep { path, .. } => {
                let tree =
                    system::clone_tree(open(path)?.as_fd()).map_err(told("mount: keep", path))?;
                self.kept.push(tree);
            }
            Step::Layer {
                lower, upper, work, ..
            } => {
                let lay = || {
                    let c_path = system::c_path;
                    system::overlay(&c_path(lower)?, &c_path(upper)?, &c_path(work)?)
                };
                self.kept
                    .push(lay().map_err(told("mount: lay an overlay over", lower))?);
            }
            Step::Freeze => {
                let root = open(Path::new("/"))?;
                system::set_attributes(root.as_fd(), ATTR_RDONLY | ATTR_NOSUID, 0, true)
                    .map_err(at("mount: make everything read-only"))?;
            }
            Step::Cover {
                path,
                mode,
                no_execute,
            } => {
                let execution = if *no_execute { ATTR_NOEXEC } else { 0 };
                self.cover(path, *mode, ATTR_NOSUID | ATTR_NODEV | execution)?;
            }
            Step::Make { path, directory } => {
                make(path, *directory).map_err(told("mount: make", path))?
            }
            Step::Link(link) => {
                if let Some(parent) = link.path.parent() {
                    make(parent, true).map_err(told("mount: make", parent))?;
                }
                symlink(&link.target, &link.path).map_err(told("mount: link", &link.path))?;
            }
            Step::Show {
                index,
                path,
                writable,
                no_execute,
            } => {
                let tree = &self.kept[*index];
                let mut set = ATTR_NOSUID | ATTR_NODEV;
                if !writable {
                    set |= ATTR_RDONLY;
                }
                if *no_execute {
                    set |= ATTR_NOEXEC;
                }
                // Where the grant is a device file, forbidding devices would make it useless.
                let device = path.starts_with("/dev");
                let set = if device { set & !ATTR_NODEV } else { set };
                system::set_attributes(tree.as_fd(), set, 0, true)
                    .map_err(told("mount: restrict", path))?;
                system::attach(tree.as_fd(), open(path)?.as_fd())
                    .map_err(told("mount: show", path))?;
            }
            Step::Devices => self.devices()?,
            Step::Seal { path } => {
                let place = open(path)?;
                system::set_attributes(place.as_fd(), ATTR_RDONLY, 0, false)
                    .map_err(told("mount: seal", path))?;
            }
        }
        Ok(())
    }

    /// Cover `path` with a new directory of the memory file system.
    fn cover(&mut self, path: &Path, mode: u32, attributes: u64) -> Result<(), Fault> {
        if self.scratch.is_none() {
            let data = self.disk.map_or_else(
                || "mode=0755".to_owned(),
                |bytes| format!("mode=0755,size={bytes}"),
            );
            let data = CString::new(data)
                .map_err(|_| Fault::new("mount: memory", io::ErrorKind::InvalidInput.into()))?;
            let flags = libc::MS_NOSUID;
            system::mount(c"capsule", c"/proc", c"tmpfs", flags, &data)
                .map_err(at("mount: memory file system"))?;
            self.scratch = Some(());
        }
        let place = PathBuf::from(format!("{SCRATCH}/{}", self.covers));
        self.covers += 1;
        let told = |error| Fault::new(format!("mount: cover {}", path.display()), error);
        std::fs::DirBuilder::new()
            .mode(mode)
            .create(&place)
            .map_err(told)?;
        // The mask of the caller does not apply here.
        std::fs::set_permissions(&place, std::fs::Permissions::from_mode(mode)).map_err(told)?;
        let tree = system::clone_tree(open(&place)?.as_fd()).map_err(told)?;
        system::set_attributes(tree.as_fd(), attributes, 0, false).map_err(told)?;
        system::attach(tree.as_fd(), open(path)?.as_fd()).map_err(told)
    }

    /// The minimal `/dev`: harmless devices, terminals of the run's own, the usual links.
    fn devices(&mut self) -> Result<(), Fault> {
        let told = at("mount: make /dev");
        let mut kept = Vec::new();
        for name in DEVICES {
            let path = PathBuf::from(format!("/dev/{name}"));
            match open(&path) {
                Ok(place) => kept.push((path, system::clone_tree(place.as_fd()).map_err(&told)?)),
                Err(fault) if fault.error.kind() == io::ErrorKind::NotFound => {}
                Err(fault) => return Err(fault),
            }
        }
        self.cover(Path::new("/dev"), 0o755, ATTR_NOSUID | ATTR_NOEXEC)?;
        for (path, tree) in kept {
            make(&path, false).map_err(&told)?;
            // The copies were taken after the freeze and are read-only as file systems, which devices do not mind.
            system::attach(tree.as_fd(), open(&path)?.as_fd()).map_err(&told)?;
        }
        std::fs::create_dir("/dev/pts").map_err(&told)?;
        let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
        let data = c"newinstance,ptmxmode=0666,mode=0620";
        system::mount(c"devpts", c"/dev/pts", c"devpts", flags, data)
            .map_err(at("mount: terminals"))?;
        for (name, target) in [
            ("ptmx", "pts/ptmx"),
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
        ] {
            symlink(target, format!("/dev/{name}")).map_err(&told)?;
        }
        Ok(())
    }
}

/// Make a directory or an empty file, and the directories above it; what is there already stays.
fn make(path: &Path, directory: bool) -> io::Result<()> {
    let above = if directory { Some(path) } else { path.parent() };
    if let Some(above) = above {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(above)?;
    }
    if !directory {
        std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)?;
    }
    Ok(())
}
