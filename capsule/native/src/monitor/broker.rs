//! What every performer needs: decisions on canonical names, refusals that explain themselves, answers.
//!
//! What it refuses: see [`Broker::judge`]. A refusal is always reported, with the line that refused and the line
//! that would allow.

use super::caller::Caller;
use super::datagrams::Datagrams;
use super::dial::Dials;
use super::errno::Errno;
use super::events::{Events, now};
use super::notify::Listener;
use super::noting::Logs;
use super::observed::Observed;
use super::repositories::Repositories;
use super::resolve::Resolver;
use super::sockets::Sockets;
use super::wire::{Denial, Event, Layer, Operation, RuleLine, text};
use super::workers::Workers;
use super::{sys, table::Table};
use crate::plan::{Access, Audit, Kind, Refusal, RuleRef, Verdict, Want};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// How a call is answered when it did not fail.
#[derive(Debug)]
pub enum Answer {
    /// It returns this.
    Value(i64),
    /// It returns the number of a new descriptor in the caller.
    Descriptor {
        /// What the new descriptor refers to.
        fd: OwnedFd,
        /// Whether it is closed on exec.
        cloexec: bool,
    },
    /// The same for one end of a pipe: ours is closed before the call returns. Else whoever opens the other end next
    /// could meet ours, and not wait for a partner.
    PipeEnd {
        /// The end.
        fd: OwnedFd,
        /// Whether it is closed on exec.
        cloexec: bool,
    },
    /// The kernel performs it: only what was observed, never what was decided.
    Continue,
    /// A worker or the supervisor's answer will answer it.
    Later,
}

/// What performers return.
pub type Outcome = Result<Answer, Errno>;

/// The monitor's state.
#[derive(Debug)]
pub struct Broker {
    /// The command's process: a child of this one.
    pub command: libc::pid_t,
    /// Whether the supervisor knows that the command stands still.
    pub standing: bool,
    /// Answers calls.
    pub listener: Arc<Listener>,
    /// Walks paths.
    pub resolver: Resolver,
    /// Decides names.
    pub access: Access,
    /// What is recorded.
    pub audit: Audit,
    /// Counts, for `capsule trace`.
    pub observed: Option<Observed>,
    /// Tells the supervisor.
    pub events: Events,
    /// What the plan says about system calls.
    pub table: Table,
    /// Threads for calls that may wait.
    pub workers: Workers,
    /// Addresses and the sockets bound inside.
    pub sockets: Sockets,
    /// Datagrams that no call named, and whose they are.
    pub datagrams: Datagrams,
    /// Questions to the supervisor.
    pub dials: Dials,
    /// Repositories that this run made.
    pub repositories: Repositories,
    /// Logs that are begun meanwhile.
    pub logs: Option<Logs>,
    /// The command's terminal.
    pub terminal: Option<Vec<u8>>,
    /// The file mode creation mask that every process of the command has, and this one: nobody has set another yet.
    pub mask: Option<u32>,
    /// Whether reads are decided here.
    pub read_denies: bool,
    /// What the plan granted the present call last, until something was refused.
    pub granted: Option<(Operation, Vec<u8>)>,
}

impl Broker {
    /// The call must still wait: what was read of its thread was its own.
    ///
    /// # Errors
    /// `ESRCH`; nobody will see it.
    pub fn confirm(&self, caller: &Caller) -> Result<(), Errno> {
        if self.listener.waits(caller.call.id) {
            Ok(())
        } else {
            Err(Errno::ESRCH)
        }
    }

    /// Whether a canonical name may be used so. Beyond the plan: devices that hold nothing are always there, and a
    /// process may see `/proc` and write to entries of processes, except the monitor's own.
    pub fn judge(&self, name: &[u8], want: Want) -> Verdict {
        if self.resolver.is_own(name) {
            let rule = RuleRef {
                text: "the monitor's own process".into(),
                file: "capsule:always".into(),
                line: 0,
            };
            return Verdict::Refused(Refusal {
                kind: Kind::Denied,
                rule: Some(rule),
                allow: None,
                repository: false,
            });
        }
        if want == Want::Write
            && let Some(refusal) = self.leads(name)
        {
            return Verdict::Refused(refusal);
        }
        match self.access.decide(name, want) {
            Verdict::Granted if want == Want::Write => self
                .begins_above(name)
                .map_or(Verdict::Granted, Verdict::Refused),
            Verdict::Refused(refusal) if refusal.repository && self.repositories.hold(name) => {
                Verdict::Granted
            }
            Verdict::Refused(Refusal {
                kind: Kind::NotGranted | Kind::Hidden,
                ..
            }) if always(name, want) => Verdict::Granted,
            verdict => verdict,
        }
    }

