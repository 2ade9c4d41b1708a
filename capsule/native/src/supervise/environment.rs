//! What the command sees of the environment.
//!
//! Pure. `pass` lets names through, `scrub` wins over it, `set` and the command line put values in. Names that make
//! a program run code chosen by the environment never pass through a glob, however wide: only by their whole name.
//! It refuses: names that are empty or hold `=` or NUL.

use crate::monitor::wire;
use crate::plan::{Environment, Glob};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Variables by which the environment runs code in a program it did not choose (ld.so(8), bash(1), python(1),
/// node(1), perlrun(1), ruby(1), git(1), java's launcher, lesspipe).
const RUNS_CODE: [&str; 25] = [
    "BASH_ENV",
    "BASH_FUNC_*",
    "ENV",
    "GCONV_PATH",
    "GIT_ASKPASS",
    "GIT_CONFIG_*",
    "GIT_EDITOR",
    "GIT_EXEC_PATH",
    "GIT_EXTERNAL_DIFF",
    "GIT_PAGER",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GLIBC_TUNABLES",
    "JAVA_TOOL_OPTIONS",
    "LD_*",
    "LESSOPEN",
    "LOCPATH",
    "NODE_OPTIONS",
    "PERL5DB",
    "PERL5OPT",
    "PROMPT_COMMAND",
    "PS4",
    "PYTHONINSPECT",
    "PYTHONSTARTUP",
    "RUBYOPT",
];

/// Where the names of an environment came from, sorted: for the log, which has no values of them. Which of them a program
/// read nobody knows: it reads them in its own memory.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Of the caller, as they were.
    pub passed: Vec<String>,
    /// Put in by the plan.
    pub set: Vec<String>,
    /// Of the command line.
    pub chosen: Vec<String>,
    /// The caller had them, and the command does not.
    pub withheld: Vec<String>,
}

/// Build the environment as `NAME=value` strings. `given` is the caller's, `chosen` the command line's.
///
/// # Errors
/// The name on the command line that cannot be one.
pub fn build(
    plan: &Environment,
    given: impl Iterator<Item = (OsString, OsString)>,
    chosen: &[(OsString, OsString)],
) -> Result<(Vec<CString>, Account), String> {
    let globs = |list: &[String]| -> Vec<Glob> {
        list.iter()
            .filter_map(|text| Glob::new(text).ok())
            .collect()
    };
    let (pass, scrub) = (globs(&plan.pass), globs(&plan.scrub));
    let runs_code: Vec<Glob> = RUNS_CODE
        .iter()
        .filter_map(|text| Glob::new(text).ok())
        .collect();
    let matches =
        |list: &[Glob], name: &OsStr| list.iter().any(|glob| glob.matches(name.as_bytes()));

    let mut values: BTreeMap<OsString, OsString> = BTreeMap::new();
    let (mut passed, mut withheld) = (BTreeSet::new(), BTreeSet::new());
    for (name, value) in given {
        let named = plan
            .pass
            .iter()
            .any(|text| text.as_bytes() == name.as_bytes());
        if matches(&pass, &name)
            && !matches(&scrub, &name)
            && (named || !matches(&runs_code, &name))
        {
            passed.insert(name.clone());
            values.insert(name, value);
        } else {
            withheld.insert(name);
        }
    }
    for (name, value) in &plan.set {
        values.insert(name.into(), value.into());
    }
    for (name, value) in chosen {
        let bytes = name.as_bytes();
        if bytes.is_empty() || bytes.contains(&b'=') || bytes.contains(&0) {
            return Err(format!("--env: {name:?} is not a name; write NAME=VALUE"));
        }
        values.insert(name.clone(), value.clone());
    }
    let chosen: BTreeSet<&OsString> = chosen.iter().map(|(name, _)| name).collect();
    let sets = |name: &OsString| {
        name.to_str()
            .is_some_and(|name| plan.set.contains_key(name))
    };
    let account = Account {
        passed: told(
            passed
                .iter()
                .filter(|name| !sets(name) && !chosen.contains(name)),
        ),
        set: plan
            .set
            .keys()
            .filter(|name| !chosen.contains(&OsString::from(name)))
            .cloned()
            .collect(),
        withheld: told(withheld.iter().filter(|name| !values.contains_key(*name))),
        chosen: told(chosen.into_iter()),
    };
    let entries: Result<_, String> = values
        .into_iter()
        .map(|(name, value)| {
            let entry = [name.as_bytes(), b"=", value.as_bytes()].concat();
            CString::new(OsString::from_vec(entry).into_vec())
                .map_err(|_| format!("environment: the value of {name:?} holds a NUL"))
        })
        .collect();
    Ok((entries?, account))
}

