//! Everything that the host asked to run stands still, until it may run on: for the moment in which a machine is kept.
//!
//! In a machine jobs and what they start are in one control group, which the kernel freezes as a whole; nothing of them sees
//! it. Refuses to call them frozen before the kernel says so. A program that is root in the machine can leave the group, and
//! then runs on; nothing outside of the machine relies on it.
//!
//! ```no_run
//! # use capsem_agent::freezer::Freezer;
//! let freezer = Freezer::of_machine(std::path::Path::new("/sys/fs/cgroup")).unwrap();
//! freezer.freeze().unwrap();
//! freezer.thaw().unwrap();
//! ```

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Result};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long processes may take to stand still: one that waits for a device does not.
const PATIENCE: Duration = Duration::from_secs(3);

/// The control group of everything but the agent.
#[derive(Debug)]
pub struct Freezer {
    group: PathBuf,
}

impl Freezer {
    /// Makes the group; an error where this kernel has no control groups of version 2.
    pub fn of_machine(root: &Path) -> Result<Self> {
        let group = root.join("jobs");
        match fs::create_dir(&group) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // The file is there in every group of version 2 that can be frozen, and nowhere else.
        fs::metadata(group.join("cgroup.freeze"))?;
        Ok(Self { group })
    }

    /// Where a process that writes "0" becomes one of the group, whoever it is by then.
    pub fn entrance(&self) -> Result<OwnedFd> {
        let file = File::options()
            .write(true)
            .open(self.group.join("cgroup.procs"))?;
        Ok(file.into())
    }

    /// Puts a process into the group; one that has ended is no error.
    pub fn take(&self, pid: i32) -> Result<()> {
        match fs::write(self.group.join("cgroup.procs"), pid.to_string()) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            done => done,
        }
    }

    /// Returns when all of it stands still; when that does not come, it runs on.
    pub fn freeze(&self) -> Result<()> {
        fs::write(self.group.join("cgroup.freeze"), "1")?;
        let until = Instant::now() + PATIENCE;
        while !frozen(&fs::read_to_string(self.group.join("cgroup.events"))?) {
            if Instant::now() > until {
                self.thaw()?;
                return Err(Error::new(
                    ErrorKind::TimedOut,
                    "a process did not stand still in time",
                ));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Lets it run on.
    pub fn thaw(&self) -> Result<()> {
        fs::write(self.group.join("cgroup.freeze"), "0")
    }
}

fn frozen(events: &str) -> bool {
    events.lines().any(|line| line == "frozen 1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_frozen_when_the_kernel_says_so() {
        assert!(frozen("populated 1\nfrozen 1\n"));
        for events in ["populated 1\nfrozen 0\n", "populated 1\n", "", "frozen 10"] {
            assert!(!frozen(events), "{events:?}");
        }
    }

    #[test]
    fn a_directory_is_no_control_group() {
        let place = std::env::temp_dir().join(format!("capsem-freezer-{}", std::process::id()));
        fs::create_dir_all(&place).expect("a directory");
        assert!(Freezer::of_machine(&place).is_err());
        fs::remove_dir_all(&place).expect("its end");
    }
}
