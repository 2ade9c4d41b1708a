//! A run from the moment its sandbox stands: the word to go, the supervision, and what its end means.
//!
//! It refuses to give the word before the sandbox has said that it stands and egress is open.

use super::Request;
use super::begun::{Rest, Sandbox};
use super::control::Control;
use super::egress::{self, Prepared};
use super::journal::Journal;
use super::launch::{failed, refuse, refuse_in_lines};
use super::pump::Pump;
use super::recorder::Recorder;
use super::relay::{Ended, Relay};
use super::report::{Cause, Enforced, Exit, Report, Usage};
use super::signals::Signals;
use super::standing::{self, Standing, no_program};
use super::streams;
use super::usage::{Bounds, Pace, Tree, kernel_bounds_processes};
use crate::lent::Lent;
use crate::plan::Plan;
use crate::sandbox::command::{Progress, Stage};
use crate::sandbox::init::GO;
use crate::sandbox::{messages, namespaces, privileges, system};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// What the run is connected with: the program that drives it, its streams, egress with what that one is told.
pub type Ends = (
    Option<Control>,
    Vec<Pump>,
    Option<(Prepared, egress::About)>,
);

/// Let the command go and stay until all of it has ended.
///
/// # Errors
/// How the run ended before the command began.
pub fn supervise(
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
    let session = session.transpose().map_err(refuse_in_lines)?;
    // What the set-up needed, the rest does not.
    privileges::keep_capabilities(0).map_err(failed("privileges"))?;
    system::prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map_err(failed("privileges"))?;
    // Of a worker, which waits for calls most of its time, each call has that much: `Control` sees to it.
    let own = plan.limits.wall_time.filter(|_| !request.worker);
    let wall = [own, request.timeout_ms].into_iter().flatten().min();
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
    // See `namespaces::bound`.
    let confined = |held: &Enforced| held.tier == "confined";
    let held = kernel_bounds_processes() && !report.enforced.as_ref().is_none_or(confined);
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
        pace: Pace::new(&bounds, held),
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
