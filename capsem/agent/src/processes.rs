//! What the kernel's process connector tells of programs that start and end, as lines for the agent.
//!
//! A process of its own (`capsem-agent report-processes`) reads it, before every ordinary program has its turn: else a program
//! that ends at once could not be asked for its arguments any more. It looks nothing up for more than so many a second. Refuses
//! datagrams that the kernel did not send, and waits for nobody: what the agent does not take in time is counted.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::allowance::Allowance;
use crate::sys;

/// The word by which this program is that process.
pub const WORD: &str = "report-processes";
/// Programs that start and end, a second, and how many more at once.
const A_SECOND: u32 = 500;
const AT_ONCE: u32 = 1000;
/// Bytes of arguments that are told, and how many of them.
const ARGUMENTS_LIMIT: usize = 2048;
const ARGUMENTS: usize = 32;
const PROGRAM_LIMIT: usize = 1024;
/// Bytes of a line: the kernel writes so much to a pipe as one piece.
const LINE_LIMIT: usize = 4096;
const PIPE_ROOM: i32 = 1 << 18;
/// Programs whose end is told, because their start was.
const KNOWN_LIMIT: usize = 1 << 16;
/// How often it is told that something was lost.
const LOST_EACH: Duration = Duration::from_secs(1);
/// How long the kernel may take to say that it will tell.
const ANSWER: Duration = Duration::from_secs(1);

const EXEC: u32 = 2;
const EXIT: u32 = 0x8000_0000;
const LISTEN: u32 = 1;
const HEAD: usize = 16 + 20;

/// What the kernel says of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// It runs another program now.
    Exec {
        /// Its number.
        pid: u32,
    },
    /// It has ended.
    Exit {
        /// Its number.
        pid: u32,
        /// How, as `wait` says it.
        status: u32,
    },
}

/// One line from that process to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Line {
    Exec {
        pid: u32,
        parent: Option<u32>,
        uid: Option<u32>,
        program: Option<String>,
        argv: Option<Vec<String>>,
        cut: bool,
    },
    Exit {
        pid: u32,
        code: Option<i32>,
        signal: Option<i32>,
    },
    Lost {
        count: u64,
    },
}

/// A request for notices: of all kinds, or only of programs that start and end (Linux 6.6).
pub fn request(only: bool) -> Vec<u8> {
    let mut body = LISTEN.to_ne_bytes().to_vec();
    if only {
        body.extend_from_slice(&(EXEC | EXIT).to_ne_bytes());
    }
    let length = u32::try_from(HEAD + body.len()).unwrap_or(0);
    let mut out = length.to_ne_bytes().to_vec();
    out.extend_from_slice(&3u16.to_ne_bytes()); // NLMSG_DONE
    out.extend_from_slice(&[0; 10]);
    for word in [1u32, 1, 0, 0] {
        out.extend_from_slice(&word.to_ne_bytes()); // CN_IDX_PROC, CN_VAL_PROC, seq, ack
    }
    out.extend_from_slice(&u16::try_from(body.len()).unwrap_or(0).to_ne_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&body);
    out
}

/// What a datagram of the connector says of a process as a whole; None for anything else.
pub fn notice(datagram: &[u8]) -> Option<Notice> {
    let word = |at: usize| {
        let bytes = datagram.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    if (word(16)?, word(20)?) != (1, 1) {
        return None;
    }
    // what, cpu, a time of eight bytes; then what belongs to the kind.
    let (pid, group) = (word(HEAD + 16)?, word(HEAD + 20)?);
    match word(HEAD)? {
        EXEC => Some(Notice::Exec { pid: group }),
        EXIT if pid == group => Some(Notice::Exit {
            pid,
            status: word(HEAD + 24)?,
        }),
        _ => None,
    }
}

/// Parent and effective user of a text of `/proc/PID/status`.
pub fn status(text: &str) -> (Option<u32>, Option<u32>) {
    let field = |name: &str, place: usize| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().nth(place)?.parse().ok()
    };
    (field("PPid:", 0), field("Uid:", 1))
}

/// The arguments of `/proc/PID/cmdline`, and whether there were more.
pub fn arguments(bytes: &[u8], more: bool) -> (Vec<String>, bool) {
    let whole = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    let mut found: Vec<String> = whole
        .split(|byte| *byte == 0)
        .take(ARGUMENTS)
        .map(|one| String::from_utf8_lossy(one).into_owned())
        .collect();
    if bytes.is_empty() {
        found.clear();
    }
    let cut = more || whole.iter().filter(|byte| **byte == 0).count() >= ARGUMENTS;
    (found, cut)
}

