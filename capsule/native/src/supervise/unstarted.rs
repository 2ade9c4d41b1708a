//! Why a program that is there on the host does not start inside, and what would let it.
//!
//! It looks at the host's files when the run is over already, and only to find words: what it says is advice. It refuses
//! to advise where the policy lists its programs one by one: there nothing is to be widened by the way, and the refusal
//! is told as every other one.

use super::guard::plain;
use crate::log_terminal::shown;
use crate::monitor::wire::{self, Denial, Layer, Operation, RuleLine};
use crate::plan::{Access, Alias, Extras, Plan, Variables, Verdict, Want};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Bytes of a script's first line that the kernel looks at (`BINPRM_BUF_SIZE`).
const HEAD: u64 = 256;
/// Names on the way: interpreters and links.
const MOST: usize = 40;

/// What the policy keeps from `command`, and the line that grants it; `None` when that is not what is wrong.
#[must_use]
pub fn explain(command: &str, plan: &Plan, variables: &Variables) -> Option<String> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let file = find(command, variables.cwd(), &search)?;
    if let Some(interpreter) = inert(&file) {
        return Some(format!(
            "it is {} here, whose interpreter {} is there and is not executable; make it so: chmod +x {}",
            shown(&file),
            shown(&interpreter),
            shown(&interpreter)
        ));
    }
    if let Some(interpreter) = absent(&file) {
        return Some(format!(
            "it is {} here, whose interpreter {interpreter:?} is not there; correct its first line, or install that",
            shown(&file),
        ));
    }
    if plan.process.programs.is_some() {
        return None;
    }
    let access = Access::new(plan, variables, &Extras::default()).ok()?;
    let mut places: Vec<PathBuf> = Vec::new();
    for name in needed(&file) {
        if !access.uses(name.as_os_str().as_bytes()).execute {
            places.push(place(&name, variables));
        }
    }
    places.sort();
    places.dedup_by(|later, earlier| later.starts_with(&*earlier));
    let written: Option<Vec<String>> = places
        .iter()
        .map(|place| variables.written(place.as_os_str().as_bytes()))
        .map(|text| text.and_then(|text| serde_json::to_string(&text).ok()))
        .collect();
    let list = written.filter(|list| !list.is_empty())?.join(", ");
    Some(format!(
        "it is {} here, and the policy keeps from it what it needs; to allow: filesystem: {{read: [{list}], execute: [{list}]}}",
        shown(&file)
    ))
}

/// What the list of programs keeps from `command`: itself or an interpreter; as the refusal that nobody inside could
/// report, since nothing ran there yet. `None` when there is no list, or that is not what is wrong.
#[must_use]
pub fn unlisted(command: &str, plan: &Plan, variables: &Variables) -> Option<Denial> {
    let list = plan.process.programs.as_ref()?;
    let search = std::env::var_os("PATH").unwrap_or_default();
    let file = find(command, variables.cwd(), &search)?;
    let listed = list.iter().filter_map(|program| {
        let name = variables.path(&program.path).ok()?;
        let real = name.canonicalize().ok()?;
        Some(Alias { name, real })
    });
    let extras = Extras {
        aliases: listed.collect(),
        ..Extras::default()
    };
    let access = Access::new(plan, variables, &extras).ok()?;
    needed(&file).into_iter().find_map(|name| {
        let name = name.canonicalize().ok()?;
        let Verdict::Refused(refusal) = access.decide(name.as_os_str().as_bytes(), Want::Execute)
        else {
            return None;
        };
        Some(Denial {
            program: "capsule".to_owned(),
            pid: 0,
            operation: Operation::Execute,
            syscall: "execve".to_owned(),
            target: wire::text(name.as_os_str().as_bytes()),
            layer: Layer::Landlock,
            errno: "EACCES".to_owned(),
            rule: refusal.rule.map(|rule| RuleLine {
                text: rule.text,
                file: rule.file,
                line: rule.line,
            }),
            allow: refusal.allow,
            probe: false,
        })
    })
}

/// The first interpreter of a script that is there and may be executed by nobody.
fn inert(file: &Path) -> Option<PathBuf> {
    let mut names = needed(file).into_iter().skip(1);
    names.find(|name| {
        let found = name.metadata();
        found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 == 0)
    })
}

/// The first interpreter of a script that is nowhere on this machine: no rule would help.
fn absent(file: &Path) -> Option<PathBuf> {
    let mut names = needed(file).into_iter().skip(1);
    names.find(|name| {
        let found = name.symlink_metadata();
        found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    })
}

