//! What types cannot say about a plan: lengths, names, order, paths, patterns.
//!
//! Each check names the JSON path of what it refuses.

use super::model::{Condition, Grant, Op, Origin, Place, Plan, Rule};
use super::pattern::{Glob, Pattern};
use super::read::PlanError;
use super::variables::{Variables, has_glob, split};
use std::fmt;

const MAX_ENTRIES: usize = 4096;
const MAX_STRING: usize = 4096;
/// Integers from here on are not the same in every reader of JSON.
const MAX_INTEGER: u64 = (1 << 53) - 1;

pub(super) type Checked = Result<(), PlanError>;

/// A JSON path that is only spelt out when something is wrong: a plan has two thousand of them.
#[derive(Clone, Copy)]
pub(super) enum At<'a> {
    Top(&'a str),
    Field(&'a At<'a>, &'a str),
    Item(&'a At<'a>, usize),
    Key(&'a At<'a>, &'a str),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Top(name) => f.write_str(name),
            Self::Field(of, name) => write!(f, "{of}.{name}"),
            Self::Item(of, index) => write!(f, "{of}[{index}]"),
            Self::Key(of, key) => write!(f, "{of}[{key:?}]"),
        }
    }
}

impl<'a> At<'a> {
    pub(super) fn field(&'a self, name: &'a str) -> At<'a> {
        Self::Field(self, name)
    }

    pub(super) fn refuse(&self, cause: impl Into<String>) -> PlanError {
        PlanError::Value {
            path: self.to_string(),
            cause: cause.into(),
        }
    }
}

/// Everything that `docs/formats/plan.md` says beyond types.
pub(super) fn plan(plan: &Plan) -> Checked {
    if plan.plan != 1 {
        return Err(
            At::Top("plan").refuse(format!("this capsule reads version 1, not {}", plan.plan))
        );
    }
    string(&At::Top("name"), &plan.name)?;
    not_empty(&At::Top("name"), &plan.name)?;
    string(&At::Top("compiler"), &plan.compiler)?;
    digest(&At::Top("policy.digest"), &plan.policy.digest)?;
    each(
        &At::Top("policy.sources"),
        &plan.policy.sources,
        |at, source| {
            string(&at.field("path"), &source.path)?;
            if !source.path.starts_with('/') && !source.path.starts_with("preset:") {
                return Err(at
                    .field("path")
                    .refuse("is neither an absolute path nor `preset:NAME`"));
            }
            digest(&at.field("digest"), &source.digest)
        },
    )?;
    if plan.policy.sources.is_empty() {
        return Err(At::Top("policy.sources").refuse("is empty: a plan has at least one source"));
    }
    let fs = &plan.filesystem;
    for (name, grants) in [
        ("read", &fs.read),
        ("write", &fs.write),
        ("execute", &fs.execute),
    ] {
        each(&At::Top("filesystem").field(name), grants, grant)?;
    }
    for (name, rules) in [("deny", &fs.deny), ("protect", &fs.protect)] {
        each(&At::Top("filesystem").field(name), rules, rule)?;
    }
    for (name, places) in [("private", &fs.private), ("hide", &fs.hide)] {
        each(&At::Top("filesystem").field(name), places, place)?;
    }
    each(
        &At::Top("network.ports"),
        &plan.network.ports,
        |at, port| {
            if *port == 0 {
                Err(at.refuse("0 is not a port"))
            } else {
                Ok(())
            }
        },
    )?;
    each(&At::Top("network.unix"), &plan.network.unix, grant)?;
    super::check_egress::network(&plan.network)?;
    origin(&At::Top("network.origin"), &plan.network.origin)?;
    syscalls(plan)?;
    if let Some(programs) = &plan.process.programs {
        each(&At::Top("process.programs"), programs, |at, program| {
            path(&at.field("path"), &program.path)?;
            program
                .digest
                .as_deref()
                .map_or(Ok(()), |d| digest(&at.field("digest"), d))?;
            origin(&at.field("origin"), &program.origin)
        })?;
    }
    environment(plan)?;
    limits(plan)?;
    if !plan.require.is_sorted_by(|a, b| a < b) {
        return Err(At::Top("require").refuse("is not sorted, or repeats a layer"));
    }
    Ok(())
}

