//! One run: decide, start the sandbox, put the start on the log, let the command go, supervise, put the end on the log.
//!
//! The sandbox is begun while the rest is decided, and set up while the start is being written; its command waits for
//! both. It refuses to let anything run
//! that is not on the log, and reports what it cannot record.

use super::Request;
use super::begun::{Begun, Rest, Sandbox};
use super::cgroup::{self, Group};
use super::control::Control;
use super::dial::Reachable;
use super::egress::{self, Prepared};
use super::guard::{self, Precious};
use super::journal::{Journal, value};
use super::overlay::{self, About};
use super::places;
use super::pump::Pump;
use super::raw_mode::is_terminal;
use super::recorder::Recorder;
use super::relay::{Ended, Relay};
use super::report::{Cause, Exit, Report, Seen, Usage};
use super::signals::Signals;
use super::specify::{self, Specified};
use super::standing::{self, Standing, no_program};
use super::streams::{self, Streams};
use super::tier::Host;
use super::unstarted;
use super::usage::{Bounds, Tree};
use crate::audit::{Places, Value, Writer};
use crate::lent::Lent;
use crate::monitor::wire;
use crate::plan::{self, Grant, NetworkMode, Origin, Plan, Program};
use crate::sandbox::command::{Progress, Stage};
use crate::sandbox::init::{GO, Ground};
use crate::sandbox::{messages, namespaces, privileges, system};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The log's name when none is given.
const LOG: &str = "capsule.log";

pub(super) fn refuse(why: impl ToString) -> Exit {
    Exit::of_capsule(Cause::Refused, why.to_string())
}

pub(super) fn failed(what: &'static str) -> impl Fn(io::Error) -> Exit {
    move |error| refuse(format!("{what}: {error}"))
}

/// Run a request to its end.
#[must_use]
pub fn run(request: &Request) -> Report {
    let mut report = blank(request);
    report.exit = carry_out(request, &mut report).unwrap_or_else(|refused| refused);
    report
}

/// The report before anything was done.
fn blank(request: &Request) -> Report {
    Report {
        capsule: 1,
        run: None,
        command: request
            .command
            .iter()
            .map(|part| wire::text(part.as_bytes()))
            .collect(),
        cwd: std::env::current_dir().map_or_else(
            |_| String::new(),
            |here| wire::text(here.as_os_str().as_bytes()),
        ),
        exit: refuse(""),
        policy: None,
        enforced: None,
        denials: Vec::new(),
        denials_total: 0,
        findings: Vec::new(),
        repositories: Vec::new(),
        executed: 0,
        written: 0,
        usage: Usage::default(),
        log: None,
        seen: None,
        notice: None,
    }
}

/// The report of a run that a command line does not describe.
#[must_use]
pub fn refused(why: &str) -> Report {
    Report {
        exit: refuse(why),
        ..blank(&Request::default())
    }
}

