//! What types cannot say about a plan: lengths, names, order, paths, patterns.
//!
//! Each check names the JSON path of what it refuses.

use super::model::{Condition, Grant, Op, Origin, Place, Plan, Rule};
use super::pattern::{Glob, Pattern};
use super::read::PlanError;
use super::variables::{Variables, split};

const MAX_ENTRIES: usize = 4096;
const MAX_STRING: usize = 4096;
/// Integers from here on are not the same in every reader of JSON.
const MAX_INTEGER: u64 = (1 << 53) - 1;

type Checked = Result<(), PlanError>;

fn refuse(path: impl Into<String>, cause: impl Into<String>) -> PlanError {
    PlanError::Value {
        path: path.into(),
        cause: cause.into(),
    }
}

/// Everything that `docs/formats/plan.md` says beyond types.
pub(super) fn plan(plan: &Plan) -> Checked {
    if plan.plan != 1 {
        return Err(refuse(
            "plan",
            format!("this capsule reads version 1, not {}", plan.plan),
        ));
    }
    string("name", &plan.name)?;
    not_empty("name", &plan.name)?;
    string("compiler", &plan.compiler)?;
    digest("policy.digest", &plan.policy.digest)?;
    each("policy.sources", &plan.policy.sources, |at, source| {
        string(&format!("{at}.path"), &source.path)?;
        if !source.path.starts_with('/') && !source.path.starts_with("preset:") {
            return Err(refuse(
                format!("{at}.path"),
                "is neither an absolute path nor `preset:NAME`",
            ));
        }
        digest(&format!("{at}.digest"), &source.digest)
    })?;
    if plan.policy.sources.is_empty() {
        return Err(refuse(
            "policy.sources",
            "is empty: a plan has at least one source",
        ));
    }
    let fs = &plan.filesystem;
    for (name, grants) in [
        ("read", &fs.read),
        ("write", &fs.write),
        ("execute", &fs.execute),
    ] {
        each(&format!("filesystem.{name}"), grants, grant)?;
    }
    for (name, rules) in [("deny", &fs.deny), ("protect", &fs.protect)] {
        each(&format!("filesystem.{name}"), rules, rule)?;
    }
    for (name, places) in [("private", &fs.private), ("hide", &fs.hide)] {
        each(&format!("filesystem.{name}"), places, place)?;
    }
    each("network.ports", &plan.network.ports, |at, port| {
        if *port == 0 {
            Err(refuse(at, "0 is not a port"))
        } else {
            Ok(())
        }
    })?;
    each("network.unix", &plan.network.unix, grant)?;
    origin("network.origin", &plan.network.origin)?;
    syscalls(plan)?;
    if let Some(programs) = &plan.process.programs {
        each("process.programs", programs, |at, program| {
            path(&format!("{at}.path"), &program.path)?;
            program
                .digest
                .as_deref()
                .map_or(Ok(()), |d| digest(&format!("{at}.digest"), d))?;
            origin(&format!("{at}.origin"), &program.origin)
        })?;
    }
    environment(plan)?;
    limits(plan)?;
    if !plan.require.is_sorted_by(|a, b| a < b) {
        return Err(refuse("require", "is not sorted, or repeats a layer"));
    }
    Ok(())
}

fn syscalls(plan: &Plan) -> Checked {
    each("syscalls.allow", &plan.syscalls.allow, |at, call| {
        syscall_name(&format!("{at}.name"), &call.name)?;
        string(&format!("{at}.reason"), &call.reason)?;
        origin(&format!("{at}.origin"), &call.origin)?;
        each(&format!("{at}.when"), &call.when, condition)
    })?;
    each("syscalls.deny", &plan.syscalls.deny, |at, call| {
        syscall_name(&format!("{at}.name"), &call.name)?;
        let known = call.errno.len() <= 32
            && call.errno.strip_prefix('E').is_some_and(|rest| {
                !rest.is_empty()
                    && rest
                        .bytes()
                        .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
            });
        if !known {
            return Err(refuse(
                format!("{at}.errno"),
                format!("{:?} is not the name of an error", call.errno),
            ));
        }
        string(&format!("{at}.reason"), &call.reason)?;
        origin(&format!("{at}.origin"), &call.origin)
    })?;
    if !plan.syscalls.allow.is_sorted_by(|a, b| a.name <= b.name) {
        return Err(refuse("syscalls.allow", "is not sorted by name"));
    }
    if !plan.syscalls.deny.is_sorted_by(|a, b| a.name < b.name) {
        return Err(refuse(
            "syscalls.deny",
            "is not sorted by name, or repeats one",
        ));
    }
    Ok(())
}