    /// Refuse unless granted.
    ///
    /// # Errors
    /// `EACCES`, reported.
    pub fn demand(
        &mut self,
        caller: &Caller,
        operation: Operation,
        name: &[u8],
        want: Want,
    ) -> Result<(), Errno> {
        self.pass_crossed(caller, operation, want)?;
        match self.judge(name, want) {
            Verdict::Granted => {
                self.granted = Some((operation, name.to_vec()));
                Ok(())
            }
            Verdict::Refused(refusal) => Err(self.refuse(caller, operation, name, refusal)),
        }
    }

    /// The links that were walked through on the way: as [`Broker::pass`] for each.
    ///
    /// # Errors
    /// `EACCES`, reported.
    pub fn pass_crossed(
        &mut self,
        caller: &Caller,
        operation: Operation,
        want: Want,
    ) -> Result<(), Errno> {
        for link in self.resolver.crossed() {
            self.pass(caller, operation, &link, want)?;
        }
        Ok(())
    }

    /// The plan granted it and the kernel did not: the file's owner and mode speak, and no line of a policy can.
    pub fn tell_permissions(&mut self, caller: &Caller, errno: Errno) {
        if !matches!(errno, Errno::EACCES | Errno::EPERM) {
            return;
        }
        if let Some((operation, name)) = self.granted.take() {
            let layer = Layer::Permissions;
            self.report(caller, operation, text(&name), layer, errno, None, None);
        }
    }

    /// A link is about to be followed: its own name must not be denied, nor protected when something is to change.
    /// That nothing grants it is no matter: where it leads is decided next.
    ///
    /// # Errors
    /// `EACCES`, reported.
    pub fn pass(
        &mut self,
        caller: &Caller,
        operation: Operation,
        name: &[u8],
        want: Want,
    ) -> Result<(), Errno> {
        match self.judge(name, want) {
            Verdict::Refused(refusal) if matches!(refusal.kind, Kind::Denied | Kind::Protected) => {
                Err(self.refuse(caller, operation, name, refusal))
            }
            _ => Ok(()),
        }
    }

    /// A name that is no directory must not appear where denied or protected names are to be beneath it: a link or a
    /// file there (`.git` as a file) would lead programs past the rule.
    ///
    /// # Errors
    /// `EACCES`, reported.
    pub fn stays_directory(
        &mut self,
        caller: &Caller,
        operation: Operation,
        name: &[u8],
    ) -> Result<(), Errno> {
        let directory = name
            .iter()
            .rposition(|&b| b == b'/')
            .map_or(&name[..0], |at| &name[..at]);
        // A neighbour that no pattern can mean: what is lost in going there was held by the name itself.
        let neighbour = [directory, b"/\x01"].concat();
        match self.access.guards_lost(name, &neighbour) {
            None => Ok(()),
            // Of a repository of the run's own, all but its `.git` itself.
            Some(guarded)
                if guarded.repository
                    && !super::repositories::is_named(name)
                    && self.repositories.hold(name) =>
            {
                Ok(())
            }
            Some(guarded) => Err(self.refuse(caller, operation, name, guarded.refusal())),
        }
    }

    /// A refusal because of one line.
    pub fn refuse_for(
        &mut self,
        caller: &Caller,
        operation: Operation,
        name: &[u8],
        rule: RuleRef,
    ) -> Errno {
        let refusal = Refusal {
            kind: Kind::Protected,
            rule: Some(rule),
            allow: None,
            repository: false,
        };
        self.refuse(caller, operation, name, refusal)
    }

    /// Report a refusal of a name; the error the program will see.
    pub fn refuse(
        &mut self,
        caller: &Caller,
        operation: Operation,
        name: &[u8],
        refusal: Refusal,
    ) -> Errno {
        self.refuse_as(
            caller,
            operation,
            name,
            refusal,
            Layer::Supervisor,
            Errno::EACCES,
        )
    }