fn carry_out(request: &Request, report: &mut Report) -> Result<Exit, Exit> {
    let started = Instant::now();
    let run = name()?;
    let (mut ours, mut theirs) = (None, None);
    if request.worker {
        let (left, right) = UnixStream::pair().map_err(failed("the worker's connection"))?;
        (ours, theirs) = (Some(OwnedFd::from(left)), Some(OwnedFd::from(right)));
    }
    let mut lent = Lent::new().map_err(failed("memory"))?;
    let mut group = Group::make(&run);
    let made = group.as_ref().map(drop).map_err(Clone::clone);
    let mut host = Host::probe(made, &request.waived);
    let mut ground = Ground {
        namespaces: host.namespaces.is_ok(),
        identity: namespaces::Identity::own(),
        // As nearly every plan has it.
        open: false,
        streams: [theirs.as_ref().map_or(0, AsRawFd::as_raw_fd), 1, 2],
        kept: request.passed.clone(),
    };
    let mut begun = Begun::begin(&ground, group.as_ref().ok(), &lent);

    let mut loaded = plan::load(&plan::Request {
        policy: request.policy.as_deref(),
        tool: request.tool.as_deref(),
    })
    .map_err(refuse)?;
    report.cwd = wire::text(loaded.variables.cwd().as_os_str().as_bytes());
    report.policy = Some(specify::policy_name(&loaded.plan));
    report.notice.clone_from(&loaded.notice);
    let signals = Signals::watch().map_err(failed("signals"))?;
    grant_reads(&mut loaded.plan, &request.read);
    grant_programs(&mut loaded.plan, &request.programs);
    let state = loaded.directories.state.as_deref();
    let mut egress = egress::prepare(&mut loaded.plan, &loaded.variables, state).map_err(refuse)?;

    let unbounded = group.as_ref().ok().and_then(|group| {
        let limits = &loaded.plan.limits;
        let bounds = cgroup::Bounds {
            memory: limits.memory,
            processes: limits.processes,
        };
        group.bound(bounds).err()
    });
    let mut tier = specify::layers(request, &loaded.plan, &host).map_err(refuse)?;
    let terminals = [is_terminal(0), is_terminal(1), is_terminal(2)];
    let terminal = (terminals[0] && tier.namespaces).then_some(terminals);
    let streams = Streams::choose(loaded.plan.limits.output.is_some(), terminal);
    let streams = streams.map_err(failed("streams"))?;
    let presumed = ground.clone();
    ground.open = loaded.plan.network.mode == NetworkMode::Open;
    ground.streams[1..].copy_from_slice(&streams.output);
    if ground != presumed || unbounded.is_some() {
        // It is in the group: it goes first.
        drop(begun);
        if let Some(why) = unbounded {
            group = Err(why.clone());
            host.cgroup = Err(why);
            tier = specify::layers(request, &loaded.plan, &host).map_err(refuse)?;
        }
        begun = Begun::begin(&ground, group.as_ref().ok(), &lent);
    }
    let begun = begun?;
    drop(theirs);
    let pumps = streams.into_pumps();
    let brought = egress
        .as_mut()
        .map_or_else(Vec::new, |egress| std::mem::take(&mut egress.brought));
    let mut viewed = specify::view(&loaded.plan, &loaded.variables, &tier, terminals, brought)
        .map_err(refuse)?;
    let log = request.log.clone().unwrap_or_else(|| PathBuf::from(LOG));
    let named = loaded.variables.cwd().join(log);
    let log = guard::real(&named);
    let ways = places::links(&named).map_err(|error| refuse(format!("the log: {error}")))?;
    let mut kept = plan::always(&loaded.plan, Some(&log), &loaded.directories);
    kept.extend(ways.iter().map(|link| plan::Kept {
        names: plan::Pattern::literal(link.as_os_str().as_bytes()),
        guard: plan::Guard::Protected,
        reason: "a link on the way to the log of this run".to_owned(),
    }));
    let mut note = |text: String| {
        let notices = report.notice.take().into_iter().chain([text]);
        report.notice = Some(notices.collect::<Vec<_>>().join("; "));
    };
    if !tier.supervisor {
        let mut precious = precious(&loaded, log.clone());
        precious.extend(ways.into_iter().map(|path| Precious {
            path,
            what: "a link on the way to the log",
        }));
        guard::unwritable(&precious, &viewed.places.view).map_err(refuse)?;
        let lost = guard::lost(&loaded.plan, &loaded.variables, &viewed.places.view);
        note(if lost.is_empty() {
            "without the layer `supervisor` no refusal of a name is told".to_owned()
        } else {
            let count = lost.len();
            format!(
                "without the layer `supervisor` {count} lines do not hold: {}",
                lost.join(", ")
            )
        });
    }
    // While it is there, nobody reviews the layers.
    let _layers = match (&loaded.directories.state, request.overlay) {
        (_, false) => None,
        (None, true) => return Err(refuse("--overlay needs a home directory: set HOME")),
        (Some(state), true) => {
            let about = About {
                run: &run,
                command: &report.command,
                plan: &loaded.plan,
                variables: &loaded.variables,
                kept: &kept,
            };
            let steps = &mut viewed.view.steps;
            let layers = overlay::lay(&about, state, steps, &viewed.places.view);
            note(format!("what it wrote is kept apart: capsule diff {run}"));
            Some(layers.map_err(refuse)?)
        }
    };
    begun.show(&mut lent, &viewed.view)?;
    let interactive = viewed.view.terminal.is_some() && terminals[2];
    let sockets = viewed.places.sockets.clone();
    let Specified {
        spec,
        monitored,
        audit,
    } = specify::specify(
        request,
        &loaded.plan,
        &loaded.variables,
        kept,
        viewed,
        &mut tier,
        signals.before,
    )
    .map_err(refuse)?;
    // The process ends soon: freeing what has no end of its own would only take time.
    let (spec, monitored) = (ManuallyDrop::new(spec), ManuallyDrop::new(monitored));
    let control = control(request)?;
    let sandbox = begun.hand_over(lent, &spec, &monitored, group.ok())?;
    if let Some(egress) = &mut egress {
        egress.gather().map_err(refuse)?;
    }
    let mut fields = vec![
        ("command", value(&report.command)),
        ("cwd", Value::from(report.cwd.clone())),
        ("policy", value(&report.policy)),
        ("plan", Value::from(loaded.digest.clone())),
        ("enforced", value(&tier.enforced)),
        ("audit", value(&audit)),
        ("read", value(&request.read)),
        ("worker", Value::from(request.worker)),
        ("who", who()),
        ("host", machine()),
        ("version", Value::from(env!("CARGO_PKG_VERSION"))),
    ];
    let places = Places::from_env().map_err(refuse)?;
    let mut writer = Writer::open(&log, &places).map_err(refuse)?;
    if !request.programs.is_empty() {
        fields.push(("programs", value(&request.programs)));
    }
    if !request.passed.is_empty() {
        fields.push(("passed", value(&request.passed)));
    }
    if let Some(egress) = &egress {
        egress.values().for_each(|secret| writer.know(secret));
        fields.push(("sources", value(&egress.sources())));
    }
    let reachable = Reachable {
        ports: loaded.plan.network.ports.clone(),
        unix: sockets,
    };
    let mut journal = Journal::new(writer, &log, run.clone(), reachable);
    journal.observation = request.observe.then(Default::default);
    journal.start(fields).map_err(refuse)?;
    if egress.as_ref().is_some_and(Prepared::detects) {
        journal.forward();
    }
    let control = match control {
        Some(program) => {
            journal.driven();
            Some(Control::new(program, ours).map_err(failed("the control connection"))?)
        }
        None => None,
    };
    report.run = Some(run.clone());
    report.enforced = Some(tier.enforced);
    let egress = egress.map(|egress| {
        let about = egress::About {
            run,
            command: report.command.clone(),
            cwd: report.cwd.clone(),
            policy: serde_json::json!(report.policy),
            interactive: interactive && !request.worker,
        };
        (egress, about)
    });

    let exit = supervise(
        request,
        &loaded.plan,
        sandbox,
        (control, pumps, egress),
        (&signals, started),
        &mut journal,
        report,
    );
    let (exit, rest) = match exit {
        Ok((exit, rest)) => (explained(exit, &loaded, report, &mut journal), Some(rest)),
        Err(refused) => {
            // Nothing ran, and yet somebody waited.
            report.usage.wall_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            (explained(refused, &loaded, report, &mut journal), None)
        }
    };
    // Nothing of the command lives any more: the end goes on the log while the kernel takes the namespaces down.
    let ended = journal.end(&exit, &report.usage);
    if let Some(rest) = rest {
        rest.bury();
    }
    report.log = journal.place();
    report.seen = journal.observation.take().map(|observation| Seen {
        implied: specify::implied(&loaded.plan, &observation.counted()),
        observation,
        workspace: wire::text(loaded.variables.workspace().as_os_str().as_bytes()),
        home: loaded
            .variables
            .home()
            .map_or_else(String::new, |home| wire::text(home.as_os_str().as_bytes())),
    });
    let ledger = std::mem::take(&mut journal.ledger);
    report.repositories = ledger.repositories();
    report.denials = ledger.denials;
    report.denials_total = ledger.denials_total;
    report.findings = ledger.findings;
    report.executed = ledger.executed;
    report.written = ledger.written;
    std::mem::forget(loaded);
    match ended {
        Ok(()) => Ok(exit),
        Err(why) => Err(Exit::of_capsule(
            Cause::Failed,
            format!("the end of the run is not on the log: {why}"),
        )),
    }
}