fn condition(at: &str, condition: &Condition) -> Checked {
    if condition.arg > 5 {
        return Err(refuse(
            format!("{at}.arg"),
            format!("{} is not an argument: 0 to 5", condition.arg),
        ));
    }
    integer(&format!("{at}.value"), condition.value)?;
    match (condition.op, condition.mask) {
        (Op::Mask, None) => Err(refuse(
            format!("{at}.mask"),
            "is null, and `mask` needs one",
        )),
        (Op::Mask, Some(mask)) => {
            integer(&format!("{at}.mask"), mask)?;
            if condition.value & !mask != 0 {
                return Err(refuse(
                    format!("{at}.value"),
                    "has bits that the mask takes away: it can never hold",
                ));
            }
            Ok(())
        }
        (_, Some(_)) => Err(refuse(
            format!("{at}.mask"),
            "belongs to the operator `mask` alone",
        )),
        (_, None) => Ok(()),
    }
}

fn environment(plan: &Plan) -> Checked {
    let env = &plan.environment;
    for (name, globs) in [("pass", &env.pass), ("scrub", &env.scrub)] {
        each(&format!("environment.{name}"), globs, |at, glob| {
            string(at, glob)?;
            not_empty(at, glob)?;
            Glob::new(glob)
                .map(drop)
                .map_err(|e| refuse(at, format!("{glob:?}: {e}")))
        })?;
    }
    if env.set.len() > MAX_ENTRIES {
        return Err(refuse(
            "environment.set",
            format!("has more than {MAX_ENTRIES} entries"),
        ));
    }
    for (key, value) in &env.set {
        let at = format!("environment.set[{key:?}]");
        string(&at, key)?;
        string(&at, value)?;
        if key.is_empty() || key.contains('=') {
            return Err(refuse(
                at,
                "is not a name for a variable: it is empty or has `=` in it",
            ));
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
        value.map_or(Ok(()), |v| integer(&format!("limits.{name}"), v))
    })
}

fn each<T>(at: &str, list: &[T], check: impl Fn(&str, &T) -> Checked) -> Checked {
    if list.len() > MAX_ENTRIES {
        return Err(refuse(
            at,
            format!("has {} entries, more than {MAX_ENTRIES}", list.len()),
        ));
    }
    list.iter()
        .enumerate()
        .try_for_each(|(i, item)| check(&format!("{at}[{i}]"), item))
}

fn grant(at: &str, grant: &Grant) -> Checked {
    path(&format!("{at}.path"), &grant.path)?;
    origin(&format!("{at}.origin"), &grant.origin)
}

fn place(at: &str, place: &Place) -> Checked {
    path(&format!("{at}.path"), &place.path)?;
    origin(&format!("{at}.origin"), &place.origin)
}

fn rule(at: &str, rule: &Rule) -> Checked {
    let at_pattern = format!("{at}.pattern");
    string(&at_pattern, &rule.pattern)?;
    // The variables' values do not matter here: they are never read as globs.
    let anywhere =
        Variables::new("/", Some("/"), "/").map_err(|e| refuse(&at_pattern, e.to_string()))?;
    Pattern::new(&rule.pattern, &anywhere).map_err(|e| refuse(&at_pattern, e.to_string()))?;
    origin(&format!("{at}.origin"), &rule.origin)
}

fn path(at: &str, path: &str) -> Checked {
    string(at, path)?;
    if path.contains(['*', '?', '[']) {
        return Err(refuse(
            at,
            format!("{path:?} has a glob in it: only `deny` and `protect` take patterns"),
        ));
    }
    split(path).map(drop).map_err(|e| refuse(at, e.to_string()))
}

fn origin(at: &str, origin: &Origin) -> Checked {
    string(&format!("{at}.file"), &origin.file)?;
    if origin.line == 0 || origin.column == 0 {
        return Err(refuse(at, "lines and columns count from 1"));
    }
    Ok(())
}

fn syscall_name(at: &str, name: &str) -> Checked {
    let sound = !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if sound {
        Ok(())
    } else {
        Err(refuse(
            at,
            format!("{name:?} is not the name of a system call"),
        ))
    }
}

fn digest(at: &str, text: &str) -> Checked {
    let sound = text.strip_prefix("blake3:").is_some_and(|hex| {
        hex.len() == 64
            && hex
                .bytes()
                .all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'))
    });
    if sound {
        Ok(())
    } else {
        Err(refuse(at, "is not `blake3:` and 64 lower-case hex digits"))
    }
}

fn integer(at: &str, value: u64) -> Checked {
    if value > MAX_INTEGER {
        Err(refuse(at, format!("{value} is not below 2^53")))
    } else {
        Ok(())
    }
}

fn not_empty(at: &str, text: &str) -> Checked {
    if text.is_empty() {
        Err(refuse(at, "is empty"))
    } else {
        Ok(())
    }
}

fn string(at: &str, text: &str) -> Checked {
    if text.len() > MAX_STRING {
        return Err(refuse(
            at,
            format!("is {} bytes long, more than {MAX_STRING}", text.len()),
        ));
    }
    if text.contains('\0') {
        Err(refuse(at, "has a NUL in it"))
    } else {
        Ok(())
    }
}