fn looked_up(pid: u32) -> Line {
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok().map(|path| {
        let bytes = path.as_os_str().as_bytes();
        String::from_utf8_lossy(&bytes[..bytes.len().min(PROGRAM_LIMIT)]).into_owned()
    });
    let mut bytes = Vec::new();
    let read = File::open(format!("/proc/{pid}/cmdline")).and_then(|file| {
        file.take(ARGUMENTS_LIMIT as u64 + 1)
            .read_to_end(&mut bytes)
    });
    let more = bytes.len() > ARGUMENTS_LIMIT;
    bytes.truncate(ARGUMENTS_LIMIT);
    let (argv, cut) = arguments(&bytes, more);
    // One that has ended meanwhile has no memory, and so no arguments.
    let argv = Some(argv).filter(|argv| read.is_ok() && !argv.is_empty());
    let (parent, uid) =
        status(&fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default());
    Line::Exec {
        pid,
        parent,
        uid,
        program,
        argv,
        cut,
    }
}

fn how(pid: u32, status: u32) -> Line {
    let status = status.cast_signed();
    let (code, signal) = if libc::WIFEXITED(status) {
        (Some(libc::WEXITSTATUS(status)), None)
    } else {
        (None, Some(libc::WTERMSIG(status)))
    };
    Line::Exit { pid, code, signal }
}

/// A line's bytes; one that is too long for a piece loses its arguments.
pub fn written(line: &Line) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(line).unwrap_or_default();
    if bytes.len() >= LINE_LIMIT
        && let Line::Exec {
            pid, parent, uid, ..
        } = line
    {
        let (program, argv, cut) = (None, None, true);
        let short = Line::Exec {
            pid: *pid,
            parent: *parent,
            uid: *uid,
            program,
            argv,
            cut,
        };
        bytes = serde_json::to_vec(&short).unwrap_or_default();
    }
    bytes.push(b'\n');
    bytes
}

struct Reporter<W: Write> {
    out: W,
    known: HashSet<u32>,
    allowance: Allowance,
    lost: u64,
    lost_told: Instant,
    over: bool,
}

impl<W: Write> Reporter<W> {
    fn new(out: W, now: Instant) -> Self {
        Self {
            out,
            known: HashSet::new(),
            allowance: Allowance::new(A_SECOND, AT_ONCE, now),
            lost: 0,
            lost_told: now,
            over: false,
        }
    }

    fn take(&mut self, notice: Notice, now: Instant, look: impl Fn(u32) -> Line) {
        let line = match notice {
            Notice::Exec { pid } => {
                if !self.allowance.take(now) {
                    self.lost += 1;
                    return;
                }
                if self.known.len() < KNOWN_LIMIT {
                    self.known.insert(pid);
                }
                look(pid)
            }
            Notice::Exit { pid, status } => {
                if !self.known.remove(&pid) {
                    return;
                }
                how(pid, status)
            }
        };
        self.say(&line);
    }

    fn say(&mut self, line: &Line) {
        // A pipe takes a piece of this size as a whole, or nothing of it.
        match self.out.write(&written(line)) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => self.over = true,
            Err(_) => self.lost += 1,
        }
    }

    fn tell_lost(&mut self, now: Instant) {
        if self.lost > 0 && now.saturating_duration_since(self.lost_told) >= LOST_EACH {
            self.lost_told = now;
            let count = std::mem::take(&mut self.lost);
            self.say(&Line::Lost { count });
            if self.lost > 0 {
                self.lost += count - 1;
            }
        }
    }
}

/// Whether this kernel tells root of processes.
pub fn told() -> bool {
    listening(false).is_ok()
}

// The kernel answers a request for notices of all kinds; one that it does not know it passes over in silence.
fn listening(only: bool) -> Result<OwnedFd> {
    let socket = sys::notices::connector()?;
    sys::notices::send(socket.as_fd(), &request(false))?;
    if sys::poll(&[(socket.as_raw_fd(), libc::POLLIN)], Some(ANSWER))? == [0] {
        return Err(Error::from(ErrorKind::Unsupported));
    }
    if only {
        sys::notices::send(socket.as_fd(), &request(true))?;
    }
    Ok(socket)
}