/// What no run may change; a monitor keeps it by name.
fn precious(loaded: &plan::Loaded, log: PathBuf) -> Vec<Precious> {
    let mut precious = vec![Precious {
        path: log,
        what: "the log",
    }];
    for (directory, what) in [
        (&loaded.directories.data, "the log's key"),
        (&loaded.directories.state, "the log's memory"),
    ] {
        precious.extend(directory.iter().map(|path| Precious {
            path: guard::real(path),
            what,
        }));
    }
    let sources = loaded.plan.policy.sources.iter();
    let files = sources.filter(|source| source.path.starts_with('/'));
    precious.extend(files.map(|source| Precious {
        path: guard::real(source.path.as_ref()),
        what: "the policy",
    }));
    precious
}

/// An option of the command line, as the place where something was written.
fn option(name: &str) -> Origin {
    Origin {
        file: name.to_owned(),
        line: 1,
        column: 1,
    }
}

/// Programs named on the command line, where the plan names some.
fn grant_programs(plan: &mut Plan, programs: &[String]) {
    if let Some(list) = &mut plan.process.programs {
        list.extend(programs.iter().map(|path| Program {
            path: path.clone(),
            digest: None,
            origin: option("--program"),
        }));
    }
}

/// Directories named on the command line, as grants of the plan.
fn grant_reads(plan: &mut Plan, directories: &[String]) {
    let grants = directories.iter().map(|path| Grant {
        path: path.clone(),
        optional: true,
        origin: option("--read"),
    });
    plan.filesystem.read.extend(grants.clone());
    plan.filesystem.execute.extend(grants);
}

