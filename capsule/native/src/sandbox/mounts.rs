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
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;

/// Where the memory file system is attached while it is filled; `/proc` exists everywhere and is replaced last.
const SCRATCH: &str = "/proc";

/// What the memory file system, and so every directory of it, forbids anyway.
const OF_MEMORY: u64 = ATTR_NOSUID | ATTR_NODEV;

/// The device files of the minimal `/dev`.
pub const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Make the view. `disk` bounds what can be written into all covering directories together, in bytes.
///
/// # Errors
/// The step that failed and why.
pub fn build(steps: &[Step], disk: Option<u64>) -> Result<(), Fault> {
    // The mask of the caller does not apply to what is made here.
    // SAFETY: takes and gives a plain integer.
    let mask = unsafe { libc::umask(0) };
    let private = libc::MS_REC | libc::MS_PRIVATE;
    system::mount(c"", c"/", c"", private, c"").map_err(at("mount: make the view private"))?;
    let mut builder = Builder {
        kept: Vec::new(),
        scratch: None,
        covers: 0,
        nothing: None,
        disk,
    };
    for step in steps {
        builder.take(step)?;
    }
    drop(builder);
    // SAFETY: as above.
    unsafe { libc::umask(mask) };
    // What the covering directories were made in stays beneath it, out of reach: taking it away would make the kernel
    // wait until no processor looks at it any more, which is as long as a tenth of the whole view.
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC | libc::MS_RDONLY;
    system::mount(c"proc", c"/proc", c"proc", flags, c"")
        .map_err(at("mount: the namespace's own /proc"))
}

struct Builder {
    kept: Vec<OwnedFd>,
    scratch: Option<()>,
    covers: usize,
    /// The empty file that masks show.
    nothing: Option<OwnedFd>,
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
            Step::Mask { path } => self.mask(path)?,
            Step::Seal { path } => {
                let place = open(path)?;
                system::set_attributes(place.as_fd(), ATTR_RDONLY, 0, false)
                    .map_err(told("mount: seal", path))?;
            }
        }
        Ok(())
    }

    /// Cover the file `path` with an empty one without any permission: its owner, too, has no way to it without a
    /// capability that the sandbox does not have.
    fn mask(&mut self, path: &Path) -> Result<(), Fault> {
        let told = |error| Fault::new(format!("mount: mask {}", path.display()), error);
        let target = match open(path) {
            Err(fault) if fault.error.kind() == io::ErrorKind::NotFound => return Ok(()),
            target => target?,
        };
        self.memory()?;
        if self.nothing.is_none() {
            let nothing = format!("{SCRATCH}/nothing");
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true).mode(0o0);
            options.open(&nothing).map_err(told)?;
            self.nothing = Some(open(Path::new(&nothing))?);
        }
        let Some(nothing) = &self.nothing else {
            return Err(told(io::ErrorKind::NotFound.into()));
        };
        let tree = system::clone_tree(nothing.as_fd()).map_err(told)?;
        let attributes = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
        system::set_attributes(tree.as_fd(), attributes, 0, false).map_err(told)?;
        system::attach(tree.as_fd(), target.as_fd()).map_err(told)
    }

    /// The memory file system, made when it is first needed.
    fn memory(&mut self) -> Result<(), Fault> {
        if self.scratch.is_none() {
            let data = self.disk.map_or_else(
                || "mode=0755".to_owned(),
                |bytes| format!("mode=0755,size={bytes}"),
            );
            let data = CString::new(data)
                .map_err(|_| Fault::new("mount: memory", io::ErrorKind::InvalidInput.into()))?;
            let flags = libc::MS_NOSUID | libc::MS_NODEV;
            system::mount(c"capsule", c"/proc", c"tmpfs", flags, &data)
                .map_err(at("mount: memory file system"))?;
            self.scratch = Some(());
        }
        Ok(())
    }

    /// Cover `path` with a new directory of the memory file system.
    fn cover(&mut self, path: &Path, mode: u32, attributes: u64) -> Result<(), Fault> {
        self.memory()?;
        let place = c_path(Path::new(&format!("{SCRATCH}/{}", self.covers)))?;
        self.covers += 1;
        let told = |error| Fault::new(format!("mount: cover {}", path.display()), error);
        system::make_directory(&place, mode).map_err(told)?;
        let tree = system::clone_named(&place).map_err(told)?;
        if attributes & !OF_MEMORY != 0 {
            system::set_attributes(tree.as_fd(), attributes, 0, false).map_err(told)?;
        }
        system::attach(tree.as_fd(), open(path)?.as_fd()).map_err(told)
    }

    /// The minimal `/dev`: harmless devices, terminals of the run's own, the usual links.
    fn devices(&mut self) -> Result<(), Fault> {
        let told = at("mount: make /dev");
        let mut kept = Vec::new();
        for name in DEVICES {
            let path = c_path(Path::new(&format!("/dev/{name}")))?;
            match system::clone_named(&path) {
                Ok(tree) => kept.push((path, tree)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(told(error)),
            }
        }
        self.cover(Path::new("/dev"), 0o755, OF_MEMORY | ATTR_NOEXEC)?;
        for (path, tree) in kept {
            system::make_file(&path).map_err(&told)?;
            // The copies were taken after the freeze and are read-only as file systems, which devices do not mind.
            system::attach_named(tree.as_fd(), &path).map_err(&told)?;
        }
        system::make_directory(c"/dev/pts", 0o755).map_err(&told)?;
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
    let name = system::c_path(path)?;
    let made = || {
        let made = if directory {
            system::make_directory(&name, 0o755)
        } else {
            system::make_file(&name)
        };
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    };
    match (made(), path.parent()) {
        (Err(error), Some(above)) if error.kind() == io::ErrorKind::NotFound => {
            make(above, true)?;
            made()
        }
        (other, _) => other,
    }
}