fn syscalls(plan: &Plan) -> Checked {
    each(
        &At::Top("syscalls.groups"),
        &plan.syscalls.groups,
        |at, group| {
            string(&at.field("name"), &group.name)?;
            not_empty(&at.field("name"), &group.name)?;
            string(&at.field("reason"), &group.reason)?;
            origin(&at.field("origin"), &group.origin)?;
            let members = at.field("members");
            each(&members, &group.members, |at, name| syscall_name(at, name))?;
            if group.members.is_sorted_by(|a, b| a < b) {
                Ok(())
            } else {
                Err(members.refuse("is not sorted by name, or repeats one"))
            }
        },
    )?;
    if !plan.syscalls.groups.is_sorted_by(|a, b| a.name < b.name) {
        return Err(At::Top("syscalls.groups").refuse("is not sorted by name, or repeats one"));
    }
    each(
        &At::Top("syscalls.allow"),
        &plan.syscalls.allow,
        |at, call| {
            syscall_name(&at.field("name"), &call.name)?;
            string(&at.field("reason"), &call.reason)?;
            origin(&at.field("origin"), &call.origin)?;
            each(&at.field("when"), &call.when, condition)
        },
    )?;
    each(
        &At::Top("syscalls.deny"),
        &plan.syscalls.deny,
        |at, call| {
            syscall_name(&at.field("name"), &call.name)?;
            let known = call.errno.len() <= 32
                && call.errno.strip_prefix('E').is_some_and(|rest| {
                    !rest.is_empty()
                        && rest
                            .bytes()
                            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
                });
            if !known {
                return Err(at
                    .field("errno")
                    .refuse(format!("{:?} is not the name of an error", call.errno)));
            }
            string(&at.field("reason"), &call.reason)?;
            origin(&at.field("origin"), &call.origin)
        },
    )?;
    if !plan.syscalls.allow.is_sorted_by(|a, b| a.name <= b.name) {
        return Err(At::Top("syscalls.allow").refuse("is not sorted by name"));
    }
    if !plan.syscalls.deny.is_sorted_by(|a, b| a.name < b.name) {
        return Err(At::Top("syscalls.deny").refuse("is not sorted by name, or repeats one"));
    }
    Ok(())
}

fn condition(at: &At, condition: &Condition) -> Checked {
    if condition.arg > 5 {
        return Err(at
            .field("arg")
            .refuse(format!("{} is not an argument: 0 to 5", condition.arg)));
    }
    integer(&at.field("value"), condition.value)?;
    match (condition.op, condition.mask) {
        (Op::Mask, None) => Err(at.field("mask").refuse("is null, and `mask` needs one")),
        (Op::Mask, Some(mask)) => {
            integer(&at.field("mask"), mask)?;
            if condition.value & !mask != 0 {
                return Err(at
                    .field("value")
                    .refuse("has bits that the mask takes away: it can never hold"));
            }
            Ok(())
        }
        (_, Some(_)) => Err(at
            .field("mask")
            .refuse("belongs to the operator `mask` alone")),
        (_, None) => Ok(()),
    }
}

fn environment(plan: &Plan) -> Checked {
    let env = &plan.environment;
    for (name, globs) in [("pass", &env.pass), ("scrub", &env.scrub)] {
        each(&At::Top("environment").field(name), globs, |at, glob| {
            string(at, glob)?;
            not_empty(at, glob)?;
            Glob::new(glob)
                .map(drop)
                .map_err(|e| at.refuse(format!("{glob:?}: {e}")))
        })?;
    }
    if env.set.len() > MAX_ENTRIES {
        return Err(
            At::Top("environment.set").refuse(format!("has more than {MAX_ENTRIES} entries"))
        );
    }
    let set = At::Top("environment.set");
    for (key, value) in &env.set {
        let at = At::Key(&set, key);
        string(&at, key)?;
        string(&at, value)?;
        if key.is_empty() || key.contains('=') {
            return Err(at.refuse("is not a name for a variable: it is empty or has `=` in it"));
        }
    }
    Ok(())
}

