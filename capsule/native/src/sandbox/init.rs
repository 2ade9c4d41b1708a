//! The first process of the sandbox: sets the walls up around itself, starts the command, becomes the monitor.
//!
//! The order: identity, view (the network beside them), privileges, Landlock, then the command as a child. It reports [`Report`] to the
//! supervisor and waits for its word before the command's `exec` is let go, so that the run is on the log first.
//! It refuses to go on after any failure: it says which step failed and ends, and everything ends with it.

use super::bpf::Instruction;
use super::command::{Command, Progress, become_command, find_program};
use super::landlock::Rule;
use super::limits::{self, Limits};
use super::namespaces::Identity;
use super::view::Step;
use super::{Fault, at, landlock, messages, mounts, namespaces, network, privileges, system};
use serde::{Deserialize, Serialize};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What the sandbox is made of; every decision in it was taken by the supervisor.
pub struct Spec {
    /// Whether there are namespaces and a view; else the tier is `confined`.
    pub namespaces: bool,
    /// Who we are.
    pub identity: Identity,
    /// Whether the network is the host's.
    pub open: bool,
    /// Ports at which connections to any address are handed out; `None`: nothing is reached by name.
    pub hosts: Option<Vec<u16>>,
    /// The view of files.
    pub steps: Vec<Step>,
    /// Bytes in private directories.
    pub disk: Option<u64>,
    /// Version of Landlock to use; 0 for none.
    pub landlock: u32,
    /// The rules of the Landlock layers.
    pub rules: Vec<Rule>,
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
    /// The directory it starts in.
    pub directory: CString,
    /// Where the command's 0, 1 and 2 come from.
    pub streams: [RawFd; 3],
    /// A descriptor the command keeps, at the same number.
    pub kept: Option<RawFd>,
    /// Which of 0, 1, 2 are put on a terminal of the sandbox's own; `None` for no terminal.
    pub terminal: Option<[bool; 3]>,
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

/// The supervisor's word that the run is on the log.
pub const GO: &[u8] = b"go";

/// What the monitor is handed when the command waits to be let go.
pub struct Handover {
    /// The seccomp listener, when supervised.
    pub listener: Option<OwnedFd>,
    /// The command's pid here.
    pub command: libc::pid_t,
    /// `O_PATH` of `/` in the view.
    pub root: OwnedFd,
    /// The socket to the supervisor.
    pub supervisor: OwnedFd,
    /// The command's terminal in the view.
    pub terminal: Option<std::path::PathBuf>,
}

/// Run the first process. `socket` leads to the supervisor; `serve` never returns.
pub fn run(
    mut spec: Spec,
    socket: OwnedFd,
    progress: &'static Progress,
    serve: impl FnOnce(Handover),
) -> ! {
    let socket = match isolate_descriptors(&spec, socket) {
        Ok(socket) => socket,
        // Without the socket there is nobody to tell; the supervisor sees the end of it.
        Err(_) => exit(125),
    };
    match prepare(&mut spec, &socket) {
        Ok(prepared) => {
            let handover = start(spec, socket, prepared, progress);
            serve(handover);
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

struct Prepared {
    command: Command,
    root: OwnedFd,
    terminal: Option<std::path::PathBuf>,
    gate: Option<OwnedFd>,
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

/// Put the command's streams at 0, 1, 2 and close everything else but the socket and the kept descriptor.
fn isolate_descriptors(spec: &Spec, socket: OwnedFd) -> io::Result<OwnedFd> {
    let top = spec.kept.map_or(3, |kept| kept + 1).max(3);
    let move_up = |from: RawFd| -> io::Result<RawFd> {
        // SAFETY: plain integers.
        let raw =
            system::check(unsafe { libc::fcntl(from, libc::F_DUPFD_CLOEXEC, top + 8) }.into())?;
        Ok(raw as RawFd)
    };
    // First out of the way, then into place: the numbers may overlap.
    let streams = [
        move_up(spec.streams[0])?,
        move_up(spec.streams[1])?,
        move_up(spec.streams[2])?,
    ];
    let moved = move_up(socket.into_raw_fd())?;
    for (number, from) in streams.into_iter().enumerate() {
        // SAFETY: plain integers; in this process nothing owns 0, 1 or 2.
        system::check(unsafe { libc::dup2(from, number as RawFd) }.into())?;
    }
    // SAFETY: plain integers; `top` is none of the descriptors in use.
    system::check(unsafe { libc::dup3(moved, top, libc::O_CLOEXEC) }.into())?;
    if let Some(kept) = spec.kept {
        // SAFETY: plain integers. The command must inherit it.
        system::check(unsafe { libc::fcntl(kept, libc::F_SETFD, 0) }.into())?;
        for number in 3..kept {
            // SAFETY: plain integers; what lies between is the supervisor's.
            unsafe { libc::close(number) };
        }
    }
    system::close_from(top + 1)?;
    // SAFETY: `top` was just made and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(top) })
}

fn prepare(spec: &mut Spec, socket: &OwnedFd) -> Result<Prepared, Obstacle> {
    if spec.namespaces {
        let network = match spec.open {
            true => None,
            false => Some(namespaces::Network::begin()?),
        };
        namespaces::map_identity(spec.identity)?;
        namespaces::bound(spec.limits.processes)?;
        mounts::build(&spec.steps, spec.disk)?;
        if let Some(network) = network {
            network.enter()?;
        }
    }
    let listening = match &spec.hosts {
        Some(ports) => network::listeners(ports)?,
        None => Vec::new(),
    };
    system::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)
        .map_err(at("privileges: follow the supervisor"))?;
    let (master, terminal, slave_path) = terminal(spec)?;
    privileges::no_new_privileges()?;
    if spec.namespaces {
        privileges::empty_bounding_set()?;
        privileges::keep_capabilities(privileges::SYS_PTRACE)
            .map_err(at("privileges: drop capabilities"))?;
    }
    // SAFETY: a valid C string.
    system::check(unsafe { libc::chdir(spec.directory.as_ptr()) }.into()).map_err(|error| {
        Fault::new(
            format!("view: enter {}", spec.directory.to_string_lossy()),
            error,
        )
    })?;
    let root = system::open(c"/", libc::O_PATH | libc::O_DIRECTORY).map_err(at("view: open /"))?;
    let ruleset = match spec.landlock {
        0 => None,
        version => {
            let ruleset = landlock::ruleset(version, &spec.rules)?;
            landlock::restrict(&ruleset).map_err(at("landlock: restrict"))?;
            Some(ruleset)
        }
    };
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
    let processes = system::open(c"/proc", libc::O_RDONLY | libc::O_DIRECTORY)
        .map_err(at("view: open /proc"))?;
    let mut descriptors = vec![processes.as_raw_fd()];
    descriptors.extend(listening.iter().map(AsRawFd::as_raw_fd));
    descriptors.extend(master.as_ref().map(AsRawFd::as_raw_fd));
    tell(socket, &Report::Ready {}, &descriptors);
    Ok(Prepared {
        command: Command {
            program,
            arguments: std::mem::take(&mut spec.arguments),
            environment: std::mem::take(&mut spec.environment),
            terminal,
            limits: spec.limits,
            ruleset,
            filter: std::mem::take(&mut spec.filter),
            supervised: spec.supervised,
            wakes: spec.wakes,
            gate,
            mask: spec.mask,
        },
        root,
        terminal: slave_path,
        gate: gate_end,
    })
}

type Terminal = (
    Option<OwnedFd>,
    Option<(OwnedFd, [bool; 3])>,
    Option<std::path::PathBuf>,
);

/// A terminal from the sandbox's own `/dev/pts`, so that its name exists inside.
fn terminal(spec: &Spec) -> Result<Terminal, Fault> {
    let Some(which) = spec.terminal else {
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

/// Fork the command, wait for the supervisor's word, take the listener.
fn start(spec: Spec, socket: OwnedFd, prepared: Prepared, progress: &'static Progress) -> Handover {
    // SAFETY: this process is single-threaded.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => {
            // The supervisor sees the end of the socket before any exit status, and says so.
            exit(125)
        }
        0 => become_command(&prepared.command, progress),
        _ => {}
    }
    drop(prepared.command);
    // SAFETY: `mask` is a valid set.
    unsafe {
        libc::sigprocmask(
            libc::SIG_SETMASK,
            &raw const spec.mask,
            std::ptr::null_mut(),
        )
    };
    release_streams(spec.kept);
    // What the command has this process do counts as its own: a file is extended by name no further than by hand.
    if limits::bound_files(spec.limits.file_size).is_err() {
        exit(125)
    }
    let command = system::open_pid(pid);
    let mut word = [0; 8];
    match messages::receive(socket.as_fd(), &mut word, true) {
        Ok((length, _)) if &word[..length] == GO => {}
        _ => exit(125),
    }
    if let Some(gate) = prepared.gate {
        // SAFETY: one byte of constant memory.
        unsafe { libc::write(gate.as_raw_fd(), b"!".as_ptr().cast(), 1) };
    }
    let mut listener = None;
    while spec.supervised && listener.is_none() && progress.failure().is_none() {
        match (&command, progress.listener.load(Ordering::Acquire)) {
            (Ok(command), number) if number >= 0 => {
                listener = Some(
                    system::take_descriptor(command.as_fd(), number).unwrap_or_else(|_| exit(125)),
                );
            }
            (Ok(command), _) => {
                progress.wait(SILENCE);
                // Killed between two steps, it could not tell.
                if system::ends_within(command.as_fd(), Duration::ZERO)
                    && progress.listener.load(Ordering::Acquire) < 0
                    && progress.failure().is_none()
                {
                    exit(125)
                }
            }
            (Err(_), _) => exit(125),
        }
    }
    // From here on nothing of the sandbox may look into this process.
    if system::prctl(libc::PR_SET_DUMPABLE, 0).is_err() {
        exit(125)
    }
    Handover {
        listener,
        command: pid,
        root: prepared.root,
        supervisor: socket,
        terminal: prepared.terminal,
    }
}

/// Whoever reads the command's output must see its end when the command closes it, not when this process ends.
fn release_streams(kept: Option<RawFd>) {
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
    if let Some(kept) = kept {
        // SAFETY: the command has its own copy; nothing here owns this one.
        unsafe { libc::close(kept) };
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