    /// The same with a layer and an error of one's own.
    pub fn refuse_as(
        &mut self,
        caller: &Caller,
        operation: Operation,
        name: &[u8],
        refusal: Refusal,
        layer: Layer,
        errno: Errno,
    ) -> Errno {
        let rule = refusal.rule.map(|r| RuleLine {
            text: r.text,
            file: r.file,
            line: r.line,
        });
        self.report(
            caller,
            operation,
            text(name),
            layer,
            errno,
            rule,
            refusal.allow,
        );
        errno
    }

    /// Report a refusal of anything.
    #[allow(clippy::too_many_arguments)]
    pub fn report(
        &mut self,
        caller: &Caller,
        operation: Operation,
        target: String,
        layer: Layer,
        errno: Errno,
        rule: Option<RuleLine>,
        allow: Option<String>,
    ) {
        self.granted = None;
        let denial = Denial {
            program: text(&caller.program()),
            pid: caller.process(),
            operation,
            syscall: self.table.name(caller.call.number),
            target,
            layer,
            errno: errno.name(),
            rule,
            allow,
            probe: errno == Errno::ENOENT || errno == Errno::EOPNOTSUPP,
        };
        self.events.denied(denial);
    }

    /// Record what was done, when the level asks for it. Devices that hold nothing are left out.
    pub fn done(
        &mut self,
        caller: &Caller,
        operation: Operation,
        name: &[u8],
        from: Option<&[u8]>,
    ) {
        if let Some(observed) = &mut self.observed {
            return observed.done(operation, name, from);
        }
        let wanted = if operation == Operation::Read {
            self.audit == Audit::All
        } else {
            self.audit != Audit::Run
        };
        if wanted && !always(name, Want::Write) {
            self.events.send(&Event::File {
                mono: now(),
                pid: caller.process(),
                program: text(&caller.program()),
                operation,
                target: text(name),
                from: from.map(text),
            });
        }
    }

    /// Tell what was counted, before the end.
    pub fn tell_observed(&mut self) {
        if let Some(observed) = &mut self.observed {
            observed.tell(
                |number| self.table.name(number),
                |event| self.events.send(event),
            );
        }
    }

    /// The next name is created with the caller's mask, not ours. Only the loop creates names, so it may be set for
    /// the whole process.
    ///
    /// # Errors
    /// `ESRCH`.
    pub fn take_umask(&self, caller: &Caller) -> Result<(), Errno> {
        if self.mask.is_none() {
            sys::set_umask(caller.umask()?);
        }
        Ok(())
    }

    /// Somebody is about to set a mask. Once it is another one, each process has to be looked at: children have their
    /// parent's, and nobody tells of children.
    pub fn masked(&mut self, mask: u64) {
        self.mask = self
            .mask
            .filter(|known| u64::from(*known) == mask & sys::PERMISSIONS);
    }
}

/// Names that any sandbox has: they hold nothing of the host's, and Landlock and the view bound them.
fn always(name: &[u8], want: Want) -> bool {
    if want == Want::Execute {
        return false;
    }
    if let Some(device) = name.strip_prefix(b"/dev/") {
        let plain = matches!(
            device,
            b"null" | b"zero" | b"full" | b"random" | b"urandom" | b"tty" | b"ptmx"
        );
        return plain || device.starts_with(b"pts/") || device.starts_with(b"shm/");
    }
    match name.strip_prefix(b"/proc/") {
        Some(rest) => want == Want::Read || rest.first().is_some_and(u8::is_ascii_digit),
        None => name == b"/proc" && want == Want::Read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_hold_nothing_are_always_there_and_kernel_settings_are_not() {
        for name in [
            "/dev/null",
            "/dev/pts/3",
            "/dev/shm/x",
            "/proc/7/oom_score_adj",
        ] {
            assert!(always(name.as_bytes(), Want::Write), "{name}");
        }
        for name in [
            "/dev/sda",
            "/dev",
            "/proc/sys/kernel/core_pattern",
            "/proc",
            "/process",
            "/dev/nullx",
        ] {
            assert!(!always(name.as_bytes(), Want::Write), "{name}");
        }
        assert!(always(b"/proc/meminfo", Want::Read) && !always(b"/proc/7/exe", Want::Execute));
    }
}
