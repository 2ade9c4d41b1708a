//! The first process of the sandbox: sets the walls up around itself, starts the command, becomes the monitor.
//!
//! The order: network, identity, view, privileges, Landlock, then the command as a child. It begins with what needs no
//! more than a [`Ground`], while the supervisor still decides the rest, and waits for the [`View`], then for the
//! [`Spec`]. It reports [`Report`] to the supervisor and waits for its word before the command's `exec` is let go, so that the run is on the
//! log first. It refuses to go on after any failure: it says which step failed and ends, and everything ends with it.

use super::bpf::Instruction;
use super::command::{self, Command, Progress, find_program};
use super::landlock::Rule;
use super::limits::{self, Limits};
use super::namespaces::Identity;
use super::view::Step;
use super::{Fault, at, landlock, messages, mounts, namespaces, network, privileges, system};
use crate::lent;
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What is known first: enough to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ground {
    /// Whether there are namespaces and a view; else the tier is `confined`.
    pub namespaces: bool,
    /// Who we are.
    pub identity: Identity,
    /// Whether the network is the host's.
    pub open: bool,
    /// Where the command's 0, 1 and 2 come from.
    pub streams: [RawFd; 3],
    /// Descriptors the command keeps, at the same numbers.
    pub kept: Vec<RawFd>,
}

/// What is decided next: the places, and what is made in them.
#[derive(Clone)]
pub struct View {
    /// Ports at which connections to any address are handed out; `None`: nothing is reached by name.
    pub hosts: Option<Vec<u16>>,
    /// The view of files.
    pub steps: Vec<Step>,
    /// Bytes in private directories.
    pub disk: Option<u64>,
    /// Processes of the command, at most.
    pub processes: Option<u64>,
    /// Version of Landlock to use; 0 for none.
    pub landlock: u32,
    /// The rules of the Landlock layers.
    pub rules: Vec<Rule>,
    /// The directory the command starts in.
    pub directory: CString,
    /// Which of 0, 1, 2 are put on a terminal of the sandbox's own; `None` for no terminal.
    pub terminal: Option<[bool; 3]>,
}

/// What is decided last: the command and its filter. Every decision was taken by the supervisor.
#[derive(Clone)]
pub struct Spec {
    /// The seccomp filter; empty for none.
    pub filter: Vec<Instruction>,
    /// Whether a monitor answers notifications.
    pub supervised: bool,
    /// Whether the filter lets `futex` through without asking.
    pub wakes: bool,
    /// The command and its arguments.
    pub arguments: Vec<CString>,
    /// `NAME=value`.
    pub environment: Vec<CString>,
    /// Limits.
    pub limits: Limits,
    /// The signal mask the supervisor was started with.
    pub mask: libc::sigset_t,
}

/// From the first process to the supervisor, once, before the command runs.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Report {
    /// Everything stands. Descriptors beside it: the sandbox's `/proc`, what listens where hosts are reached
    /// by name, and the terminal's master where there is one.
    Ready {},
    /// There is no such program in the view, or it may not be executed (`EACCES`).
    NoProgram {
        /// `errno`.
        errno: i32,
    },
    /// A step failed; nothing ran.
    Unable {
        /// What was being done, beginning with the layer.
        doing: String,
        /// `errno`, when there is one.
        errno: i32,
    },
}

/// How long the first process waits at a time for a word of the command's process, whose filter may forbid it to wake.
const SILENCE: Duration = Duration::from_micros(100);

/// What is being done when the directory that the command starts in is entered; its name follows.
pub const ENTERING: &str = "view: enter ";

/// The supervisor's word that the run is on the log.
pub const GO: &[u8] = b"go";

/// What the monitor sees other runs' logs by: descriptors from the supervisor.
#[derive(Debug)]
pub struct Watch {
    /// The file of runs that are going.
    pub going: OwnedFd,
    /// The list of named logs.
    pub list: OwnedFd,
}

