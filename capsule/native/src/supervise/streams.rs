//! Where the command's standard streams lead: straight to the caller's, through a pipe that is counted, or to a
//! terminal of the sandbox's own.
//!
//! Straight is the rule: bytes that nobody counts need nobody in between. It refuses to reorder: where standard output
//! and standard error are one file, they share one pipe.

use super::pump::Pump;
use super::raw_mode::RawMode;
use crate::sandbox::system;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// The streams of one run.
#[derive(Default)]
pub struct Streams {
    /// What the command gets as 1 and 2.
    pub output: [RawFd; 2],
    ends: Vec<OwnedFd>,
    pipes: Vec<(OwnedFd, RawFd)>,
}

impl Streams {
    /// The caller's own, or, where output is `counted`, pipes for those of 1 and 2 that lead to no terminal.
    ///
    /// # Errors
    /// As `pipe(2)`.
    pub fn choose(counted: bool, on_terminal: Option<[bool; 3]>) -> io::Result<Streams> {
        let mut streams = Streams {
            output: [1, 2],
            ..Streams::default()
        };
        if !counted {
            return Ok(streams);
        }
        let apart = |number: usize| on_terminal.is_none_or(|which| !which[number]);
        if apart(1) {
            streams.output[0] = streams.pipe(1)?;
        }
        if apart(2) {
            streams.output[1] = if apart(1) && same_file(1, 2) {
                streams.output[0]
            } else {
                streams.pipe(2)?
            };
        }
        Ok(streams)
    }

    fn pipe(&mut self, to: RawFd) -> io::Result<RawFd> {
        let (reading, writing) = system::pipe()?;
        let number = writing.as_raw_fd();
        self.ends.push(writing);
        self.pipes.push((reading, to));
        Ok(number)
    }

    /// The pumps for output, once the command has its ends: ours of those are closed.
    #[must_use]
    pub fn into_pumps(self) -> Vec<Pump> {
        drop(self.ends);
        self.pipes
            .into_iter()
            .map(|(from, to)| Pump::new(from, to))
            .collect()
    }
}

/// The terminal's pumps: the first carries output, the second input.
///
/// # Errors
/// When the user's terminal cannot be put in raw mode.
pub fn terminal_pumps(master: &OwnedFd) -> io::Result<([Pump; 2], RawMode)> {
    let mode = RawMode::enter(0)?;
    mode.copy_settings(master);
    let output = Pump::new(master.try_clone()?, 1);
    let input = Pump::new(
        io::stdin().as_fd().try_clone_to_owned()?,
        master.as_raw_fd(),
    );
    Ok(([output, input], mode))
}

fn same_file(one: RawFd, other: RawFd) -> bool {
    let identity = |number: RawFd| {
        // SAFETY: all-zero is a valid structure and a valid place for the result.
        unsafe {
            let mut status: libc::stat = std::mem::zeroed();
            (libc::fstat(number, &raw mut status) == 0).then_some((status.st_dev, status.st_ino))
        }
    };
    identity(one).is_some() && identity(one) == identity(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_lead_straight_unless_they_are_counted() {
        let straight = Streams::choose(false, None).unwrap();
        assert_eq!(straight.output, [1, 2]);
        assert!(straight.into_pumps().is_empty());
        let counted = Streams::choose(true, None).unwrap();
        assert!(counted.output[0] > 2 && counted.output[1] > 2);
        let terminal = Streams::choose(true, Some([true, true, true])).unwrap();
        assert_eq!(terminal.output, [1, 2]);
    }

    #[test]
    fn one_file_keeps_one_order() {
        assert!(same_file(1, 1));
        assert!(!same_file(-1, -1));
    }
}
