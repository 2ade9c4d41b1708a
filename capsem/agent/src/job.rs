//! One job: a program that the host asked for, or a file operation in a process of its own.
//!
//! Refuses nothing by itself: which program may run is decided on the host. An error leaves no process behind.

use std::io::Result;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::freezer::Freezer;
use crate::message::{Exec, File};
use crate::stream::{AtEnd, Inflow, Outflow, Stream, window};
use crate::{accounts, files, sys};

/// How long a job has between SIGTERM and SIGKILL.
pub const GRACE: Duration = Duration::from_secs(2);

/// The port of a job's terminal.
pub const TERMINAL: u16 = 5001;
/// The port of a job's other streams.
pub const BULK: u16 = 5005;

/// What a file operation has told so far.
#[derive(Debug)]
pub struct Report {
    /// Where it tells.
    pub from: OwnedFd,
    /// What it told.
    pub text: Vec<u8>,
    /// Whether it will tell no more.
    pub over: bool,
}

/// One job.
#[derive(Debug)]
pub struct Job {
    /// Its first process, which leads its process group.
    pub pid: i32,
    /// Whether that process is still there.
    pub alive: bool,
    /// Its terminal, to be resized.
    pub terminal: Option<OwnedFd>,
    /// Of a file operation.
    pub report: Option<Report>,
    /// When it is told to end.
    pub deadline: Option<Instant>,
    /// When it is killed.
    pub kill_at: Option<Instant>,
    /// Whether the deadline passed.
    pub timed_out: bool,
}

impl Job {
    fn new(pid: i32) -> Self {
        Self {
            pid,
            alive: true,
            terminal: None,
            report: None,
            deadline: None,
            kill_at: None,
            timed_out: false,
        }
    }

    /// Sends a signal to the whole group; one that is gone is no error.
    pub fn signal(&self, number: i32) {
        // A file operation that was forked just now leads no group yet.
        if self.alive && sys::kill(-self.pid, number).is_err() {
            let _ = sys::kill(self.pid, number);
        }
    }

    /// SIGTERM now, SIGKILL when the grace is over.
    pub fn end(&mut self) {
        self.signal(libc::SIGTERM);
        self.kill_at.get_or_insert(Instant::now() + GRACE);
    }
}

/// A new job and its streams: port, number, flow.
pub type Begun = (Job, Vec<(u16, u32, Stream)>);

fn stopping_never(fd: OwnedFd) -> Result<OwnedFd> {
    sys::set_nonblocking(fd.as_fd())?;
    Ok(fd)
}

/// Starts a program, in the group that can be frozen where there is one.
pub fn exec(
    asked: &Exec,
    freezer: Option<&Freezer>,
) -> std::result::Result<Begun, (std::io::Error, String)> {
    let place = |error: std::io::Error| {
        let reason = format!("cannot start '{}' in {}: {error}", asked.argv[0], asked.cwd);
        (error, reason)
    };
    if let Err(error) = std::fs::metadata(&asked.cwd) {
        let reason = format!("cannot start in the directory {}: {error}", asked.cwd);
        return Err((error, reason));
    }
    let mut environment = asked.env.clone();
    accounts::complete(&mut environment, asked.uid);
    let mut command = Command::new(&asked.argv[0]);
    command
        .args(&asked.argv[1..])
        .env_clear()
        .envs(&environment)
        .current_dir(Path::new(&asked.cwd));
    if sys::effective_uid() == 0 || asked.uid != sys::effective_uid() {
        command.uid(asked.uid).gid(asked.gid);
    }
    let entrance = freezer.map(Freezer::entrance).transpose().map_err(place)?;
    sys::lead_session(&mut command, asked.tty.is_some(), entrance);
    let mut streams = Vec::new();
    let mut terminal = None;
    let number = |which: u32| 4 * asked.id + which;
    if let Some(size) = asked.tty {
        let (master, slave) = sys::open_terminal().map_err(place)?;
        sys::resize(master.as_fd(), size.rows, size.columns).map_err(place)?;
        if sys::effective_uid() == 0 {
            sys::give(slave.as_fd(), asked.uid).map_err(place)?;
        }
        command
            .stdin(slave.try_clone().map_err(place)?)
            .stdout(slave.try_clone().map_err(place)?)
            .stderr(slave);
        let master = stopping_never(master).map_err(place)?;
        let flow = Stream {
            inflow: Some(Inflow::new(
                master.try_clone().map_err(place)?,
                window(TERMINAL),
                AtEnd::Character,
            )),
            outflow: Some(Outflow::new(
                master.try_clone().map_err(place)?,
                window(TERMINAL),
            )),
            cut: false,
        };
        terminal = Some(master);
        streams.push((TERMINAL, number(0), flow));
    } else {
        if asked.stdin {
            let (reader, writer) = std::io::pipe().map_err(place)?;
            command.stdin(reader);
            let writer = stopping_never(writer.into()).map_err(place)?;
            let inflow = Some(Inflow::new(writer, window(BULK), AtEnd::Close));
            streams.push((
                BULK,
                number(0),
                Stream {
                    inflow,
                    outflow: None,
                    cut: false,
                },
            ));
        } else {
            command.stdin(Stdio::null());
        }
        for which in [1, 2] {
            let (reader, writer) = std::io::pipe().map_err(place)?;
            if which == 1 {
                sys::widen(reader.as_fd());
                command.stdout(writer);
            } else {
                command.stderr(writer);
            }
            let reader = stopping_never(reader.into()).map_err(place)?;
            let outflow = Some(Outflow::new(reader, window(BULK)));
            streams.push((
                BULK,
                number(which),
                Stream {
                    inflow: None,
                    outflow,
                    cut: false,
                },
            ));
        }
    }
    let child = command.spawn().map_err(place)?;
    let mut job = Job::new(i32::try_from(child.id()).unwrap_or(i32::MAX));
    job.terminal = terminal;
    job.deadline = asked
        .timeout_ms
        .map(|wait| Instant::now() + Duration::from_millis(wait));
    Ok((job, streams))
}

/// Starts a file operation.
pub fn file(asked: &File) -> Result<Begun> {
    let (report, told) = std::io::pipe()?;
    let mut streams = Vec::new();
    let data: OwnedFd = match files::direction(asked.op) {
        files::Direction::None => std::fs::File::open("/dev/null")?.into(),
        files::Direction::ToHost => {
            let (reader, writer) = std::io::pipe()?;
            sys::widen(reader.as_fd());
            let outflow = Some(Outflow::new(stopping_never(reader.into())?, window(BULK)));
            streams.push((
                BULK,
                4 * asked.id + 1,
                Stream {
                    inflow: None,
                    outflow,
                    cut: false,
                },
            ));
            writer.into()
        }
        files::Direction::FromHost => {
            let (reader, writer) = std::io::pipe()?;
            sys::widen(reader.as_fd());
            let inflow = Some(Inflow::new(
                stopping_never(writer.into())?,
                window(BULK),
                AtEnd::Close,
            ));
            streams.push((
                BULK,
                4 * asked.id,
                Stream {
                    inflow,
                    outflow: None,
                    cut: false,
                },
            ));
            reader.into()
        }
    };
    let Some(pid) = sys::fork()? else {
        files::child(asked, data.as_fd(), told.as_fd())
    };
    let mut job = Job::new(pid);
    job.report = Some(Report {
        from: stopping_never(report.into())?,
        text: Vec::new(),
        over: false,
    });
    Ok((job, streams))
}