/// The connection of the program that drives the run: ours alone from here on, but for the copy the report goes to.
fn control(request: &Request) -> Result<Option<OwnedFd>, Exit> {
    let Some(number) = request.control else {
        return Ok(None);
    };
    // SAFETY: plain integers.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    // SAFETY: plain integers.
    if copy < 0 || unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(failed("the control connection")(io::Error::last_os_error()));
    }
    // SAFETY: the kernel has just given us this descriptor alone.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(copy) }))
}

/// A name nobody else's run has.
fn name() -> Result<String, Exit> {
    let mut random = [0u8; 8];
    // SAFETY: the place has the length given.
    let filled = unsafe { libc::getrandom(random.as_mut_ptr().cast(), random.len(), 0) };
    if filled != random.len() as isize {
        return Err(failed("randomness")(io::Error::last_os_error()));
    }
    Ok(random
        .iter()
        .fold("r-".to_owned(), |text, byte| format!("{text}{byte:02x}")))
}

fn who() -> Value {
    let identity = namespaces::Identity::own();
    Value::map([
        ("uid", Value::from(identity.uid)),
        ("gid", Value::from(identity.gid)),
    ])
}

fn machine() -> Value {
    // SAFETY: all-zero is a valid structure, which the call fills with null-terminated strings.
    let name = unsafe {
        let mut name: libc::utsname = std::mem::zeroed();
        libc::uname(&raw mut name);
        name
    };
    let text = |field: &[libc::c_char]| {
        let bytes: Vec<u8> = field
            .iter()
            .map(|c| *c as u8)
            .take_while(|byte| *byte != 0)
            .collect();
        Value::from_bytes(&bytes)
    };
    Value::map([
        ("name", text(&name.nodename)),
        ("kernel", text(&name.release)),
        ("machine", text(&name.machine)),
    ])
}

/// With the reason why a program that the host has does not start. One that the policy does not list is a refusal as any.
fn explained(
    mut exit: Exit,
    loaded: &plan::Loaded,
    report: &Report,
    journal: &mut Journal,
) -> Exit {
    if matches!(exit.cause, Cause::NotFound | Cause::NotExecutable) {
        let command = report.command.first().map_or("", String::as_str);
        if let Some(denial) = unstarted::unlisted(command, &loaded.plan, &loaded.variables) {
            let event = wire::Event::Denied {
                // The latest that it can have been: now.
                mono: u64::MAX,
                count: 1,
                denial,
            };
            if let Err(why) = journal.event(event) {
                return Exit::of_capsule(Cause::Failed, why);
            }
            exit.reason = Some("the policy lists what may be executed".to_owned());
            return exit;
        }
        let why = unstarted::explain(command, &loaded.plan, &loaded.variables);
        exit.reason = why.or(exit.reason);
    }
    exit
}

