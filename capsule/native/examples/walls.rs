//! The floor under `capsule run`: the same walls around a command, and nothing else.
//!
//! `walls note FILE` writes down the walls that the preset `workspace` has in this directory. `walls run FILE asked --
//! COMMAND` puts them up as `capsule run` does (two processes, all namespaces, the view, Landlock twice, the same
//! filter, two synced writes) and answers whatever the filter asks without a look; with `unasked` the filter lets those
//! calls pass, and `counted` says how many there were. There is no policy to read, no log to chain, nothing is decided or told: what `capsule run` takes more is
//! what those cost. It refuses nothing that the kernel does not, and protects no name: it is for measuring alone.

#![no_main]

use capsule::arena::Arena;
use capsule::plan;
use capsule::sandbox::bpf::Instruction;
use capsule::sandbox::command::{self, Command, Progress, find_program};
use capsule::sandbox::landlock::{self, Rights, Rule};
use capsule::sandbox::limits::Limits;
use capsule::sandbox::view::{Link, Step};
use capsule::sandbox::{mounts, namespaces, privileges, system};
use capsule::supervise::specify;
use capsule::supervise::tier::Host;
use std::error::Error;
use std::ffi::{CString, c_char, c_int};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[global_allocator]
static MEMORY: Arena = Arena::new();

const ASK: u32 = 0x7fc0_0000;
const ALLOW: u32 = 0x7fff_0000;
const RETURN: u16 = 6;

/// `ioctl`: a descriptor of the network namespace that a socket is in (linux/sockios.h).
const SIOCGSKNS: libc::Ioctl = 0x894c;

/// What `capsule run` works out before it puts up the first wall.
#[derive(Default)]
struct Note {
    steps: Vec<Step>,
    rules: Vec<Rule>,
    filter: Vec<Instruction>,
    environment: Vec<CString>,
    landlock: u32,
    disk: Option<u64>,
}

#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    let given: Vec<_> = std::env::args_os().skip(1).collect();
    let words: Vec<_> = given.iter().map(|word| word.to_string_lossy()).collect();
    let done = match &words[..] {
        [verb, file] if verb == "note" => note(Path::new(&**file)).map(|()| 0),
        [verb, file, how, dashes, _, ..] if verb == "run" && dashes == "--" => {
            run(Path::new(&**file), how, given[4..].to_vec())
        }
        _ => Err("usage: walls note FILE | walls run FILE asked|unasked|counted -- COMMAND".into()),
    };
    done.unwrap_or_else(|error| {
        eprintln!("walls: {error}");
        125
    })
}

fn note(file: &Path) -> Result<()> {
    let request = plan::Request {
        policy: Some("workspace".as_ref()),
        tool: None,
    };
    let loaded = plan::load(&request)?;
    let log = loaded.variables.cwd().join("capsule.log");
    let kept = plan::always(&loaded.plan, Some(&log), &loaded.directories);
    let asked = capsule::supervise::Request {
        command: vec!["true".into()],
        ..Default::default()
    };
    let (plan, variables) = (&loaded.plan, &loaded.variables);
    let host = Host::probe(Err("not measured".to_owned()), &asked.waived);
    let mut tier = specify::layers(&asked, plan, &host)?;
    let viewed = specify::view(plan, variables, &tier, [false; 3], Vec::new())?;
    let view = viewed.view.clone();
    // SAFETY: all-zero is a valid set of signals.
    let before = unsafe { std::mem::zeroed() };
    let spec = specify::specify(&asked, plan, variables, kept, viewed, &mut tier, before)?.spec;
    if !tier.namespaces || !spec.supervised || view.landlock == 0 {
        return Err("this host does not give every layer".into());
    }
    let mut text = format!("V\t{}\t{}\n", view.landlock, view.disk.unwrap_or(0));
    for step in &view.steps {
        writeln!(text, "{}", line(step)?)?;
    }
    for rule in &view.rules {
        let r = rule.rights;
        let bits = [r.read, r.write, r.execute, r.devices, r.list, rule.optional];
        let bits: String = bits.map(|bit| if bit { '1' } else { '0' }).iter().collect();
        writeln!(text, "R\t{bits}\t{}", rule.path.display())?;
    }
    for Instruction { code, jt, jf, k } in &spec.filter {
        writeln!(text, "I\t{code}\t{jt}\t{jf}\t{k}")?;
    }
    for entry in &spec.environment {
        writeln!(text, "E\t{}", entry.to_str()?)?;
    }
    std::fs::write(file, text)?;
    Ok(())
}