/// What the monitor is handed when the command waits to be let go.
pub struct Handover {
    /// The way to the seccomp listener, when supervised.
    pub listener: Option<Awaited>,
    /// The command's pid here.
    pub command: libc::pid_t,
    /// `O_PATH` of `/` in the view.
    pub root: OwnedFd,
    /// The socket to the supervisor.
    pub supervisor: OwnedFd,
    /// The command's terminal in the view.
    pub terminal: Option<std::path::PathBuf>,
    /// Where datagrams that reach nobody are seen, with hosts.
    pub datagrams: Option<OwnedFd>,
    /// What came with the spec.
    pub watch: Option<Watch>,
}

/// The listener of a command's process that may still be at its last walls, while the start is still being put on the
/// log: whoever serves gets ready meanwhile.
pub struct Awaited {
    command: OwnedFd,
    progress: &'static Progress,
}

impl Awaited {
    /// Wait for the supervisor's word, then for the listener, and take it; `None` when the command's process failed before
    /// it had one. That process shares our memory still: whoever serves closes it to others before the command's program
    /// runs. Ends this process when the command's is gone without a word.
    #[must_use]
    pub fn take(self, supervisor: BorrowedFd<'_>) -> Option<OwnedFd> {
        let Self { command, progress } = self;
        wait_for_word(supervisor);
        let mut listener = None;
        while listener.is_none() && progress.failure().is_none() {
            match progress.listener.load(Ordering::Acquire) {
                number if number >= 0 => {
                    let taken = system::take_descriptor(command.as_fd(), number);
                    listener = Some(taken.unwrap_or_else(|_| exit(125)));
                }
                _ => {
                    progress.wait(SILENCE);
                    // Killed between two steps, it could not tell.
                    if system::ends_within(command.as_fd(), Duration::ZERO)
                        && progress.listener.load(Ordering::Acquire) < 0
                        && progress.failure().is_none()
                    {
                        exit(125)
                    }
                }
            }
        }
        listener
    }
}

/// The command waits until its start is on the log.
fn wait_for_word(supervisor: BorrowedFd<'_>) {
    let mut word = [0; 8];
    match messages::receive(supervisor, &mut word, true) {
        Ok((length, _)) if &word[..length] == GO => {}
        _ => exit(125),
    }
}

/// Run the first process. `socket` leads to the supervisor, over which it says where it [lent](lent) the rest: a
/// [`View`], then a [`Spec`] with what `serve` begins with, which never returns.
///
/// # Safety
/// The range was made by the process that this one was copied from, which puts these there and nothing else.
pub unsafe fn run<T>(
    ground: &Ground,
    socket: OwnedFd,
    progress: &'static Progress,
    serve: impl FnOnce(T, Handover),
) -> ! {
    let socket = match isolate_descriptors(ground, socket) {
        Ok(socket) => socket,
        // Without the socket there is nobody to tell; the supervisor sees the end of it.
        Err(_) => exit(125),
    };
    // SAFETY: as the caller promises.
    let done = unsafe { stand(ground, &socket) };
    match done {
        Ok((rest, spec, prepared)) => {
            let handover = start(ground, &spec, socket, prepared, progress);
            serve(rest, handover);
            exit(0)
        }
        Err(Obstacle::NoProgram(error)) => {
            tell(
                &socket,
                &Report::NoProgram {
                    errno: error.raw_os_error().unwrap_or(libc::ENOENT),
                },
                &[],
            );
            exit(0)
        }
        Err(Obstacle::Fault(fault)) => {
            let errno = fault.error.raw_os_error().unwrap_or(libc::EIO);
            tell(
                &socket,
                &Report::Unable {
                    doing: fault.doing,
                    errno,
                },
                &[],
            );
            exit(125)
        }
    }
}

enum Obstacle {
    Fault(Fault),
    NoProgram(io::Error),
}

impl From<Fault> for Obstacle {
    fn from(fault: Fault) -> Obstacle {
        Obstacle::Fault(fault)
    }
}

