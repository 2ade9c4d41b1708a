//! One run: decide, start the sandbox, put the start on the log, let the command go, supervise, put the end on the log.
//!
//! The sandbox is begun while the rest is decided, and set up while the start is being written; its command waits for
//! both. It refuses to let anything run
//! that is not on the log, and reports what it cannot record.

use super::Request;
use super::asked::{control, grant_programs, grant_reads};
use super::begun::Begun;
use super::cgroup::{self, Group};
use super::control::Control;
use super::course::supervise;
use super::dial::Reachable;
use super::egress::{self, Prepared};
use super::guard::{self, Others, Precious};
use super::identity::{machine, name, who};
use super::journal::{Journal, value};
use super::overlay::{self, About};
use super::places;
use super::raw_mode::is_terminal;
use super::recorder::Recorder;
use super::report::{Cause, Exit, Report, Seen, Usage};
use super::signals::Signals;
use super::specify::{self, Specified};
use super::streams::Streams;
use super::tier::Host;
use super::unstarted;
use crate::audit::named::USUAL;
use crate::audit::{Places, Value, Writer};
use crate::lent::Lent;
use crate::monitor::{Watched, wire};
use crate::plan::{self, NetworkMode};
use crate::sandbox::init::Ground;
use crate::sandbox::namespaces;
use std::collections::BTreeSet;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

pub(super) fn refuse(why: impl ToString) -> Exit {
    Exit::of_capsule(Cause::Refused, why.to_string())
}

/// The same for what is told in lines.
pub(super) fn refuse_in_lines(why: impl ToString) -> Exit {
    Exit::in_lines(Cause::Refused, &why.to_string())
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
    .map_err(refuse_in_lines)?;
    report.cwd = wire::text(loaded.variables.cwd().as_os_str().as_bytes());
    report.policy = Some(specify::policy_name(&loaded.plan));
    report.notice.clone_from(&loaded.notice);
    let signals = Signals::watch().map_err(failed("signals"))?;
    grant_reads(&mut loaded.plan, &request.read);
    grant_programs(&mut loaded.plan, &request.programs);
    let state = loaded.directories.state.as_deref();
    let set: BTreeSet<String> = loaded.plan.environment.set.keys().cloned().collect();
    let mut egress =
        egress::prepare(&mut loaded.plan, &loaded.variables, state).map_err(refuse_in_lines)?;

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
    let log = request.log.clone().unwrap_or_else(|| PathBuf::from(USUAL));
    let named = loaded.variables.cwd().join(log);
    let log = guard::real(&named);
    let ways = places::links(&named).map_err(|error| refuse(format!("the log: {error}")))?;
    let mut kept = plan::always(&loaded.plan, Some(&log), &loaded.directories);
    kept.extend(ways.iter().map(|link| plan::Kept {
        names: plan::Pattern::literal(link.as_os_str().as_bytes()),
        guard: plan::Guard::Protected,
        reason: "a link on the way to the log of this run".to_owned(),
    }));
    let others = state
        .map(|state| {
            let policies = plan::named_sources(&loaded.plan);
            Others::of(state, &policies, &viewed.places.view, tier.supervisor)
        })
        .transpose()
        .map_err(refuse)?;
    kept.extend(others.iter().flat_map(Others::kept));
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
        precious.extend(others.iter().flat_map(Others::precious));
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
        mut monitored,
        audit,
        mut environment,
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
    // What egress put in is no word of the policy's.
    environment.set.retain(|name| set.contains(name));
    let mut watch = Vec::new();
    if let Some(others) = &others {
        monitored.watch(Watched {
            page: others.going.page(),
            writable: others.writable.clone(),
            known: others.named.clone(),
        });
        watch.extend([others.going.file().as_raw_fd(), others.list.as_raw_fd()]);
    }
    // The process ends soon: freeing what has no end of its own would only take time.
    let (spec, monitored) = (ManuallyDrop::new(spec), ManuallyDrop::new(monitored));
    let control = control(request)?;
    let sandbox = begun.hand_over(lent, &spec, &monitored, &watch, group.ok())?;
    if let Some(egress) = &mut egress {
        egress.gather().map_err(refuse_in_lines)?;
    }
    let mut fields = vec![
        ("command", value(&report.command)),
        ("cwd", Value::from(report.cwd.clone())),
        ("policy", value(&report.policy)),
        ("plan", Value::from(loaded.digest.clone())),
        ("enforced", value(&tier.enforced)),
        ("audit", value(&audit)),
        ("environment", value(&environment)),
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
            Some(
                Control::new(program, ours, loaded.plan.limits.wall_time)
                    .map_err(failed("the control connection"))?,
            )
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
