//! From a request and its plan to what the sandbox is made of.
//!
//! Looks at the host and decides everything; starts nothing. It refuses whatever cannot be enforced as the plan says.

use super::places::{self, Places};
use super::report::{Enforced, PolicyName};
use super::tier::{self, Host, Tier};
use super::{Request, environment, git, secrets};
use crate::monitor::{self, notified};
use crate::plan::{
    Access, Audit, Condition, Egress, Extras, Kept, NetworkMode, Op, Plan, Variables,
};
use crate::sandbox::bpf::{Comparison, Test};
use crate::sandbox::brought::Brought;
use crate::sandbox::filter::{self, Allowed, Denied, Notified, Wanted};
use crate::sandbox::init::{Handover, Spec, View};
use crate::sandbox::landlock::{Rights, Rule};
use crate::sandbox::limits::Limits;
use crate::sandbox::view::Place;
use crate::sandbox::{syscalls, view};
use std::collections::{BTreeSet, HashSet};
use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What was decided first: the view, and what it is of.
pub struct Viewed {
    /// For the sandbox.
    pub view: View,
    /// The places of the view, and what the plan's names really are.
    pub places: Places,
    /// Names that are kept beside those of every run: what only the host's root may read.
    secrets: Vec<Kept>,
}

/// Everything else that was decided.
pub struct Specified {
    /// For the sandbox.
    pub spec: Spec,
    /// For the monitor.
    pub monitored: Monitored,
    /// How much is recorded.
    pub audit: Audit,
    /// Names of variables, for the record.
    pub environment: environment::Account,
}

/// What the monitor decides with.
#[derive(Clone)]
pub struct Monitored {
    access: Access,
    syscalls: crate::plan::Syscalls,
    audit: Audit,
    observed: Option<HashSet<u32>>,
    ports: Vec<u16>,
    unix: Vec<PathBuf>,
    network: monitor::Network,
    watched: Option<monitor::Watched>,
    prompt: bool,
}

impl Monitored {
    /// Have it take note of the logs that are begun meanwhile where the command may write.
    pub fn watch(&mut self, watched: monitor::Watched) {
        self.watched = Some(watched);
    }