fn told<'a>(names: impl Iterator<Item = &'a OsString>) -> Vec<String> {
    names.map(|name| wire::text(name.as_bytes())).collect()
}

/// The directories of an inherited `PATH` that exist for the command. One it cannot look into (a virtual environment
/// elsewhere, say) would hand it a link to a program whose other files are not there. Relative ones stay, and all of
/// them when none would be left.
pub fn reachable(path: &OsStr, may: impl Fn(&Path) -> bool) -> OsString {
    let kept: Vec<&[u8]> = path
        .as_bytes()
        .split(|&byte| byte == b':')
        .filter(|part| !part.starts_with(b"/") || may(Path::new(OsStr::from_bytes(part))))
        .collect();
    if kept.iter().all(|part| part.is_empty()) {
        return path.to_owned();
    }
    OsString::from_vec(kept.join(&b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(
        pass: &[&str],
        scrub: &[&str],
        set: &[(&str, &str)],
        given: &[(&str, &str)],
    ) -> Vec<String> {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
        let plan = Environment {
            pass: owned(pass),
            scrub: owned(scrub),
            set: set
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect(),
        };
        let given = given
            .iter()
            .map(|(n, v)| (OsString::from(n), OsString::from(v)));
        build(&plan, given, &[])
            .unwrap()
            .0
            .into_iter()
            .map(|s| s.into_string().unwrap())
            .collect()
    }

    #[test]
    fn scrub_wins_over_pass_and_set_over_both() {
        let given = [
            ("PATH", "/bin"),
            ("API_TOKEN", "s"),
            ("LC_ALL", "C"),
            ("OTHER", "x"),
        ];
        assert_eq!(
            built(&["PATH", "LC_*", "*TOKEN"], &["*TOKEN*"], &[], &given),
            ["LC_ALL=C", "PATH=/bin"]
        );
        assert_eq!(
            built(&["*"], &["*TOKEN*"], &[("API_TOKEN", "none")], &given[1..2]),
            ["API_TOKEN=none"]
        );
    }

    #[test]
    fn what_runs_code_passes_only_by_name() {
        let given = [
            ("LD_PRELOAD", "x"),
            ("BASH_ENV", "x"),
            ("BASH_FUNC_ls%%", "x"),
            ("PYTHONSTARTUP", "x"),
            ("A", "1"),
        ];
        assert_eq!(built(&["*"], &[], &[], &given), ["A=1"]);
        assert_eq!(
            built(&["LD_PRELOAD"], &[], &[], &given[..1]),
            ["LD_PRELOAD=x"]
        );
        assert_eq!(
            built(&["*"], &[], &[("LD_PRELOAD", "mine")], &given[..1]),
            ["LD_PRELOAD=mine"]
        );
    }

    #[test]
    fn a_name_from_the_command_line_must_be_one() {
        let plan = Environment {
            pass: vec![],
            set: BTreeMap::new(),
            scrub: vec![],
        };
        let chosen = |name: &str| [(OsString::from(name), OsString::from("v"))];
        let with = |name: &str| build(&plan, std::iter::empty(), &chosen(name));
        assert!(with("").is_err());
        assert!(with("A=B").is_err());
        let (entries, account) = with("A").unwrap();
        assert_eq!(entries, [c"A=v".to_owned()]);
        assert_eq!(account.chosen, ["A"]);
    }

    #[test]
    fn the_account_has_each_name_once_and_no_value() {
        let plan = Environment {
            pass: vec!["P*".to_owned(), "C".to_owned()],
            set: [("PS", "v"), ("C", "v"), ("S", "v")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            scrub: vec!["*TOKEN".to_owned()],
        };
        let given = ["PATH", "PS", "P_TOKEN", "C", "S", "OTHER"]
            .map(|name| (OsString::from(name), OsString::from("value-of-it")));
        let chosen = [(OsString::from("C"), OsString::from("chosen-value"))];
        let (_, account) = build(&plan, given.into_iter(), &chosen).unwrap();
        assert_eq!(
            account,
            Account {
                passed: vec!["PATH".to_owned()],
                set: vec!["PS".to_owned(), "S".to_owned()],
                chosen: vec!["C".to_owned()],
                withheld: vec!["OTHER".to_owned(), "P_TOKEN".to_owned()],
            }
        );
    }

    #[test]
    fn directories_out_of_reach_leave_the_path() {
        let may = |path: &Path| path.starts_with("/usr");
        let path = |text: &str| reachable(OsStr::new(text), may).into_string().unwrap();
        assert_eq!(path("/far/bin:/usr/bin:bin"), "/usr/bin:bin");
        assert_eq!(path("/usr/bin"), "/usr/bin");
        assert_eq!(path("/far/bin"), "/far/bin");
        assert_eq!(path(""), "");
    }
}
