//! Where git looks for hooks and settings when it is used in the workspace, if not in `.git/hooks` and `.git/config`.
//!
//! Read by the launcher, as the user who is about to use git there: `.git` that is a file or a link, the common directory
//! of worktrees, `core.hooksPath`, what the repository's settings include, and a workspace that is a bare repository. It
//! refuses to read more than a bounded beginning of each file, and of a bounded number of them.
//!
//! `core.hooksPath = .husky/_` → `/w/.husky/_` is protected as `.git/hooks` is

use super::guard::{plain, real};
use crate::plan::Led;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes of one file that are read.
const MOST: u64 = 256 * 1024;
/// Files of settings that are read.
const MOST_FILES: usize = 64;

/// What git runs in a directory of hooks.
const HOOKS: &[&str] = &[
    "applypatch-msg",
    "commit-msg",
    "fsmonitor-watchman",
    "post-applypatch",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "post-receive",
    "post-rewrite",
    "post-update",
    "pre-applypatch",
    "pre-auto-gc",
    "pre-commit",
    "pre-merge-commit",
    "pre-push",
    "pre-rebase",
    "pre-receive",
    "prepare-commit-msg",
    "proc-receive",
    "push-to-checkout",
    "reference-transaction",
    "sendemail-validate",
    "update",
];

/// The names that mean to git what `.git/hooks` and `.git/config` mean, and why.
#[must_use]
pub fn led(workspace: &Path, home: Option<&Path>) -> Vec<Led> {
    let mut led = Vec::new();
    let dot = workspace.join(".git");
    let Ok(kind) = std::fs::symlink_metadata(&dot) else {
        if is_repository(workspace) {
            directory(&mut led, workspace, "the workspace is a bare repository");
            leads(&mut led, workspace, workspace, home);
        }
        return led;
    };
    let own = if kind.is_dir() {
        dot.clone()
    } else if kind.is_symlink() {
        real(&dot)
    } else {
        match line(&dot, "gitdir: ") {
            Some(to) => real(&workspace.join(to)),
            None => return led,
        }
    };
    let common = line(&own.join("commondir"), "").map(|to| real(&own.join(to)));
    for directory_of in [Some(&own), common.as_ref()].into_iter().flatten() {
        if *directory_of != dot {
            directory(&mut led, directory_of, "`.git` of the workspace leads here");
        }
    }
    leads(&mut led, &own, workspace, home);
    if let Some(common) = &common {
        leads(&mut led, common, workspace, home);
    }
    led
}

fn is_repository(path: &Path) -> bool {
    path.join("HEAD").is_file() && path.join("objects").is_dir() && path.join("refs").is_dir()
}

fn directory(led: &mut Vec<Led>, at: &Path, why: &str) {
    for (name, means) in [
        ("hooks", "hooks"),
        ("config", "config"),
        ("config.worktree", "config"),
        ("commondir", "config"),
    ] {
        led.push(Led {
            name: at.join(name),
            means,
            why: why.to_owned(),
        });
    }
}

/// What the settings in a directory, and those that they include, name: hooks, and settings.
fn leads(led: &mut Vec<Led>, directory: &Path, workspace: &Path, home: Option<&Path>) {
    let mut files = vec![directory.join("config"), directory.join("config.worktree")];
    let mut at = 0;
    while let Some(file) = files.get(at).cloned() {
        at += 1;
        let Some(text) = read(&file) else {
            continue;
        };
        for (setting, value) in settings(&text) {
            let (base, means, why) = match setting {
                Setting::Hooks => (
                    Some(workspace),
                    "hooks",
                    "core.hooksPath of the repository leads here",
                ),
                Setting::Include => (
                    file.parent(),
                    "config",
                    "the repository's settings include it",
                ),
            };
            let path = match (value.strip_prefix("~/"), home) {
                (Some(rest), Some(home)) => home.join(rest),
                _ => base.unwrap_or(workspace).join(&value),
            };
            let path = real(&plain(&path));
            let names: Vec<PathBuf> = match setting {
                // Among everything else: the hooks alone.
                Setting::Hooks if workspace.starts_with(&path) => {
                    HOOKS.iter().map(|hook| path.join(hook)).collect()
                }
                Setting::Hooks => vec![path],
                Setting::Include => {
                    if files.len() < MOST_FILES && !files.contains(&path) {
                        files.push(path.clone());
                    }
                    vec![path]
                }
            };
            led.extend(names.into_iter().map(|name| Led {
                name,
                means,
                why: why.to_owned(),
            }));
        }
    }
}