fn limits(plan: &Plan) -> Checked {
    let l = &plan.limits;
    let all = [
        ("memory", l.memory),
        ("cpu", l.cpu),
        ("processes", l.processes),
        ("wall_time", l.wall_time),
        ("open_files", l.open_files),
        ("file_size", l.file_size),
        ("output", l.output),
        ("disk", l.disk),
    ];
    all.into_iter().try_for_each(|(name, value)| {
        value.map_or(Ok(()), |v| integer(&At::Top("limits").field(name), v))
    })
}

pub(super) fn each<T>(at: &At, list: &[T], check: impl Fn(&At, &T) -> Checked) -> Checked {
    if list.len() > MAX_ENTRIES {
        return Err(at.refuse(format!(
            "has {} entries, more than {MAX_ENTRIES}",
            list.len()
        )));
    }
    list.iter()
        .enumerate()
        .try_for_each(|(i, item)| check(&At::Item(at, i), item))
}

pub(super) fn grant(at: &At, grant: &Grant) -> Checked {
    path(&at.field("path"), &grant.path)?;
    origin(&at.field("origin"), &grant.origin)
}

fn place(at: &At, place: &Place) -> Checked {
    path(&at.field("path"), &place.path)?;
    origin(&at.field("origin"), &place.origin)
}

fn rule(at: &At, rule: &Rule) -> Checked {
    let at_pattern = at.field("pattern");
    string(&at_pattern, &rule.pattern)?;
    // The variables' values do not matter here: they are never read as globs.
    let anywhere =
        Variables::new("/", Some("/"), "/").map_err(|e| at_pattern.refuse(e.to_string()))?;
    Pattern::new(&rule.pattern, &anywhere).map_err(|e| at_pattern.refuse(e.to_string()))?;
    origin(&at.field("origin"), &rule.origin)
}

pub(super) fn path(at: &At, path: &str) -> Checked {
    string(at, path)?;
    if has_glob(path) {
        return Err(at.refuse(format!(
            "{path:?} has a glob in it: only `deny` and `protect` take patterns"
        )));
    }
    split(path).map(drop).map_err(|e| at.refuse(e.to_string()))
}

pub(super) fn origin(at: &At, origin: &Origin) -> Checked {
    string(&at.field("file"), &origin.file)?;
    if origin.line == 0 || origin.column == 0 {
        return Err(at.refuse("lines and columns count from 1"));
    }
    Ok(())
}

fn syscall_name(at: &At, name: &str) -> Checked {
    let sound = !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if sound {
        Ok(())
    } else {
        Err(at.refuse(format!("{name:?} is not the name of a system call")))
    }
}

fn digest(at: &At, text: &str) -> Checked {
    let sound = text.strip_prefix("blake3:").is_some_and(|hex| {
        hex.len() == 64
            && hex
                .bytes()
                .all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
    });
    if sound {
        Ok(())
    } else {
        Err(at.refuse("is not `blake3:` and 64 lower-case hex digits"))
    }
}

pub(super) fn integer(at: &At, value: u64) -> Checked {
    if value > MAX_INTEGER {
        Err(at.refuse(format!("{value} is not below 2^53")))
    } else {
        Ok(())
    }
}

pub(super) fn not_empty(at: &At, text: &str) -> Checked {
    if text.is_empty() {
        Err(at.refuse("is empty"))
    } else {
        Ok(())
    }
}

pub(super) fn string(at: &At, text: &str) -> Checked {
    if text.len() > MAX_STRING {
        return Err(at.refuse(format!(
            "is {} bytes long, more than {MAX_STRING}",
            text.len()
        )));
    }
    if text.contains('\0') {
        Err(at.refuse("has a NUL in it"))
    } else {
        Ok(())
    }
}
