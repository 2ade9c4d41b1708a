//! The sandbox's first process, as its supervisor has it: begun, handed what was decided, and buried.
//!
//! It is begun before the plan is read: making namespaces takes the kernel about as long as finding out what the view is
//! takes the supervisor. It refuses to live on where nothing is handed over: then it is ended.

use super::cgroup::Group;
use super::launch::{failed, refuse};
use super::report::Exit;
use super::specify::Monitored;
use crate::arena;
use crate::lent::{Filled, Lent};
use crate::monitor::{self, wire};
use crate::sandbox::command::Progress;
use crate::sandbox::init::{self, Ground, Handover, Spec, View};
use crate::sandbox::{messages, namespaces, system};
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::time::Duration;

/// How long the first process may take to end after it said so.
const LEAVING: Duration = Duration::from_secs(2);

/// The first process of a sandbox that is being set up.
pub struct Sandbox {
    /// The process.
    pub child: system::Child,
    /// The way to it.
    pub socket: OwnedFd,
    /// What its command's process tells.
    pub progress: &'static Progress,
    /// The control group it is in.
    pub group: Option<Group>,
    /// The range that everything was lent in; it has taken it when it says that everything stands.
    pub lent: Option<Lent>,
}

/// A first process that waits to be handed the rest. Dropping it ends it.
pub struct Begun(Option<Sandbox>);

impl Begun {
    /// Begin, with the range that the rest will be lent in. `ground` has what is known already.
    ///
    /// # Errors
    /// How the run ends before it began.
    pub fn begin(ground: &Ground, group: Option<&Group>, _: &Lent) -> Result<Begun, Exit> {
        let (ours, theirs) = system::message_pair().map_err(failed("socket"))?;
        let progress = Progress::shared().map_err(failed("memory"))?;
        let flags = if ground.namespaces {
            namespaces::AT_ONCE
        } else {
            0
        };
        let before = block_signals();
        // SAFETY: this process has one thread.
        let child = unsafe { system::clone3(flags, group.map(Group::directory)) };
        if let Ok(None) = child {
            drop(ours);
            // SAFETY: `view` and `hand_over` put there what this takes, and this process has the range from its parent.
            unsafe { init::run(ground, theirs, progress, serve) }
        }
        if let Ok(Some(child)) = &child {
            system::apart(child.pid);
        }
        set_signals(&before);
        arena::turn();
        let Some(child) = child.map_err(failed("namespaces"))? else {
            return Err(refuse("the sandbox's first process is another"));
        };
        Ok(Begun(Some(Sandbox {
            child,
            socket: ours,
            progress,
            group: None,
            lent: None,
        })))
    }

    /// Hand over the view. A process that is gone said why, or the end of its socket does: whoever waits for it to stand
    /// hears it.
    ///
    /// # Errors
    /// When it does not fit what can be lent.
    pub fn show(&self, lent: &mut Lent, view: &View) -> Result<(), Exit> {
        // SAFETY: this process has one thread; the copy shares nothing with what it is of.
        self.send(unsafe { lent.fill(|| view.clone()) }, &[])
    }

    /// Hand over the rest, as [`show`](Self::show) does. `watch`: the two descriptors of [`init::Watch`], or none.
    ///
    /// # Errors
    /// When it does not fit what can be lent.
    pub fn hand_over(
        mut self,
        mut lent: Lent,
        spec: &Spec,
        monitored: &Monitored,
        watch: &[RawFd],
        group: Option<Group>,
    ) -> Result<Sandbox, Exit> {
        // SAFETY: as above.
        let filled = unsafe { lent.fill(|| (spec.clone(), monitored.clone())) };
        self.send(filled, watch)?;
        let sandbox = self.0.take();
        sandbox
            .map(|sandbox| Sandbox {
                group,
                lent: Some(lent),
                ..sandbox
            })
            .ok_or_else(|| refuse("the sandbox's first process was handed everything before"))
    }

    fn send(&self, filled: io::Result<Filled>, beside: &[RawFd]) -> Result<(), Exit> {
        let filled = filled.map_err(failed("memory for what the plan says"))?;
        if let Some(sandbox) = &self.0 {
            let _ = messages::send(sandbox.socket.as_fd(), &filled.to_bytes(), beside);
        }
        Ok(())
    }
}

/// Block every signal, so that a terminal's do not reach the first process before it has the command's mask; as it was
/// before.
fn block_signals() -> libc::sigset_t {
    // SAFETY: all-zero is a valid set, and each call is given valid sets.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    }
}

fn set_signals(mask: &libc::sigset_t) {
    // SAFETY: a valid set.
    unsafe {
        libc::sigprocmask(
            libc::SIG_SETMASK,
            std::ptr::from_ref(mask),
            std::ptr::null_mut(),
        )
    };
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(sandbox) = &self.0 {
            end(&sandbox.child);
        }
    }
}

/// Kill a first process and wait until it is gone.
fn end(child: &system::Child) {
    // It may be gone by now.
    let _ = system::signal(child.pidfd.as_fd(), libc::SIGKILL);
    // SAFETY: no place for a result is given.
    unsafe { libc::waitpid(child.pid, std::ptr::null_mut(), 0) };
}

/// What the first process becomes.
fn serve(monitored: Monitored, handover: Handover) {
    let (command, supervisor) = monitored.serve(handover);
    let status = init::reap_until(command);
    // A supervisor that is gone needs no telling.
    let _ = messages::send(
        supervisor.as_fd(),
        &wire::encode(&monitor::exited(status)),
        &[],
    );
}

/// What is left of a sandbox whose command has ended: its first process, taking its namespaces down, and its group.
pub struct Rest {
    child: system::Child,
    _group: Option<Group>,
}

impl Rest {
    /// Of a sandbox whose command has ended.
    #[must_use]
    pub fn new(child: system::Child, group: Option<Group>) -> Rest {
        Rest {
            child,
            _group: group,
        }
    }

    /// Wait until the first process is gone; what it says is the end of it must be. What it and its children used, in
    /// processor milliseconds and bytes of memory.
    pub fn bury(&self) -> (u64, u64) {
        if !system::ends_within(self.child.pidfd.as_fd(), LEAVING) {
            // It may be gone by now.
            let _ = system::signal(self.child.pidfd.as_fd(), libc::SIGKILL);
        }
        // SAFETY: all-zero is a valid structure, and it is a valid place for the result.
        let used = unsafe {
            let mut used: libc::rusage = std::mem::zeroed();
            libc::wait4(self.child.pid, std::ptr::null_mut(), 0, &raw mut used);
            used
        };
        let milliseconds = |time: libc::timeval| {
            time.tv_sec.unsigned_abs() * 1000 + time.tv_usec.unsigned_abs() / 1000
        };
        (
            milliseconds(used.ru_utime) + milliseconds(used.ru_stime),
            used.ru_maxrss.unsigned_abs() * 1024,
        )
    }
}