fn line(step: &Step) -> Result<String> {
    let flag = |bit: &bool| u8::from(*bit);
    Ok(match step {
        Step::Keep { index, path } => format!("K\t{index}\t{}", path.display()),
        Step::Freeze => "F".to_owned(),
        Step::Cover {
            path,
            mode,
            no_execute,
        } => format!("C\t{mode}\t{}\t{}", flag(no_execute), path.display()),
        Step::Make { path, directory } => format!("M\t{}\t{}", flag(directory), path.display()),
        Step::Link(Link { path, target }) => {
            format!("L\t{}\t{}", target.display(), path.display())
        }
        Step::Show {
            index,
            path,
            writable,
            no_execute,
        } => {
            let (writable, no_execute) = (flag(writable), flag(no_execute));
            format!("S\t{index}\t{writable}\t{no_execute}\t{}", path.display())
        }
        Step::Devices => "D".to_owned(),
        Step::Mask { path } => format!("X\t{}", path.display()),
        Step::Seal { path } => format!("Z\t{}", path.display()),
        Step::Layer { .. } => return Err("no overlay is measured".into()),
    })
}

fn read(file: &Path) -> Result<Note> {
    let text = std::fs::read_to_string(file)?;
    let mut note = Note::default();
    for line in text.lines() {
        let mut words = line.split('\t');
        let mut word = || words.next().ok_or("a line ends early");
        match word()? {
            "V" => {
                note.landlock = word()?.parse()?;
                note.disk = Some(word()?.parse()?).filter(|disk| *disk > 0);
            }
            "K" => note.steps.push(Step::Keep {
                index: word()?.parse()?,
                path: word()?.into(),
            }),
            "F" => note.steps.push(Step::Freeze),
            "C" => note.steps.push(Step::Cover {
                mode: word()?.parse()?,
                no_execute: word()? == "1",
                path: word()?.into(),
            }),
            "M" => note.steps.push(Step::Make {
                directory: word()? == "1",
                path: word()?.into(),
            }),
            "L" => note.steps.push(Step::Link(Link {
                target: word()?.into(),
                path: word()?.into(),
            })),
            "S" => note.steps.push(Step::Show {
                index: word()?.parse()?,
                writable: word()? == "1",
                no_execute: word()? == "1",
                path: word()?.into(),
            }),
            "D" => note.steps.push(Step::Devices),
            "X" => note.steps.push(Step::Mask {
                path: word()?.into(),
            }),
            "Z" => note.steps.push(Step::Seal {
                path: word()?.into(),
            }),
            "R" => {
                let bits: Vec<bool> = word()?.bytes().map(|bit| bit == b'1').collect();
                let [read, write, execute, devices, list, optional] = bits[..] else {
                    return Err("not a rule".into());
                };
                note.rules.push(Rule {
                    path: PathBuf::from(word()?),
                    rights: Rights {
                        read,
                        write,
                        execute,
                        devices,
                        list,
                    },
                    optional,
                });
            }
            "I" => note.filter.push(Instruction {
                code: word()?.parse()?,
                jt: word()?.parse()?,
                jf: word()?.parse()?,
                k: word()?.parse()?,
            }),
            "E" => note.environment.push(CString::new(word()?)?),
            other => return Err(format!("a line that begins with {other:?}").into()),
        }
    }
    Ok(note)
}

fn run(file: &Path, how: &str, command: Vec<std::ffi::OsString>) -> Result<c_int> {
    let mut note = read(file)?;
    let (asked, counted) = (how != "unasked", how == "counted");
    if !asked {
        for instruction in &mut note.filter {
            if instruction.code == RETURN && instruction.k == ASK {
                instruction.k = ALLOW;
            }
        }
    }
    let command = command.into_iter().map(OsStringExt::into_vec);
    let command = command
        .map(CString::new)
        .collect::<std::result::Result<_, _>>()?;
    let identity = namespaces::Identity::own();
    let (ours, theirs) = system::message_pair()?;
    let progress = Progress::shared()?;
    // SAFETY: this process has one thread.
    let Some(child) = (unsafe { system::clone3(namespaces::AT_ONCE, None) })? else {
        drop(ours);
        let status = first(note, identity, command, (asked, counted), &theirs, progress);
        let status = status.unwrap_or_else(|error| {
            eprintln!("walls: {error}");
            125
        });
        // SAFETY: ends this process at once; everything in its namespaces ends with it.
        unsafe { libc::_exit(status) }
    };
    drop(theirs);
    let mut log = std::fs::File::create(file.with_extension("log"))?;
    log.write_all(&[b'x'; 2048])?;
    log.sync_data()?;
    word(&ours, b"g");
    // SAFETY: one byte of our own memory; it comes when the command has ended, or the end of the socket does.
    let ended = unsafe { libc::recv(ours.as_raw_fd(), [0u8].as_mut_ptr().cast(), 1, 0) };
    if ended == 1 {
        log.write_all(&[b'x'; 1024])?;
        log.sync_data()?;
    }
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result.
    unsafe { libc::waitpid(child.pid, &raw mut status, 0) };
    Ok(libc::WEXITSTATUS(status))
}

