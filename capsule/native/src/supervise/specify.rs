//! From a request and its plan to what the sandbox is made of.
//!
//! Looks at the host and decides everything; starts nothing. It refuses whatever cannot be enforced as the plan says.

use super::report::{Enforced, PolicyName};
use super::tier::{self, Host, Tier};
use super::{Request, environment, places};
use crate::monitor::{self, notified};
use crate::plan::{Access, Audit, Condition, Extras, Kept, Op, Plan, Variables};
use crate::sandbox::bpf::{Comparison, Test};
use crate::sandbox::filter::{self, Allowed, Denied, Notified, Wanted};
use crate::sandbox::init::{Handover, Spec};
use crate::sandbox::limits::Limits;
use crate::sandbox::namespaces::Identity;
use crate::sandbox::view::Place;
use crate::sandbox::{syscalls, view};
use std::ffi::{CString, OsStr};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Everything that was decided.
pub struct Specified {
    /// For the sandbox.
    pub spec: Spec,
    /// For the monitor.
    pub monitored: Monitored,
    /// Which layers.
    pub tier: Tier,
    /// How much is recorded.
    pub audit: Audit,
    /// Unix sockets of the host that may be dialled, resolved.
    pub sockets: Vec<PathBuf>,
    /// The places of the view.
    pub places: Vec<Place>,
}

/// What the monitor decides with.
pub struct Monitored {
    access: Access,
    syscalls: crate::plan::Syscalls,
    audit: Audit,
    ports: Vec<u16>,
    unix: Vec<PathBuf>,
    isolated: bool,
}

impl Monitored {
    /// Serve with what the first process made; gives it back when there is no listener to serve.
    #[must_use]
    pub fn serve(self, handover: Handover) -> Handover {
        let Some(listener) = handover.listener else {
            return handover;
        };
        monitor::serve(monitor::MonitorContext {
            listener,
            command: handover.command,
            root: handover.root,
            supervisor: handover.supervisor,
            access: self.access,
            syscalls: self.syscalls,
            syscall_name: syscalls::name,
            audit: self.audit,
            ports: self.ports,
            unix: self.unix,
            terminal: handover.terminal,
            network_isolated: self.isolated,
        })
    }
}

/// The policy's name for reports.
#[must_use]
pub fn policy_name(plan: &Plan) -> PolicyName {
    let file = plan
        .policy
        .sources
        .first()
        .map(|source| source.path.clone())
        .unwrap_or_default();
    PolicyName {
        name: plan.name.clone(),
        digest: plan.policy.digest.clone(),
        file,
    }
}

/// Decide everything. `before` is the caller's signal mask, `terminals` which of 0, 1, 2 are terminals,
/// `input` what the command reads on standard input.
///
/// # Errors
/// A sentence for the user.
pub fn specify(
    request: &Request,
    plan: &Plan,
    variables: &Variables,
    kept: Vec<Kept>,
    before: libc::sigset_t,
    terminals: [bool; 3],
    input: RawFd,
) -> Result<Specified, String> {
    let mut tier = tier::choose(&Host::probe(), &plan.require, &request.waived)?;
    let places = places::resolve(plan, variables).map_err(|error| error.to_string())?;
    let extras = Extras {
        kept,
        aliases: places.aliases,
    };
    let access = Access::new(plan, variables, &extras).map_err(|error| error.to_string())?;
    let audit = request
        .audit
        .map_or(plan.audit, |asked| asked.max(plan.audit));
    let wanted = wanted(plan, &tier, audit, access.has_read_denies());
    let filter = filter::build(&wanted).map_err(|error| error.to_string())?;
    let steps = view::lay_out(&places.view, &places.links).map_err(|error| error.to_string())?;
    let environment =
        environment::build(&plan.environment, std::env::vars_os(), &request.environment)?;
    let limits = &plan.limits;
    let spec = Spec {
        namespaces: tier.namespaces,
        identity: Identity::own(),
        steps,
        disk: limits.disk,
        landlock: tier.landlock,
        rules: places.rules,
        filter,
        supervised: tier.supervisor,
        arguments: request
            .command
            .iter()
            .map(|part| c_string(part))
            .collect::<Result<_, _>>()?,
        environment,
        directory: c_string(variables.cwd().as_os_str())?,
        streams: [input, 1, 2],
        kept: None,
        terminal: (terminals[0] && tier.namespaces).then_some(terminals),
        limits: Limits {
            memory: limits.memory,
            cpu_seconds: limits.cpu.map(|ms| ms.div_ceil(1000)),
            processes: limits.processes,
            open_files: limits.open_files,
            file_size: limits.file_size,
        },
        mask: before,
    };
    tier.enforced.digest = digest(&spec, plan, &tier.enforced);
    let monitored = Monitored {
        access,
        syscalls: plan.syscalls.clone(),
        audit,
        ports: plan.network.ports.clone(),
        unix: places.sockets.clone(),
        isolated: tier.namespaces,
    };
    Ok(Specified {
        spec,
        monitored,
        tier,
        audit,
        sockets: places.sockets,
        places: places.view,
    })
}

