//! What the whole process tree uses, read from the sandbox's own `/proc`, and whether that is too much.
//!
//! For hosts where no cgroup is delegated. The files read are written by the kernel; names and numbers only. A
//! process that lives and dies between two looks is counted through its parent's totals. It refuses to guess: a process
//! that cannot be read is gone.

use super::kernel_file;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

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

/// Between two looks at a tree that does something, and the longest between two at one that rests: where its time is
/// bounded, and where only the number of its processes is, which the kernel bounds too.
const LOOK: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);
const LONGEST_HELD: Duration = Duration::from_secs(8);
/// Processor time is counted in ticks of this many milliseconds: so much may be of another moment.
const TICK_MS: u64 = 10;

/// When the next look is due.
///
/// A tree that rests (as many processes as before, a twentieth of the time used) is looked at less and less often, where
/// what it could do until the next look is bounded all the same: its memory is not watched here, and the kernel keeps a
/// bound of its own on processes.
#[derive(Debug)]
pub struct Pace {
    longest: Duration,
    last: Look,
    /// How long to wait until the next look.
    pub wait: Duration,
}

impl Pace {
    /// From the bounds that are watched; `held`: the kernel bounds the number of processes, if not so exactly.
    #[must_use]
    pub fn new(bounds: &Bounds, held: bool) -> Pace {
        let watched = bounds.memory.is_some() || (bounds.processes.is_some() && !held);
        let longest = match bounds.cpu {
            _ if watched => LOOK,
            Some(_) => LONGEST,
            None => LONGEST_HELD,
        };
        Pace {
            longest,
            last: Look::default(),
            wait: LOOK,
        }
    }

    /// After a look.
    pub fn saw(&mut self, look: &Look) {
        let waited = u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX);
        let rests = look.processes == self.last.processes
            && look.cpu.saturating_sub(self.last.cpu) <= TICK_MS + waited / 20;
        self.wait = if rests {
            (self.wait * 2).min(self.longest)
        } else {
            LOOK
        };
        self.last = *look;
    }
}

/// Whether the kernel bounds the processes of a process namespace (6.14).
#[must_use]
pub fn kernel_bounds_processes() -> bool {
    kernel_file::read("/proc/sys/kernel/osrelease".as_ref()).is_ok_and(|text| since(&text, (6, 14)))
}

/// Whether a release is that version or a later one.
fn since(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(|byte: char| !byte.is_ascii_digit());
    let mut number = || numbers.next()?.parse::<u32>().ok();
    number().zip(number()).is_some_and(|found| found >= version)
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
    fn a_tree_that_rests_is_looked_at_less_often_until_it_moves() {
        let rest = Look {
            memory: 1,
            cpu: 70,
            processes: 3,
        };
        let timed = Bounds {
            cpu: Some(60_000),
            processes: Some(64),
            ..Bounds::default()
        };
        let mut pace = Pace::new(&timed, true);
        pace.saw(&rest);
        assert_eq!(pace.wait, LOOK, "it was not seen before");
        for _ in 0..9 {
            pace.saw(&rest);
        }
        assert_eq!(pace.wait, LONGEST);
        pace.saw(&Look {
            cpu: rest.cpu + 60,
            ..rest
        });
        assert_eq!(pace.wait, LONGEST, "a twentieth of a second in a second");
        let busy = Look {
            cpu: rest.cpu + 200,
            ..rest
        };
        pace.saw(&busy);
        assert_eq!(pace.wait, LOOK);
        pace.saw(&busy);
        assert_eq!(pace.wait, 2 * LOOK);
        pace.saw(&Look {
            processes: 4,
            ..busy
        });
        assert_eq!(pace.wait, LOOK);
    }

    #[test]
    fn what_the_kernel_bounds_too_is_looked_at_least_often() {
        let few = Bounds {
            processes: Some(64),
            ..Bounds::default()
        };
        let mut pace = Pace::new(&few, true);
        for _ in 0..12 {
            pace.saw(&Look::default());
        }
        assert_eq!(pace.wait, LONGEST_HELD);
        pace.saw(&Look {
            processes: 1,
            ..Look::default()
        });
        assert_eq!(pace.wait, LOOK);
    }

    #[test]
    fn what_grows_unbounded_until_the_next_look_is_looked_at_as_often_as_ever() {
        let processes = Bounds {
            processes: Some(64),
            ..Bounds::default()
        };
        let memory = Bounds {
            memory: Some(1),
            ..Bounds::default()
        };
        for (bounds, held) in [(processes, false), (memory, true), (memory, false)] {
            let mut pace = Pace::new(&bounds, held);
            for _ in 0..9 {
                pace.saw(&Look::default());
            }
            assert_eq!(pace.wait, LOOK);
        }
    }

    #[test]
    fn releases_are_compared_by_number() {
        for (release, late) in [
            ("6.14.0", true),
            ("6.18.44-fc-v595\n", true),
            ("7.0-rc1", true),
            ("6.9.3", false),
            ("5.15.0-generic", false),
            ("6", false),
            ("x", false),
        ] {
            assert_eq!(since(release, (6, 14)), late, "{release}");
        }
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