fn word(socket: &OwnedFd, byte: &[u8; 1]) {
    // SAFETY: one byte of constant memory.
    unsafe {
        libc::send(
            socket.as_raw_fd(),
            byte.as_ptr().cast(),
            1,
            libc::MSG_NOSIGNAL,
        )
    };
}

/// A network namespace in the making: it takes the kernel about as long as the whole view of files, which `capsule run`
/// has it make while it decides. Where nothing is decided it is made beside the view.
struct Network(std::thread::JoinHandle<std::io::Result<OwnedFd>>);

impl Network {
    fn begin() -> std::io::Result<Network> {
        let make = || {
            namespaces::network().map_err(|fault| fault.error)?;
            // By a socket in it: `/proc` is being covered meanwhile.
            let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
            // SAFETY: this ioctl takes no further argument and gives a new descriptor.
            system::owned(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) }.into())
        };
        let thread = std::thread::Builder::new().stack_size(64 * 1024);
        thread.spawn(make).map(Network)
    }

    fn enter(self) -> Result<()> {
        let made = self.0.join().map_err(|_| "the thread is gone")??;
        // SAFETY: plain integers; the descriptor is open.
        let entered = unsafe { libc::setns(made.as_raw_fd(), libc::CLONE_NEWNET) };
        system::check(entered.into())?;
        Ok(())
    }
}

/// The first process of the sandbox.
fn first(
    note: Note,
    identity: namespaces::Identity,
    arguments: Vec<CString>,
    (asked, counted): (bool, bool),
    socket: &OwnedFd,
    progress: &'static Progress,
) -> Result<c_int> {
    let network = Network::begin()?;
    namespaces::map_identity(identity)?;
    namespaces::bound(None)?;
    let here = CString::new(std::env::current_dir()?.into_os_string().into_vec())?;
    mounts::build(&note.steps, note.disk)?;
    network.enter()?;
    system::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64)?;
    privileges::no_new_privileges()?;
    privileges::empty_bounding_set()?;
    privileges::keep_capabilities(privileges::SYS_PTRACE)?;
    // SAFETY: a valid C string.
    unsafe { libc::chdir(here.as_ptr()) };
    let ruleset = landlock::ruleset(note.landlock, &note.rules)?;
    landlock::restrict(&ruleset)?;
    let path = note
        .environment
        .iter()
        .find_map(|entry| entry.to_bytes().strip_prefix(b"PATH="));
    let command = Command {
        program: find_program(&arguments[0], path)?,
        arguments,
        environment: note.environment,
        terminal: None,
        limits: Limits::default(),
        ruleset: Some(ruleset),
        filter: note.filter,
        supervised: asked,
        wakes: true,
        gate: None,
        // SAFETY: all-zero is a valid set of signals.
        mask: unsafe { std::mem::zeroed() },
    };
    // SAFETY: this process has one thread.
    let child = unsafe { command::begin(command, progress) }?;
    // SAFETY: one byte of our own memory.
    if unsafe { libc::recv(socket.as_raw_fd(), [0u8].as_mut_ptr().cast(), 1, 0) } != 1 {
        return Err("nobody is there".into());
    }
    if asked {
        while progress.listener.load(Ordering::Acquire) < 0 && progress.failure().is_none() {
            progress.wait(Duration::from_micros(100));
        }
        let number = progress.listener.load(Ordering::Acquire);
        let listener = system::take_descriptor(child.pidfd.as_fd(), number)?;
        let asks = answer(&listener);
        if counted {
            eprintln!("asks {asks}");
        }
    }
    let mut status = 0;
    // SAFETY: `status` is a valid place for the result.
    while unsafe { libc::waitpid(-1, &raw mut status, 0) } != child.pid {}
    word(socket, b"e");
    Ok(libc::WEXITSTATUS(status))
}

/// Let the kernel perform whatever is asked about, until nobody is left who could ask; how often there was something.
fn answer(listener: &OwnedFd) -> u64 {
    let mut asks = 0;
    let mut one = libc::pollfd {
        fd: listener.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: the requests of linux/seccomp.h with the structures they take, which outlive the calls.
    unsafe {
        libc::ioctl(one.fd, libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS as _, 1);
        while libc::poll(&raw mut one, 1, -1) >= 0 && one.revents & libc::POLLIN != 0 {
            let mut call: libc::seccomp_notif = std::mem::zeroed();
            if libc::ioctl(one.fd, libc::SECCOMP_IOCTL_NOTIF_RECV as _, &raw mut call) < 0 {
                continue;
            }
            asks += 1;
            let response = libc::seccomp_notif_resp {
                id: call.id,
                val: 0,
                error: 0,
                flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
            };
            libc::ioctl(
                one.fd,
                libc::SECCOMP_IOCTL_NOTIF_SEND as _,
                &raw const response,
            );
        }
    }
    asks
}
