//! What is protected at the top of a workspace because programs run it, at the top of repositories below it.
//!
//! A person opens an editor, an agent or a shell where a repository begins, and that need not be the workspace. Only
//! lines are meant that name one of the names that the preset `workspace` protects at its top, wherever the line
//! stands: in the preset, or in a policy that was suggested or written. Any other line holds where it says. Whether a
//! repository begins somewhere is not known here: who asks has to look.
//!
//! `protect: [.vscode]` → `lib/.vscode/tasks.json` is protected where `lib/.git` was there before the run

use super::{Access, Guarded, RuleId, RuleRef};
use crate::plan::pattern::Pattern;

/// The names, as the preset `workspace` has them.
const NAMES: &[&str] = &[
    ".husky",
    ".githooks",
    ".pre-commit-config.yaml",
    ".overcommit.yml",
    ".lefthook",
    ".lefthook.yml",
    ".lefthook-local.yml",
    "lefthook.yml",
    "lefthook-local.yml",
    ".vscode",
    "*.code-workspace",
    ".idea",
    ".zed",
    ".exrc",
    ".nvimrc",
    ".nvim.lua",
    ".dir-locals.el",
    ".dir-locals-2.el",
    ".envrc",
    "mise.toml",
    ".mise.toml",
    ".devcontainer",
    ".devcontainer.json",
    ".mcp.json",
    ".claude",
    ".codex",
    ".cursor",
    ".windsurf",
    ".gemini",
    "capsule.yaml",
];

/// One line: the directory whose top it is about, and what of it.
#[derive(Clone, Debug)]
pub(super) struct Top {
    base: Vec<u8>,
    below: Vec<u8>,
    pattern: Pattern,
    rule: RuleId,
}

impl Top {
    fn covers(&self, rest: &[u8]) -> bool {
        match rest.strip_prefix(self.below.as_slice()) {
            Some(rest @ ([] | [b'/', ..])) => self.pattern.covers_below(rest),
            _ => false,
        }
    }

    /// Whether a directory lies below the one that the line is about.
    fn is_above(&self, directory: &[u8]) -> bool {
        matches!(
            directory.strip_prefix(self.base.as_slice()),
            Some([b'/', ..])
        )
    }
}

impl Access {
    /// Remember a line that protects, as it is written, if it is one of these.
    pub(super) fn top(&mut self, line: &str, pattern: &Pattern, rule: RuleId) {
        let Some((directory, name)) = line.rsplit_once('/') else {
            return;
        };
        if directory.contains("**") || !NAMES.contains(&name) {
            return;
        }
        let anchor = pattern.anchor();
        let cut = if pattern.is_literal() {
            anchor.len() - name.len() - 1
        } else {
            anchor.len()
        };
        self.tops.push(Top {
            base: anchor[..cut].to_vec(),
            below: anchor[cut..].to_vec(),
            pattern: pattern.clone(),
            rule,
        });
    }

    /// What protects a name because `begins` says that a repository begins in a directory above it.
    pub fn top_of(&self, name: &[u8], begins: impl Fn(&[u8]) -> bool) -> Option<Guarded> {
        for at in memchr::memchr_iter(b'/', name).filter(|&at| at > 0) {
            let (directory, rest) = name.split_at(at);
            let mut tops = self.tops.iter();
            let Some(top) = tops.find(|top| top.covers(rest) && top.is_above(directory)) else {
                continue;
            };
            if !begins(directory) {
                continue;
            }
            let line = self.reference(top.rule)?;
            let below = &directory[top.base.len() + 1..];
            return Some(Guarded {
                rule: RuleRef {
                    text: format!(
                        "{}: a repository begins at {}",
                        line.text,
                        String::from_utf8_lossy(below)
                    ),
                    ..line
                },
                allow: self.without(top.rule),
                repository: false,
            });
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use crate::plan::presets;
    use crate::plan::{Access, Extras, Variables, parse};

    fn access(workspace: &str) -> Access {
        let preset = presets::named("workspace").unwrap();
        let plan = parse(preset.plan.as_bytes()).unwrap();
        let variables = Variables::new(workspace, Some("/home/u"), workspace).unwrap();
        Access::new(&plan, &variables, &Extras::default()).unwrap()
    }

    #[test]
    fn what_is_kept_at_the_top_is_kept_where_a_repository_begins() {
        let access = access("/w");
        let begins = |directory: &[u8]| directory == b"/w/lib/a";
        let kept = |name: &str| access.top_of(name.as_bytes(), begins);
        for name in [
            "/w/lib/a/.vscode/tasks.json",
            "/w/lib/a/.envrc",
            "/w/lib/a/x.code-workspace",
            "/w/lib/a/capsule.yaml",
        ] {
            let guarded = kept(name).unwrap();
            assert!(guarded.rule.text.ends_with("a repository begins at lib/a"));
            assert!(guarded.allow.unwrap().contains("protect"));
        }
        for name in [
            "/w/lib/a/src/.vscode/tasks.json",
            "/w/lib/.envrc",
            "/w/lib/a/.vscodes",
            "/w/.envrc",
            "/v/lib/a/.envrc",
            "/w/lib/a",
        ] {
            assert!(kept(name).is_none(), "{name}");
        }
    }

    #[test]
    fn nothing_is_looked_at_for_names_that_no_line_means() {
        let access = access("/");
        let never = |_: &[u8]| panic!("looked");
        assert!(access.top_of(b"/a/b/c/main.rs", never).is_none());
        assert!(access.top_of(b"/a/.envrc", |at| at == b"/a").is_some());
    }

    #[test]
    fn the_names_are_those_of_the_preset() {
        let preset = presets::named("workspace").unwrap();
        let plan = parse(preset.plan.as_bytes()).unwrap();
        let lines = plan.filesystem.protect.iter();
        let names: Vec<&str> = lines
            .filter_map(|line| line.pattern.strip_prefix("${workspace}/"))
            .collect();
        assert_eq!(names, super::NAMES);
    }
}
