//! What the whole process tree uses, read from the sandbox's own `/proc`, and whether that is too much.
//!
//! For hosts where no cgroup is delegated. The files read are written by the kernel; names and numbers only. A
//! process that lives and dies between two looks is counted through its parent's totals. It refuses to guess: a process
//! that cannot be read is gone.

use super::kernel_file;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

/// Bounds on the tree; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Bytes of memory that is nobody else's.
    pub memory: Option<u64>,
    /// Milliseconds of processor time.
    pub cpu: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
}

/// A look at the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Bytes.
    pub memory: u64,
    /// Milliseconds.
    pub cpu: u64,
    /// Processes and threads.
    pub processes: u64,
}

impl Bounds {
    /// Whether there is anything to look for.
    #[must_use]
    pub fn any(&self) -> bool {
        self.memory.is_some() || self.cpu.is_some() || self.processes.is_some()
    }

    /// The name of the limit that `look` is over.
    #[must_use]
    pub fn exceeded(&self, look: &Look) -> Option<&'static str> {
        let over = |bound: Option<u64>, used: u64| bound.is_some_and(|most| used > most);
        if over(self.memory, look.memory) {
            Some("memory")
        } else if over(self.cpu, look.cpu) {
            Some("cpu")
        } else if over(self.processes, look.processes) {
            Some("processes")
        } else {
            None
        }
    }
}

/// Reads a `/proc` by descriptor.
pub struct Tree {
    directory: PathBuf,
    _open: OwnedFd,
    page: u64,
    tick: u64,
}

impl Tree {
    /// From a descriptor of the sandbox's `/proc`.
    #[must_use]
    pub fn new(processes: OwnedFd) -> Tree {
        // SAFETY: plain integers.
        let ask = |name| unsafe { libc::sysconf(name) }.max(1) as u64;
        let directory = PathBuf::from(format!("/proc/self/fd/{}", processes.as_raw_fd()));
        Tree {
            directory,
            _open: processes,
            page: ask(libc::_SC_PAGESIZE),
            tick: ask(libc::_SC_CLK_TCK),
        }
    }

    /// Look once.
    #[must_use]
    pub fn look(&self) -> Look {
        let mut look = Look::default();
        let Ok(entries) = std::fs::read_dir(&self.directory) else {
            return look;
        };
        for entry in entries.flatten() {
            if !entry
                .file_name()
                .as_encoded_bytes()
                .first()
                .is_some_and(u8::is_ascii_digit)
            {
                continue;
            }
            // A process may call itself anything, and is counted all the same.
            let read = |name: &str| kernel_file::read(&entry.path().join(name)).ok();
            if let Some((ticks, threads)) = read("stat").as_deref().and_then(parse_stat) {
                look.cpu += ticks * 1000 / self.tick;
                look.processes += threads;
            }
            if let Some(pages) = read("statm").as_deref().and_then(parse_statm) {
                look.memory += pages * self.page;
            }
        }
        // The monitor is one of them and is not the command's.
        look.processes = look.processes.saturating_sub(1);
        look
    }
}

/// Ticks of processor time (own and of reaped children) and threads, from `/proc/PID/stat`.
fn parse_stat(text: &str) -> Option<(u64, u64)> {
    // The second field is a name in brackets that may hold anything, brackets too.
    let rest = &text[text.rfind(')')? + 1..];
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    Some((ticks, number(17)?))
}

/// Resident pages that are not shared with files or other processes, from `/proc/PID/statm`.
fn parse_statm(text: &str) -> Option<u64> {
    let mut fields = text.split_ascii_whitespace().map(str::parse::<u64>);
    let resident = fields.nth(1)?.ok()?;
    Some(resident.saturating_sub(fields.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_the_name() {
        let stat = "12 (a) b) (c) S 1 12 12 0 -1 4194560 1 2 3 4 10 20 30 40 20 0 7 0 99 1 2";
        assert_eq!(parse_stat(stat), Some((100, 7)));
        assert_eq!(parse_stat("12"), None);
        assert_eq!(parse_statm("100 50 30 1 0 2 0"), Some(20));
        assert_eq!(parse_statm("100"), None);
    }

    #[test]
    fn our_own_tree_uses_something() {
        let tree = Tree::new(std::fs::File::open("/proc").unwrap().into());
        let look = tree.look();
        assert!(look.memory > 0 && look.processes > 1);
        assert_eq!(
            Bounds {
                memory: Some(1),
                ..Bounds::default()
            }
            .exceeded(&look),
            Some("memory")
        );
        assert_eq!(Bounds::default().exceeded(&look), None);
        assert!(!Bounds::default().any());
    }
}