/// What stands when the view does.
struct Viewed {
    root: OwnedFd,
    processes: OwnedFd,
    ruleset: Option<OwnedFd>,
    listening: Vec<OwnedFd>,
    datagrams: Option<OwnedFd>,
    master: Option<OwnedFd>,
    terminal: Option<(OwnedFd, [bool; 3])>,
    slave_path: Option<std::path::PathBuf>,
}

struct Prepared {
    command: Command,
    root: OwnedFd,
    terminal: Option<std::path::PathBuf>,
    gate: Option<OwnedFd>,
    datagrams: Option<OwnedFd>,
    watch: Option<Watch>,
}

/// Put all walls up that are not the command's own, and say so.
///
/// # Safety
/// As [`run`].
unsafe fn stand<T>(ground: &Ground, socket: &OwnedFd) -> Result<(T, Spec, Prepared), Obstacle> {
    begin(ground)?;
    let told = at("memory: what the supervisor lent");
    // SAFETY: what comes over the socket comes from the process that this one was copied from, which put these there.
    unsafe {
        let mut apart = lent::part().map_err(&told)?;
        let view: View = apart.take(next(socket).0).map_err(&told)?;
        let viewed = show(ground, view)?;
        let (filled, descriptors) = next(socket);
        let (spec, rest): (Spec, T) = apart.take(filled).map_err(&told)?;
        apart.end().map_err(&told)?;
        let (spec, mut prepared) = prepare(spec, viewed, socket)?;
        let watch = <[OwnedFd; 2]>::try_from(descriptors).ok();
        prepared.watch = watch.map(|[going, list]| Watch { going, list });
        Ok((rest, spec, prepared))
    }
}

/// Wait for the supervisor's next message, and what comes beside it. One that refuses to go on says so itself: then this process ends.
fn next(socket: &OwnedFd) -> (lent::Filled, Vec<OwnedFd>) {
    let mut message = [0; 32];
    let Ok((length, descriptors)) = messages::receive(socket.as_fd(), &mut message, true) else {
        exit(125)
    };
    match lent::Filled::from_bytes(&message[..length]) {
        Some(filled) => (filled, descriptors),
        None => exit(125),
    }
}

fn exit(code: i32) -> ! {
    // SAFETY: ends this process at once, running nothing of the supervisor's that was copied into it.
    unsafe { libc::_exit(code) }
}

fn tell(socket: &OwnedFd, report: &Report, descriptors: &[RawFd]) {
    if let Ok(bytes) = serde_json::to_vec(report) {
        // A supervisor that is gone needs no telling.
        let _ = messages::send(socket.as_fd(), &bytes, descriptors);
    }
}

/// Put the command's streams at 0, 1, 2 and close everything else but the socket and the kept descriptors.
fn isolate_descriptors(ground: &Ground, socket: OwnedFd) -> io::Result<OwnedFd> {
    let top = ground.kept.iter().max().map_or(3, |kept| kept + 1).max(3);
    let move_up = |from: RawFd| -> io::Result<RawFd> {
        // SAFETY: plain integers.
        let raw =
            system::check(unsafe { libc::fcntl(from, libc::F_DUPFD_CLOEXEC, top + 8) }.into())?;
        Ok(raw as RawFd)
    };
    // First out of the way, then into place: the numbers may overlap.
    let streams = [
        move_up(ground.streams[0])?,
        move_up(ground.streams[1])?,
        move_up(ground.streams[2])?,
    ];
    let moved = move_up(socket.into_raw_fd())?;
    for (number, from) in streams.into_iter().enumerate() {
        // SAFETY: plain integers; in this process nothing owns 0, 1 or 2.
        system::check(unsafe { libc::dup2(from, number as RawFd) }.into())?;
    }
    // SAFETY: plain integers; `top` is none of the descriptors in use.
    system::check(unsafe { libc::dup3(moved, top, libc::O_CLOEXEC) }.into())?;
    for number in 3..top {
        if ground.kept.contains(&number) {
            // SAFETY: plain integers. The command must inherit it.
            system::check(unsafe { libc::fcntl(number, libc::F_SETFD, 0) }.into())?;
        } else {
            // SAFETY: plain integers; what lies between is the supervisor's.
            unsafe { libc::close(number) };
        }
    }
    system::close_from(top + 1)?;
    // SAFETY: `top` was just made and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(top) })
}