/// What the run is connected with: the program that drives it, its streams, egress with what that one is told.
type Ends = (
    Option<Control>,
    Vec<Pump>,
    Option<(Prepared, egress::About)>,
);

fn supervise(
    request: &Request,
    plan: &Plan,
    sandbox: Sandbox,
    (control, mut pumps, egress): Ends,
    (signals, started): (&Signals, Instant),
    journal: &mut Journal,
    report: &mut Report,
) -> Result<(Exit, Rest), Exit> {
    let sockets = egress.as_ref().map_or(0, |(egress, _)| egress.sockets());
    let Standing {
        processes,
        listeners,
        master,
    } = standing::wait(sandbox.socket.as_fd(), sockets)?;
    let session = egress.map(|(egress, about)| egress.open(&about, listeners));
    let session = session.transpose().map_err(refuse)?;
    // What the set-up needed, the rest does not.
    privileges::keep_capabilities(0).map_err(failed("privileges"))?;
    system::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(failed("privileges"))?;
    let wall = [plan.limits.wall_time, request.timeout_ms]
        .into_iter()
        .flatten()
        .min();
    let mut terminal = None;
    let mut outputs = pumps.len();
    if let Some(master) = master {
        let ([output, input], mode) =
            streams::terminal_pumps(&master).map_err(failed("terminal"))?;
        pumps.insert(0, output);
        pumps.push(input);
        outputs += 1;
        terminal = Some((master, mode));
    }
    let bounds = Bounds {
        memory: plan.limits.memory.filter(|_| sandbox.group.is_none()),
        cpu: plan.limits.cpu,
        // The kernel's own bound does not hold for the host's root; everywhere else it is exact.
        processes: plan
            .limits
            .processes
            .filter(|_| namespaces::Identity::own().uid == 0),
    };
    let mut relay = Relay {
        child: sandbox.child,
        socket: sandbox.socket,
        signals,
        pumps,
        outputs,
        terminal,
        // The command's time, not that of compiling its policy.
        deadline: wall.map(|ms| Instant::now() + Duration::from_millis(ms)),
        output: plan.limits.output,
        bounds,
        tree: Tree::new(processes),
        group: sandbox.group,
        control,
        buffer: Vec::new(),
        egress: session,
    };
    messages::send(relay.socket.as_fd(), GO, &[]).map_err(failed("the sandbox's first process"))?;
    // While the command begins there is time for it; where it fails, it is done when this process ends.
    let _ = sandbox.lent.map(Lent::end);
    let ended = relay.run(journal);
    let Relay { child, group, .. } = relay;
    let rest = Rest::new(child, group);
    let (cpu_ms, max_rss_bytes) = ended.used.unwrap_or_else(|| rest.bury());
    report.usage = Usage {
        wall_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        cpu_ms,
        max_rss_bytes,
    };
    let exit = conclude(ended, sandbox.progress, plan.limits.cpu.is_some());
    if exit.limit == Some("cpu") && exit.signal.is_some() {
        journal
            .limit("cpu")
            .map_err(|why| Exit::of_capsule(Cause::Failed, why))?;
    }
    Ok((exit, rest))
}

fn conclude(ended: Ended, progress: &Progress, bounded: bool) -> Exit {
    if let Some(exit) = ended.cause {
        return exit;
    }
    match (progress.failure(), ended.status) {
        (Some((Stage::Exec, error)), _) => no_program(&error),
        (Some((stage, error)), _) => refuse(format!("{}: {error}", stage.name())),
        (None, Some(status)) => Exit::from_status(status, bounded),
        (None, None) => Exit::of_capsule(
            Cause::Failed,
            "the monitor ended without a word; everything was killed",
        ),
    }
}
