//! Where git looks for hooks and settings when it is used in the workspace, if not in `.git/hooks` and `.git/config`.
//!
//! Read by the launcher, as the user who is about to use git there: `.git` that is a file or a link, the common directory
//! of worktrees, `core.hooksPath`, and a workspace that is a bare repository. It refuses to read more than a bounded
//! beginning of each file, and follows no `include`.
//!
//! `core.hooksPath = .husky/_` → `/w/.husky/_` is protected as `.git/hooks` is

use super::guard::{plain, real};
use crate::plan::Led;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Bytes of one file that are read.
const MOST: u64 = 256 * 1024;

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
            hooks_path(&mut led, workspace, workspace, home);
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
    hooks_path(&mut led, &own, workspace, home);
    if let Some(common) = &common {
        hooks_path(&mut led, common, workspace, home);
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

fn hooks_path(led: &mut Vec<Led>, settings: &Path, workspace: &Path, home: Option<&Path>) {
    for file in ["config", "config.worktree"] {
        let Some(text) = read(&settings.join(file)) else {
            continue;
        };
        for value in values(&text) {
            let path = match (value.strip_prefix("~/"), home) {
                (Some(rest), Some(home)) => home.join(rest),
                _ => workspace.join(&value),
            };
            let path = real(&plain(&path));
            let why = "core.hooksPath of the repository leads here";
            let names: Vec<PathBuf> = if workspace.starts_with(&path) {
                // Among everything else: the hooks alone.
                HOOKS.iter().map(|hook| path.join(hook)).collect()
            } else {
                vec![path]
            };
            led.extend(names.into_iter().map(|name| Led {
                name,
                means: "hooks",
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

/// Every value of `core.hooksPath`, in git's own syntax of settings.
fn values(text: &str) -> Vec<String> {
    let (mut found, mut in_core) = (Vec::new(), false);
    let joined = text.replace("\\\r\n", "").replace("\\\n", "");
    for line in joined.lines() {
        let mut line = line.trim_start();
        if let Some(rest) = line.strip_prefix('[') {
            let Some((section, after)) = rest.split_once(']') else {
                continue;
            };
            in_core = section.trim().eq_ignore_ascii_case("core");
            line = after.trim_start();
        }
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        if in_core && name.trim().eq_ignore_ascii_case("hookspath") {
            let value = unquoted(value.trim_start());
            if !value.is_empty() {
                found.push(value);
            }
        }
    }
    found
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
            assert_eq!(values(text), expected, "{text:?}");
        }
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