/// What needs no more than the ground.
fn begin(ground: &Ground) -> Result<(), Fault> {
    system::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)
        .map_err(at("privileges: follow the supervisor"))?;
    if ground.namespaces {
        namespaces::map_identity(ground.identity)?;
        if !ground.open {
            namespaces::network()?;
        }
        privileges::empty_bounding_set()?;
    }
    privileges::no_new_privileges()
}

/// The view, what is made in it, and the first Landlock layer.
fn show(ground: &Ground, view: View) -> Result<Viewed, Fault> {
    if ground.namespaces {
        namespaces::bound(view.processes)?;
        mounts::build(&view.steps, view.disk)?;
    }
    let (listening, datagrams) = match &view.hosts {
        Some(ports) => (network::listeners(ports)?, Some(network::datagrams()?)),
        None => (Vec::new(), None),
    };
    let (master, terminal, slave_path) = terminal(view.terminal)?;
    if ground.namespaces {
        privileges::keep_capabilities(privileges::SYS_PTRACE)
            .map_err(at("privileges: drop capabilities"))?;
    }
    // SAFETY: a valid C string.
    system::check(unsafe { libc::chdir(view.directory.as_ptr()) }.into()).map_err(|error| {
        Fault::new(
            format!("{ENTERING}{}", view.directory.to_string_lossy()),
            error,
        )
    })?;
    let root = system::open(c"/", libc::O_PATH | libc::O_DIRECTORY).map_err(at("view: open /"))?;
    let ruleset = match view.landlock {
        0 => None,
        version => {
            let ruleset = landlock::ruleset(version, &view.rules)?;
            landlock::restrict(&ruleset).map_err(at("landlock: restrict"))?;
            Some(ruleset)
        }
    };
    let processes = system::open(c"/proc", libc::O_RDONLY | libc::O_DIRECTORY)
        .map_err(at("view: open /proc"))?;
    Ok(Viewed {
        root,
        processes,
        ruleset,
        listening,
        datagrams,
        master,
        terminal,
        slave_path,
    })
}

/// The command, ready to be started; then everything stands.
fn prepare(mut spec: Spec, viewed: Viewed, socket: &OwnedFd) -> Result<(Spec, Prepared), Obstacle> {
    let path = spec
        .environment
        .iter()
        .find_map(|entry| entry.to_bytes().strip_prefix(b"PATH="));
    let program = find_program(&spec.arguments[0], path).map_err(Obstacle::NoProgram)?;
    let (gate, gate_end) = if spec.supervised {
        (None, None)
    } else {
        let (reading, writing) = system::pipe().map_err(at("seccomp: make the gate"))?;
        (Some(reading), Some(writing))
    };
    let mut descriptors = vec![viewed.processes.as_raw_fd()];
    descriptors.extend(viewed.listening.iter().map(AsRawFd::as_raw_fd));
    descriptors.extend(viewed.master.as_ref().map(AsRawFd::as_raw_fd));
    tell(socket, &Report::Ready {}, &descriptors);
    let prepared = Prepared {
        command: Command {
            program,
            arguments: std::mem::take(&mut spec.arguments),
            environment: std::mem::take(&mut spec.environment),
            terminal: viewed.terminal,
            limits: spec.limits,
            ruleset: viewed.ruleset,
            filter: std::mem::take(&mut spec.filter),
            supervised: spec.supervised,
            wakes: spec.wakes,
            gate,
            mask: spec.mask,
        },
        root: viewed.root,
        terminal: viewed.slave_path,
        gate: gate_end,
        datagrams: viewed.datagrams,
        watch: None,
    };
    Ok((spec, prepared))
}