fn read(path: &Path) -> Option<String> {
    if !std::fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(MOST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What follows `start` in a file of one line.
fn line(path: &Path, start: &str) -> Option<PathBuf> {
    let text = read(path)?;
    let rest = text.strip_prefix(start)?.trim_end_matches(['\n', '\r']);
    (!rest.is_empty()).then(|| PathBuf::from(std::ffi::OsStr::from_bytes(rest.as_bytes())))
}

/// What leads elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setting {
    /// `core.hooksPath`
    Hooks,
    /// `include.path`, and `path` of any `includeIf`.
    Include,
}

/// Every value that leads elsewhere, in git's own syntax of settings.
fn settings(text: &str) -> Vec<(Setting, String)> {
    let (mut found, mut section) = (Vec::new(), None);
    let joined = text.replace("\\\r\n", "").replace("\\\n", "");
    for line in joined.lines() {
        let mut line = line.trim_start();
        if let Some(rest) = line.strip_prefix('[') {
            let Some((head, after)) = header(rest) else {
                continue;
            };
            section = of_section(head);
            line = after.trim_start();
        }
        let (Some((setting, key)), Some((name, value))) = (section, line.split_once('=')) else {
            continue;
        };
        if name.trim().eq_ignore_ascii_case(key) {
            let value = unquoted(value.trim_start());
            if !value.is_empty() {
                found.push((setting, value));
            }
        }
    }
    found
}

/// What stands before the `]` that ends a section's name, and after it; one within quotes ends none.
fn header(rest: &str) -> Option<(&str, &str)> {
    let (mut quoted, mut escaped) = (false, false);
    let end = rest.find(|c| {
        let ends = c == ']' && !quoted;
        if c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = c == '\\' && !escaped;
        ends
    })?;
    Some((&rest[..end], &rest[end + 1..]))
}

fn of_section(head: &str) -> Option<(Setting, &'static str)> {
    let head = head.trim();
    let name = head.split('"').next().unwrap_or_default().trim_end();
    let alone = name == head;
    if alone && name.eq_ignore_ascii_case("core") {
        Some((Setting::Hooks, "hookspath"))
    } else if alone && name.eq_ignore_ascii_case("include")
        || !alone && name.eq_ignore_ascii_case("includeif")
    {
        Some((Setting::Include, "path"))
    } else {
        None
    }
}

fn unquoted(value: &str) -> String {
    let (mut out, mut quoted, mut keep) = (String::new(), false, 0);
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' => match characters.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(other) => out.push(other),
                None => {}
            },
            '#' | ';' if !quoted => break,
            _ => out.push(c),
        }
        if quoted || !c.is_whitespace() {
            keep = out.len();
        }
    }
    out.truncate(keep);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_read_as_git_reads_it() {
        for (text, expected) in [
            ("[core]\n\thooksPath = .husky/_\n", vec![".husky/_"]),
            ("[CORE] hookspath=\"a b\" # no\n", vec!["a b"]),
            ("[core]\nHooksPath = a \\\n b ; c\n", vec!["a  b"]),
            (
                "[core]\nhooksPath = a\n[core]\nhooksPath = b\n",
                vec!["a", "b"],
            ),
            (
                "[core \"x\"]\nhooksPath = a\n[user]\nhooksPath = b\n",
                vec![],
            ),
            ("# [core]\n[core]\n;hooksPath = a\n", vec![]),
        ] {
            let found = settings(text).into_iter();
            let hooks: Vec<String> = found
                .filter(|(setting, _)| *setting == Setting::Hooks)
                .map(|(_, value)| value)
                .collect();
            assert_eq!(hooks, expected, "{text:?}");
        }
        let text = "[include] path = a\n[includeIf \"gitdir:~/x[]]/\"]\npath=b\n[includeIf]\npath=c\n\
                    [include \"x\"]\npath = d\n[other]\npath = e\n";
        let included: Vec<String> = settings(text).into_iter().map(|(_, value)| value).collect();
        assert_eq!(included, ["a", "b"]);
    }

    #[test]
    fn it_leads_from_files_links_worktrees_and_bare_repositories() {
        let here = tempfile::tempdir().unwrap();
        let root = here.path().canonicalize().unwrap();
        let make = |name: &str, text: &str| {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let names = |workspace: &str| -> Vec<String> {
            led(&root.join(workspace), Some(&root))
                .into_iter()
                .map(|one| one.name.strip_prefix(&root).unwrap().display().to_string())
                .collect()
        };
        std::fs::create_dir_all(root.join("none")).unwrap();
        assert!(names("none").is_empty());
        make("plain/.git/config", "[core]\nhooksPath = ../plain/./my\n");
        assert_eq!(names("plain"), ["plain/my"]);
        make("home/.git/config", "[core]\nhooksPath = ~/all\n");
        assert_eq!(names("home"), ["all"]);
        make("odd/.git/config", "[core]\nhooksPath = .\n");
        assert!(names("odd").contains(&"odd/pre-commit".to_owned()));
        make("with/.git/config", "[include]\npath = ../.gitconfig\n");
        make(
            "with/.gitconfig",
            "[include]\npath = more\n[include]\npath = .gitconfig\n[core]\nhooksPath = tools\n",
        );
        assert_eq!(
            names("with"),
            [
                "with/.gitconfig",
                "with/more",
                "with/.gitconfig",
                "with/tools"
            ]
        );
        make("tree/.git", "gitdir: ../plain/.git/worktrees/tree\n");
        make("plain/.git/worktrees/tree/commondir", "../..\n");
        let found = names("tree");
        for name in [
            "plain/.git/hooks",
            "plain/.git/config",
            "plain/.git/worktrees/tree/config.worktree",
            "plain/my",
        ] {
            let name = name.replace("plain/my", "tree/../plain/my");
            let name = name.replace("tree/../", "");
            assert!(found.contains(&name), "{name}: {found:?}");
        }
        make("bare/HEAD", "ref: refs/heads/main\n");
        std::fs::create_dir_all(root.join("bare/objects")).unwrap();
        std::fs::create_dir_all(root.join("bare/refs")).unwrap();
        assert!(names("bare").contains(&"bare/hooks".to_owned()));
    }
}