/// The file that a shell on the host would start.
fn find(command: &str, here: &Path, search: &OsStr) -> Option<PathBuf> {
    let runs = |path: &PathBuf| {
        let found = path.metadata();
        found.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if command.ends_with('/') {
        // A directory or nothing: without the slash it would be another file.
        return None;
    }
    if command.contains('/') {
        return Some(plain(&here.join(command))).filter(runs);
    }
    std::env::split_paths(search)
        .map(|directory| here.join(directory).join(command))
        .find(runs)
}

/// The names that starting a file goes over: itself, what its links lead to, the interpreters of scripts.
fn needed(file: &Path) -> Vec<PathBuf> {
    let mut names = Vec::new();
    let mut next = Some(file.to_owned());
    while let Some(name) = next.filter(|_| names.len() < MOST) {
        next = match name.read_link() {
            Ok(target) => name.parent().map(|parent| plain(&parent.join(target))),
            Err(_) => interpreter(&name),
        };
        names.push(name);
    }
    names
}

fn interpreter(script: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    File::open(script)
        .ok()?
        .take(HEAD)
        .read_to_end(&mut head)
        .ok()?;
    let line = head
        .strip_prefix(b"#!")?
        .split(|&byte| byte == b'\n')
        .next()?;
    // As the kernel reads it: a carriage return belongs to the name.
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let line = &line[line.iter().take_while(|byte| blank(byte)).count()..];
    let end = line.iter().position(|byte| blank(byte) || *byte == 0);
    let path = PathBuf::from(OsStr::from_bytes(&line[..end.unwrap_or(line.len())]));
    path.is_absolute().then(|| plain(&path))
}

/// What is granted for a program: its directory, and where that is the `bin` of an installation, the whole of it; never
/// everything.
fn place(program: &Path, variables: &Variables) -> PathBuf {
    let directory = program.parent().unwrap_or(program);
    if directory == Path::new("/") {
        return program.to_owned();
    }
    let above = directory.parent().filter(|above| {
        directory.ends_with("bin") && *above != Path::new("/") && Some(*above) != variables.home()
    });
    above.unwrap_or(directory).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn starting_a_script_goes_over_its_links_and_its_interpreter() {
        let here = tempfile::tempdir().unwrap();
        let at = |name: &str| here.path().join(name);
        fs::create_dir_all(at("real/bin")).unwrap();
        fs::create_dir_all(at("venv/bin")).unwrap();
        fs::write(at("real/bin/python3.13"), "\x7fELF").unwrap();
        symlink("../../real/bin/python3.13", at("venv/bin/python")).unwrap();
        let script = at("venv/bin/tool");
        fs::write(
            &script,
            format!("#! {} -I\n", at("venv/bin/python").display()),
        )
        .unwrap();
        let names = [
            script.clone(),
            at("venv/bin/python"),
            at("real/bin/python3.13"),
        ];
        assert_eq!(needed(&script), names);
        assert_eq!(
            find("tool", here.path(), at("venv/bin").as_os_str()),
            None,
            "not executable"
        );
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(
            find("tool", here.path(), at("venv/bin").as_os_str()),
            Some(script.clone())
        );
        assert_eq!(
            find("./venv/../venv/bin/tool", here.path(), OsStr::new("")),
            Some(script)
        );
        assert_eq!(find("./venv/bin/tool/", here.path(), OsStr::new("")), None);
    }

    #[test]
    fn an_interpreter_that_nobody_may_execute_is_named() {
        let here = tempfile::tempdir().unwrap();
        let (script, inner) = (here.path().join("tool"), here.path().join("inner"));
        fs::write(&script, format!("#!{}\n", inner.display())).unwrap();
        assert_eq!(inert(&script), None, "it is not there");
        fs::write(&inner, "\x7fELF").unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(inert(&script), Some(inner.clone()));
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(inert(&script), None);
    }

    #[test]
    fn an_interpreter_that_is_nowhere_is_named_as_the_kernel_reads_it() {
        let here = tempfile::tempdir().unwrap();
        let script = here.path().join("tool");
        for (line, expected) in [
            ("#!/no-such/sh -x\n", Some("/no-such/sh")),
            ("#! \t/no-such/sh\t-x", Some("/no-such/sh")),
            ("#!/bin/sh\r\n", Some("/bin/sh\r")),
            ("#!/bin/sh\n", None),
            ("#!sh\n", None),
            ("echo\n", None),
        ] {
            fs::write(&script, line).unwrap();
            assert_eq!(absent(&script), expected.map(PathBuf::from), "{line:?}");
        }
    }

    #[test]
    fn a_script_that_is_its_own_interpreter_comes_to_an_end() {
        let here = tempfile::tempdir().unwrap();
        let script = here.path().join("x");
        fs::write(&script, format!("#!{}", script.display())).unwrap();
        assert_eq!(needed(&script).len(), MOST);
    }
}