type Terminal = (
    Option<OwnedFd>,
    Option<(OwnedFd, [bool; 3])>,
    Option<std::path::PathBuf>,
);

/// A terminal from the sandbox's own `/dev/pts`, so that its name exists inside.
fn terminal(wanted: Option<[bool; 3]>) -> Result<Terminal, Fault> {
    let Some(which) = wanted else {
        return Ok((None, None, None));
    };
    let told = at("terminal: make one");
    let master = system::open(c"/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY).map_err(&told)?;
    let (mut number, mut lock) = (0i32, 0i32);
    for (request, place) in [
        (libc::TIOCSPTLCK, &raw mut lock),
        (libc::TIOCGPTN, &raw mut number),
    ] {
        // SAFETY: both requests take a pointer to an `int`, which outlives the call.
        let result = unsafe { libc::ioctl(master.as_raw_fd(), request, place) };
        system::check(result.into()).map_err(&told)?;
    }
    let path = format!("/dev/pts/{number}");
    let c_path = system::c_path(Path::new(&path)).map_err(&told)?;
    let slave = system::open(&c_path, libc::O_RDWR | libc::O_NOCTTY).map_err(&told)?;
    Ok((Some(master), Some((slave, which)), Some(path.into())))
}

/// Copy this process for the command; without a listener to await, wait for the supervisor's word and let it go.
fn start(
    ground: &Ground,
    spec: &Spec,
    socket: OwnedFd,
    prepared: Prepared,
    progress: &'static Progress,
) -> Handover {
    // SAFETY: this process has one thread.
    let begun = unsafe { command::begin(prepared.command, progress) };
    // The supervisor sees the end of the socket before any exit status, and says so.
    let command = begun.unwrap_or_else(|_| exit(125));
    let pid = command.pid;
    // SAFETY: `mask` is a valid set.
    unsafe {
        libc::sigprocmask(
            libc::SIG_SETMASK,
            &raw const spec.mask,
            std::ptr::null_mut(),
        )
    };
    release_streams(&ground.kept);
    // What the command has this process do counts as its own: a file is extended by name no further than by hand.
    if limits::bound_files(spec.limits.file_size).is_err() {
        exit(125)
    }
    let listener = spec.supervised.then_some(Awaited {
        command: command.pidfd,
        progress,
    });
    // Where a listener is awaited, whoever serves does the same.
    if listener.is_none() {
        wait_for_word(socket.as_fd());
        if let Some(gate) = prepared.gate {
            // SAFETY: one byte of constant memory.
            unsafe { libc::write(gate.as_raw_fd(), b"!".as_ptr().cast(), 1) };
        }
        if system::prctl(libc::PR_SET_DUMPABLE, 0).is_err() {
            exit(125)
        }
    }
    Handover {
        listener,
        command: pid,
        root: prepared.root,
        supervisor: socket,
        terminal: prepared.terminal,
        datagrams: prepared.datagrams,
        watch: prepared.watch,
    }
}

/// Whoever reads the command's output must see its end when the command closes it, not when this process ends.
fn release_streams(kept: &[RawFd]) {
    if let Ok(nowhere) = system::open(c"/dev/null", libc::O_RDWR) {
        for number in 0..3 {
            // SAFETY: plain integers; nothing in this process owns 0, 1 or 2.
            unsafe { libc::dup2(nowhere.as_raw_fd(), number) };
        }
    } else {
        for number in 0..3 {
            // SAFETY: as above.
            unsafe { libc::close(number) };
        }
    }
    for number in kept {
        // SAFETY: the command has its own copy; nothing here owns this one.
        unsafe { libc::close(*number) };
    }
}

/// Wait for the command without a monitor: pid 1 must reap whatever is handed to it. Returns the raw status.
#[must_use]
pub fn reap_until(command: libc::pid_t) -> i32 {
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid place for the result.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if pid == command {
            return status;
        }
        if pid < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return 125 << 8;
        }
    }
}