fn c_string(text: &OsStr) -> Result<CString, String> {
    CString::new(text.as_bytes()).map_err(|_| format!("{text:?} holds a NUL"))
}

fn tests(conditions: &[Condition]) -> Vec<Test> {
    let comparison = |condition: &Condition| match condition.op {
        Op::Eq => Comparison::Equal,
        Op::Ne => Comparison::NotEqual,
        Op::Lt => Comparison::Less,
        Op::Le => Comparison::LessEqual,
        Op::Gt => Comparison::Greater,
        Op::Ge => Comparison::GreaterEqual,
        Op::Mask => Comparison::Masked(condition.mask.unwrap_or(u64::MAX)),
    };
    let test = |c: &Condition| Test {
        argument: c.arg,
        comparison: comparison(c),
        value: c.value,
    };
    conditions.iter().map(test).collect()
}

fn wanted(plan: &Plan, tier: &Tier, audit: Audit, read_denies: bool) -> Wanted {
    let calls = &plan.syscalls;
    let notify = if tier.supervisor {
        notified(audit, read_denies)
    } else {
        Vec::new()
    };
    Wanted {
        allow: calls
            .allow
            .iter()
            .map(|c| Allowed {
                name: c.name.clone(),
                tests: tests(&c.when),
            })
            .collect(),
        deny: calls
            .deny
            .iter()
            .map(|c| Denied {
                name: c.name.clone(),
                errno: errno(&c.errno),
            })
            .collect(),
        notify: notify
            .iter()
            .map(|n| Notified {
                name: n.name,
                tests: tests(&n.when),
            })
            .collect(),
        supervised: tier.supervisor,
        isolated_network: tier.namespaces,
    }
}

/// The number of an error a plan may name; the plan's reader knows the names.
fn errno(name: &str) -> u16 {
    let number = match name {
        "EACCES" => libc::EACCES,
        "EAGAIN" => libc::EAGAIN,
        "EINVAL" => libc::EINVAL,
        "ENOENT" => libc::ENOENT,
        "ENOSYS" => libc::ENOSYS,
        "ENOTSUP" | "EOPNOTSUPP" => libc::EOPNOTSUPP,
        _ => libc::EPERM,
    };
    number as u16
}

/// A digest of everything that is enforced: the same policy may mean another thing on another host.
fn digest(spec: &Spec, plan: &Plan, enforced: &Enforced) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("capsule enforcement v1");
    let names: Vec<&[u8]> = spec
        .environment
        .iter()
        .map(|entry| {
            entry
                .to_bytes()
                .split(|byte| *byte == b'=')
                .next()
                .unwrap_or_default()
        })
        .collect();
    let text = format!(
        "{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
        enforced.layers,
        spec.landlock,
        spec.steps,
        spec.rules,
        spec.limits,
        spec.disk,
        names,
        plan.limits
    );
    hasher.update(text.as_bytes());
    for step in &spec.filter {
        hasher
            .update(&step.code.to_le_bytes())
            .update(&[step.jt, step.jf])
            .update(&step.k.to_le_bytes());
    }
    hasher.update(plan.policy.digest.as_bytes());
    format!("blake3:{}", hasher.finalize().to_hex())
}