    /// Serve with what the first process made; gives back the command and the socket to the supervisor when there is
    /// no listener to serve.
    #[must_use]
    pub fn serve(self, handover: Handover) -> (libc::pid_t, OwnedFd) {
        let command = handover.command;
        let Some(listener) = handover.listener else {
            return (command, handover.supervisor);
        };
        let context = monitor::MonitorContext {
            command,
            root: handover.root,
            supervisor: handover.supervisor,
            access: self.access,
            syscalls: self.syscalls,
            syscall_name: syscalls::name,
            audit: self.audit,
            observed: self.observed,
            ports: self.ports,
            unix: self.unix,
            terminal: handover.terminal,
            datagrams: handover.datagrams,
            network: self.network,
            watched: self.watched,
            watch: handover.watch,
            prompt: self.prompt,
        };
        (
            command,
            monitor::serve(context, |supervisor| listener.take(supervisor)),
        )
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

/// Whether programs in a directory can be found by the command, under its name or the one it really has: whatever lies
/// there, or one that is granted by itself.
fn may_look_into(plan: &Plan, variables: &Variables, access: &Access, directory: &Path) -> bool {
    let alone = |path: &Path| {
        plan.filesystem.execute.iter().any(|grant| {
            variables
                .path(&grant.path)
                .is_ok_and(|program| program.parent() == Some(path))
        })
    };
    let granted = |path: &Path| {
        let bytes = path.as_os_str().as_bytes();
        let uses = access.uses(bytes);
        uses.execute || uses.read || alone(path)
    };
    granted(directory) || directory.canonicalize().is_ok_and(|real| granted(&real))
}

/// Which of the host's layers the plan is enforced with.
///
/// # Errors
/// A sentence for the user: the layer that is needed and cannot be had.
pub fn layers(request: &Request, plan: &Plan, host: &Host) -> Result<Tier, String> {
    tier::choose(host, plan.network.mode, &plan.require, &request.waived)
}

/// Decide what the view is of. `terminals` says which of 0, 1, 2 are terminals, `brought` names files of ours.
///
/// # Errors
/// A sentence for the user.
pub fn view(
    plan: &Plan,
    variables: &Variables,
    tier: &Tier,
    terminals: [bool; 3],
    brought: Vec<Brought>,
) -> Result<Viewed, String> {
    let mut places =
        places::resolve(plan, variables, tier.namespaces).map_err(|error| error.to_string())?;
    let secrets = secrets::of_root(&places.view);
    let kept = secrets.iter();
    let kept = kept.map(|path| secrets::kept(path, tier.namespaces));
    let kept = kept.collect();
    let mut steps =
        view::lay_out(&places.view, &places.links, &brought).map_err(|error| error.to_string())?;
    secrets::mask(&mut steps, secrets);
    let ours = brought.into_iter().map(|file| Rule {
        path: file.to,
        rights: Rights {
            read: true,
            ..Rights::default()
        },
        optional: true,
    });
    places.rules.extend(ours);
    let view = View {
        hosts: plan.network.egress.as_ref().map(Egress::ports),
        steps,
        disk: plan.limits.disk,
        processes: plan.limits.processes,
        landlock: tier.landlock,
        rules: std::mem::take(&mut places.rules),
        directory: c_string(variables.cwd().as_os_str())?,
        terminal: (terminals[0] && tier.namespaces).then_some(terminals),
    };
    Ok(Viewed {
        view,
        places,
        secrets: kept,
    })
}

/// Decide everything else. `kept` are the names that every run keeps, `before` is the caller's signal mask. The tier
/// gets the digest of what is enforced.
///
/// # Errors
/// A sentence for the user.
pub fn specify(
    request: &Request,
    plan: &Plan,
    variables: &Variables,
    mut kept: Vec<Kept>,
    viewed: Viewed,
    tier: &mut Tier,
    before: libc::sigset_t,
) -> Result<Specified, String> {
    let Viewed {
        view,
        places,
        secrets,
    } = viewed;
    kept.extend(secrets);
    let extras = Extras {
        kept,
        aliases: places.aliases,
        led: git::led(variables.workspace(), variables.home()),
    };
    let access = Access::new(plan, variables, &extras).map_err(|error| error.to_string())?;
    let audit = request
        .audit
        .map_or(plan.audit, |asked| asked.max(plan.audit));
    let seen = if request.observe { Audit::All } else { audit };
    if request.observe && !tier.supervisor {
        return Err("trace needs the layer `supervisor`, which this host does not give".to_owned());
    }
    let mut wanted = wanted(plan, tier, seen, access.has_read_denies());
    let watched = if request.observe {
        watched(plan, &wanted)
    } else {
        Vec::new()
    };
    wanted
        .notify
        .extend(watched.iter().map(|&(name, _)| Notified {
            name,
            tests: Vec::new(),
        }));
    let filter = filter::build(&wanted).map_err(|error| error.to_string())?;
    let given = std::env::vars_os().map(|(name, value)| {
        let value = if name == "PATH" {
            environment::reachable(&value, |part| may_look_into(plan, variables, &access, part))
        } else {
            value
        };
        (name, value)
    });
    let (environment, account) =
        environment::build(&plan.environment, given, &request.environment)?;
    let limits = &plan.limits;
    let spec = Spec {
        filter,
        supervised: tier.supervisor,
        wakes: allows_futex(plan),
        arguments: request
            .command
            .iter()
            .map(|part| c_string(part))
            .collect::<Result<_, _>>()?,
        environment,
        limits: Limits {
            memory: limits.memory,
            cpu_seconds: limits.cpu.map(|ms| ms.div_ceil(1000)),
            processes: limits.processes,
            open_files: limits.open_files,
            file_size: limits.file_size,
        },
        mask: before,
    };
    tier.enforced.digest = digest(&view, &spec, &places.view, plan, &tier.enforced);
    let network = match (plan.network.mode, &plan.network.egress) {
        (NetworkMode::Hosts, Some(egress)) => monitor::Network::Hosts(egress.ports()),
        (NetworkMode::Open, _) => monitor::Network::Open,
        _ if tier.namespaces => monitor::Network::Apart,
        _ => monitor::Network::Closed,
    };
    let monitored = Monitored {
        access,
        syscalls: plan.syscalls.clone(),
        audit: seen,
        observed: request
            .observe
            .then(|| watched.iter().map(|&(_, number)| number).collect()),
        ports: plan.network.ports.clone(),
        unix: places.sockets,
        network,
        watched: None,
        prompt: request.worker,
    };
    Ok(Specified {
        spec,
        monitored,
        audit,
        environment: account,
    })
}

/// Whether the command may wake another process without anybody being asked.
fn allows_futex(plan: &Plan) -> bool {
    let calls = &plan.syscalls;
    calls
        .allowed()
        .any(|(name, when)| name == "futex" && when.is_empty())
        && !calls.deny.iter().any(|call| call.name == "futex")
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

fn wanted<'a>(plan: &'a Plan, tier: &Tier, audit: Audit, read_denies: bool) -> Wanted<'a> {
    let calls = &plan.syscalls;
    let notify = if tier.supervisor {
        notified(audit, read_denies)
    } else {
        Vec::new()
    };
    let mut allow = Vec::with_capacity(syscalls::table().len());
    allow.extend(calls.allowed().map(|(name, when)| Allowed {
        name,
        tests: tests(when),
    }));
    Wanted {
        allow,
        deny: calls
            .deny
            .iter()
            .map(|c| Denied {
                name: &c.name,
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
        internet_sockets: tier.namespaces || plan.network.mode == NetworkMode::Open,
    }
}

/// Calls that nearly every program makes all the time, and that say nothing of what it needs: asking about them would
/// double the cost of watching.
const HOT: &[&str] = &[
    "access",
    "arch_prctl",
    "brk",
    "clock_gettime",
    "clock_nanosleep",
    "clone",
    "close",
    "dup",
    "dup2",
    "dup3",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "exit",
    "exit_group",
    "fcntl",
    "fork",
    "fstat",
    "futex",
    "getcwd",
    "getdents64",
    "getegid",
    "geteuid",
    "getgid",
    "getpid",
    "getppid",
    "getrandom",
    "gettid",
    "gettimeofday",
    "getuid",
    "lseek",
    "lstat",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "nanosleep",
    "newfstatat",
    "pipe",
    "pipe2",
    "poll",
    "ppoll",
    "pread64",
    "prlimit64",
    "pselect6",
    "pwrite64",
    "read",
    "readlink",
    "readv",
    "recvfrom",
    "recvmsg",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "select",
    "sendmsg",
    "set_robust_list",
    "set_tid_address",
    "sigaltstack",
    "stat",
    "statx",
    "vfork",
    "wait4",
    "write",
    "writev",
];

/// The calls that are asked about for the count alone: allowed with any arguments, not hot, and not decided anyway.
fn watched(plan: &Plan, wanted: &Wanted) -> Vec<(&'static str, u32)> {
    let table = syscalls::table();
    let decided = |name: &str| {
        filter::restricted(name, wanted.internet_sockets)
            || wanted.notify.iter().any(|asked| asked.name == name)
            || plan.syscalls.deny.iter().any(|denied| denied.name == name)
    };
    plan.syscalls
        .allowed()
        .filter(|(name, when)| when.is_empty() && !HOT.contains(name) && !decided(name))
        .filter_map(|(name, _)| syscalls::row(name))
        .filter_map(|row| Some((table[row].0, table[row].1?)))
        .collect()
}

/// What a trace does not count: allowed, and neither watched nor decided by the monitor.
#[must_use]
pub fn implied(plan: &Plan, observed: &BTreeSet<String>) -> Vec<String> {
    let names: BTreeSet<String> = plan
        .syscalls
        .allowed()
        .map(|(name, _)| name.to_owned())
        .collect();
    let hot = |name: &String| HOT.contains(&name.as_str()) || filter::restricted(name, true);
    names
        .into_iter()
        .filter(|name| hot(name) && !observed.contains(name))
        .collect()
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
fn digest(view: &View, spec: &Spec, places: &[Place], plan: &Plan, enforced: &Enforced) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("capsule enforcement v1");
    let text = format!(
        "{:?}\n{}\n{}\n{:?}\n{:?}\n",
        enforced.layers, plan.policy.digest, plan.compiler, view.landlock, plan.limits
    );
    hasher.update(text.as_bytes());
    for place in places {
        let kind = [
            place.wanted as u8,
            place.execution as u8,
            u8::from(place.exists),
        ];
        hasher
            .update(place.path.as_os_str().as_bytes())
            .update(&[0])
            .update(&kind);
    }
    for rule in &view.rules {
        hasher
            .update(rule.path.as_os_str().as_bytes())
            .update(&[0])
            .update(&rule.rights.bits().to_le_bytes());
    }
    for entry in &spec.environment {
        let bytes = entry.to_bytes();
        let name = bytes.split(|byte| *byte == b'=').next().unwrap_or_default();
        hasher.update(name).update(&[0]);
    }
    let mut filter = Vec::with_capacity(spec.filter.len() * 8);
    for step in &spec.filter {
        filter.extend_from_slice(&step.code.to_le_bytes());
        filter.extend_from_slice(&[step.jt, step.jf]);
        filter.extend_from_slice(&step.k.to_le_bytes());
    }
    hasher.update(&filter);
    format!("blake3:{}", hasher.finalize().to_hex())
}