/// Reports until nobody reads any more.
pub fn report() -> Result<()> {
    sys::ignore_broken_pipes();
    let socket = listening(true)?;
    // Where it may not, what ends at once is told without its arguments.
    let _ = sys::notices::run_before_others();
    let out = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    sys::set_nonblocking(out.as_fd())?;
    let mut reporter = Reporter::new(out, Instant::now());
    let mut datagram = [0; 1024];
    while !reporter.over {
        if reporter.lost > 0 {
            // Nothing may come for long: then what was lost is told all the same.
            sys::poll(&[(socket.as_raw_fd(), libc::POLLIN)], Some(LOST_EACH))?;
            reporter.tell_lost(Instant::now());
        }
        match sys::notices::receive(socket.as_fd(), &mut datagram) {
            Ok((count, true)) => {
                if let Some(notice) = notice(&datagram[..count]) {
                    reporter.take(notice, Instant::now(), looked_up);
                }
            }
            Ok((_, false)) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The kernel had more to say than it had room for, and does not say how much.
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => reporter.lost += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// That process, begun: its lines come out of its output.
pub fn begin() -> Result<(Child, OwnedFd)> {
    let mut child = Command::new("/proc/self/exe")
        .arg(WORD)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let lines = child.stdout.take().ok_or(ErrorKind::BrokenPipe)?;
    let lines = OwnedFd::from(lines);
    sys::notices::pipe_room(lines.as_fd(), PIPE_ROOM);
    sys::set_nonblocking(lines.as_fd())?;
    Ok((child, lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(what: u32, words: &[u32]) -> Vec<u8> {
        let mut out = vec![0; 16];
        for word in [1u32, 1, 7, 0, 40, what, 0, 0, 0].iter().chain(words) {
            out.extend_from_slice(&word.to_ne_bytes());
        }
        out
    }

    fn plain(pid: u32) -> Line {
        Line::Exec {
            pid,
            parent: Some(1),
            uid: Some(0),
            program: None,
            argv: None,
            cut: false,
        }
    }

    fn lines(bytes: &[u8]) -> Vec<Line> {
        let text = std::str::from_utf8(bytes).expect("text");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a line"))
            .collect()
    }

    #[test]
    fn notices_are_of_processes_as_a_whole() {
        assert_eq!(
            notice(&datagram(EXEC, &[8, 7])),
            Some(Notice::Exec { pid: 7 })
        );
        let status = 3 << 8;
        assert_eq!(
            notice(&datagram(EXIT, &[7, 7, status, 17])),
            Some(Notice::Exit { pid: 7, status })
        );
        // A thread's end is not its process's, and a fork is no program.
        assert_eq!(notice(&datagram(EXIT, &[8, 7, status, 17])), None);
        assert_eq!(notice(&datagram(1, &[7, 7, 8, 8])), None);
        let mut other = datagram(EXEC, &[7, 7]);
        other[16] = 2;
        assert_eq!(notice(&other), None);
        for short in 0..HEAD + 24 {
            assert_eq!(notice(&datagram(EXEC, &[7, 7])[..short]), None);
        }
    }

    #[test]
    fn what_proc_says_is_bounded() {
        assert_eq!(
            status("Name:\tx\nPPid:\t12\nUid:\t1\t2\t3\t4\n"),
            (Some(12), Some(2))
        );
        assert_eq!(status("PPid:\n"), (None, None));
        assert_eq!(
            arguments(b"a\0\0c\0", false),
            (vec!["a".into(), String::new(), "c".into()], false)
        );
        assert_eq!(arguments(b"", false), (vec![], false));
        let many = b"x\0".repeat(33);
        assert_eq!(
            (arguments(&many, false).0.len(), arguments(&many, false).1),
            (32, true)
        );
        assert!(!arguments(&b"x\0".repeat(32), false).1);
    }

    #[test]
    fn a_line_is_one_piece() {
        let long = Line::Exec {
            pid: 1,
            parent: None,
            uid: None,
            program: Some("/x".to_owned()),
            argv: Some(vec!["\u{1}".repeat(2048)]),
            cut: false,
        };
        let bytes = written(&long);
        assert!(bytes.len() <= LINE_LIMIT);
        assert!(matches!(
            lines(&bytes)[0],
            Line::Exec {
                cut: true,
                argv: None,
                ..
            }
        ));
    }

    #[test]
    fn a_flood_is_counted_and_not_told() {
        let now = Instant::now();
        let mut reporter = Reporter::new(Vec::new(), now);
        for pid in 1..=5000 {
            reporter.take(Notice::Exec { pid }, now, plain);
        }
        // The end of one that was not told of is not told either.
        reporter.take(
            Notice::Exit {
                pid: 5000,
                status: 0,
            },
            now,
            plain,
        );
        reporter.take(Notice::Exit { pid: 1, status: 9 }, now, plain);
        reporter.tell_lost(now);
        reporter.tell_lost(now + LOST_EACH);
        let told = lines(&reporter.out);
        assert_eq!(told.len(), 1002);
        let (code, signal) = (None, Some(9));
        assert_eq!(
            told[1000],
            Line::Exit {
                pid: 1,
                code,
                signal
            }
        );
        assert_eq!(told[1001], Line::Lost { count: 4000 });
    }

    #[test]
    fn what_the_agent_does_not_take_is_counted() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> Result<usize> {
                Err(ErrorKind::WouldBlock.into())
            }
            fn flush(&mut self) -> Result<()> {
                Ok(())
            }
        }
        let now = Instant::now();
        let mut reporter = Reporter::new(Full, now);
        for pid in 1..=3 {
            reporter.take(Notice::Exec { pid }, now, plain);
        }
        reporter.tell_lost(now + LOST_EACH);
        assert_eq!((reporter.lost, reporter.over), (3, false));
    }

    #[test]
    fn a_request_says_its_own_length() {
        for only in [false, true] {
            let bytes = request(only);
            let length = u32::from_ne_bytes(bytes[..4].try_into().expect("four"));
            assert_eq!(usize::try_from(length).expect("small"), bytes.len());
            let body = u16::from_ne_bytes(bytes[32..34].try_into().expect("two"));
            assert_eq!(usize::from(body), bytes.len() - HEAD);
        }
    }
}
