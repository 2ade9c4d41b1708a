//! The place where `capsule-egress` is met, and starting it when nobody is there.
//!
//! One process serves all runs of a user. Whoever finds nobody at the socket takes the lock, binds the socket anew and
//! starts egress with it, so that connections wait from that moment on. It refuses: a directory that others may write,
//! a peer of another user, and to wait long for a lock.

use crate::log_terminal::shown;
use crate::plan;
use crate::sandbox::namespaces::Identity;
use crate::sandbox::system::check;
use std::cell::Cell;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long another run may take to bind and start.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes at the end of its words in which the last line is looked for.
const WORDS: u64 = 4096;
/// What an interpreter is asked for.
const DIRECTORIES: &str = "import json; from capsule.sandbox.launcher import interpreter_reads; \
                           print(json.dumps(interpreter_reads()))";
/// The policy that egress itself runs under.
const PRESET: &str = "egress";

/// The directory of a user's egress.
#[derive(Debug)]
pub struct Home {
    directory: PathBuf,
    /// How long its words were before this run started it; None when it did not.
    said: Cell<Option<u64>>,
}

impl Home {
    /// Open or make it, below capsule's directory of state.
    ///
    /// # Errors
    /// A sentence: it cannot be made, or is not ours alone.
    pub fn open(state: Option<&Path>) -> Result<Home, String> {
        let state = state.ok_or("network.hosts needs a home directory: set HOME")?;
        let told = |error: io::Error| format!("{}: {error}", shown(&state.join("egress")));
        fs::create_dir_all(state).map_err(told)?;
        let directory = state.canonicalize().map_err(told)?.join("egress");
        for (place, mode) in [
            (directory.clone(), 0o700),
            (directory.join("public"), 0o755),
        ] {
            match DirBuilder::new().mode(mode).create(&place) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(told(error));
                }
                _ => {}
            }
            let found = fs::symlink_metadata(&place).map_err(told)?;
            let alone = found.mode() & 0o777 & !mode == 0;
            if !found.is_dir() || found.uid() != Identity::own().uid || !alone {
                return Err(format!(
                    "{} must be a directory of this user and nobody else's (mode {mode:04o}); remove it, and it is made \
                     anew",
                    shown(&place)
                ));
            }
        }
        Ok(Home {
            directory,
            said: Cell::new(None),
        })
    }

    /// A path in it.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Nobody else makes anything here while this is held.
    ///
    /// # Errors
    /// A sentence: it cannot be had in time.
    pub fn lock(&self) -> Result<File, String> {
        let path = self.path("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| format!("{}: {error}", shown(&path)))?;
        let until = Instant::now() + PATIENCE;
        // SAFETY: plain integers; the descriptor is open.
        while unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            if Instant::now() > until {
                return Err(format!(
                    "{}: another run of capsule has held it for {} s; end that one",
                    shown(&path),
                    PATIENCE.as_secs()
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(file)
    }

    /// A path to `name` that fits a socket's address (108 bytes, unix(7)) however deep the home lies, for as long as the
    /// directory is held.
    fn short(&self, name: &str) -> io::Result<(File, PathBuf)> {
        let directory = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW)
            .open(&self.directory)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()));
        Ok((directory, path))
    }

    fn reach(&self) -> io::Result<UnixStream> {
        let (_directory, path) = self.short("socket")?;
        let stream = UnixStream::connect(path)?;
        if peer(&stream)? == Identity::own().uid {
            Ok(stream)
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }

    /// A connection to egress, which is started when nobody answers.
    ///
    /// # Errors
    /// A sentence.
    pub fn connect(&self) -> Result<UnixStream, String> {
        if let Ok(stream) = self.reach() {
            return Ok(stream);
        }
        let _lock = self.lock()?;
        if let Ok(stream) = self.reach() {
            return Ok(stream);
        }
        let path = self.path("socket");
        let told = |error: io::Error| format!("{}: {error}", shown(&path));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(told(error)),
            _ => {}
        }
        let (_directory, short) = self.short("socket").map_err(told)?;
        let listener = UnixListener::bind(short).map_err(told)?;
        self.start(listener)?;
        self.reach().map_err(told)
    }

    fn start(&self, listener: UnixListener) -> Result<(), String> {
        let python = plan::interpreter().map_err(|error| error.to_string())?;
        let told = |error: io::Error| format!("starting capsule-egress: {error}");
        let words = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.path("egress.log"))
            .map_err(told)?;
        if words.metadata().map_err(told)?.len() > 1 << 20 {
            words.set_len(0).map_err(told)?;
        }
        self.said.set(Some(words.metadata().map_err(told)?.len()));
        let mut command = Command::new(std::env::current_exe().map_err(told)?);
        command.args(["run", "--policy", PRESET, "--log"]);
        command.arg(self.path("egress.capsule.log"));
        for directory in of_python(&python)? {
            command.arg("--read").arg(directory);
        }
        command.arg("--program").arg(&python);
        command.arg("--").arg(&python);
        // Where its modules are it may not write: it need not try.
        command.args(["-I", "-B", "-m", "capsule.egress"]);
        command.current_dir("/");
        command.stdin(Stdio::from(OwnedFd::from(listener)));
        command.stdout(words.try_clone().map_err(told)?);
        command.stderr(words);
        // SAFETY: between fork and exec only calls that are safe there are made.
        unsafe { command.pre_exec(detach) };
        let mut child = command.spawn().map_err(told)?;
        // The process in between is gone already; egress is nobody's child.
        child.wait().map(drop).map_err(told)
    }

    /// The last line that egress said since this run started it.
    #[must_use]
    pub fn last_words(&self) -> Option<String> {
        let before = self.said.get()?;
        let mut file = File::open(self.path("egress.log")).ok()?;
        let length = file.metadata().ok()?.len();
        let since = length.saturating_sub(WORDS).max(before);
        file.seek(SeekFrom::Start(since)).ok()?;
        let mut bytes = Vec::new();
        file.take(WORDS).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let last = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
        Some(last.chars().take(400).collect())
    }
}

/// A session of its own, a child of nobody's.
fn detach() -> io::Result<()> {
    // SAFETY: these calls take nothing, and are allowed between fork and exec.
    unsafe {
        check(libc::setsid().into())?;
        match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => Ok(()),
            _ => libc::_exit(0),
        }
    }
}

/// The user at the other end (`SO_PEERCRED`, unix(7)).
fn peer(stream: &UnixStream) -> io::Result<libc::uid_t> {
    let mut found = libc::ucred {
        pid: 0,
        uid: libc::uid_t::MAX,
        gid: 0,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: a valid structure of the length given.
    let got = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    };
    check(got.into())?;
    Ok(found.uid)
}

/// The directories that an interpreter needs, as it says itself.
fn of_python(python: &Path) -> Result<Vec<String>, String> {
    let told = |why: String| format!("{}: {why}", shown(python));
    let found = Command::new(python)
        .args(["-I", "-c", DIRECTORIES])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|error| told(error.to_string()))?;
    serde_json::from_slice(&found.stdout)
        .map_err(|_| told("it does not say which directories it needs; reinstall capsule".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_directory_is_ours_alone_or_is_not_used() {
        let here = tempfile::tempdir().unwrap();
        let home = Home::open(Some(here.path())).unwrap();
        let mode = fs::metadata(home.path("")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::set_permissions(&home.directory, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Home::open(Some(here.path())).unwrap_err().contains("0700"));
        assert!(Home::open(None).unwrap_err().contains("HOME"));
    }

    #[test]
    fn a_link_in_its_place_is_refused() {
        let here = tempfile::tempdir().unwrap();
        let elsewhere = here.path().join("elsewhere");
        DirBuilder::new().mode(0o700).create(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, here.path().join("egress")).unwrap();
        assert!(Home::open(Some(here.path())).is_err());
    }

    #[test]
    fn the_last_line_is_what_egress_said_last() {
        let here = tempfile::tempdir().unwrap();
        let home = Home::open(Some(here.path())).unwrap();
        home.said.set(Some(0));
        assert_eq!(home.last_words(), None);
        fs::write(home.path("egress.log"), "one\n\ntwo \n\n").unwrap();
        assert_eq!(home.last_words().unwrap(), "two");
        home.said.set(Some(10));
        assert_eq!(
            home.last_words(),
            None,
            "what it said before is another story"
        );
    }

    #[test]
    fn whoever_answers_is_of_this_user() {
        let here = tempfile::tempdir().unwrap();
        let home = Home::open(Some(here.path())).unwrap();
        let listener = UnixListener::bind(home.path("socket")).unwrap();
        assert_eq!(peer(&home.reach().unwrap()).unwrap(), Identity::own().uid);
        drop(listener);
        assert!(home.reach().is_err());
    }

    #[test]
    fn a_deep_home_is_reached_too() {
        let here = tempfile::tempdir().unwrap();
        let home = Home::open(Some(&here.path().join("d".repeat(120)))).unwrap();
        let (_directory, short) = home.short("socket").unwrap();
        let _listener = UnixListener::bind(short).unwrap();
        assert!(home.path("socket").exists());
        assert_eq!(peer(&home.reach().unwrap()).unwrap(), Identity::own().uid);
    }
}
