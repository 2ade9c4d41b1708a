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
    ".lefthook-local",
    ".lefthook.*",
    ".lefthook-local.*",
    "lefthook.*",
    "lefthook-local.*",
    ".config/lefthook*",
    ".hg/hgrc",
    ".hg/hgrc-not-shared",
    ".hg/sharedpath",
    ".jj/repo/config.toml",
    ".jj/workspace-config.toml",
    ".vscode",
    "*.code-workspace",
    ".idea",
    ".zed",
    ".exrc",
    ".vimrc",
    ".nvimrc",
    ".nvim.lua",
    ".helix",
    ".Rprofile",
    ".dir-locals.el",
    ".dir-locals-2.el",
    ".envrc",
    "mise.toml",
    ".mise.toml",
    "mise.*.toml",
    ".mise.*.toml",
    ".mise",
    ".config/mise",
    ".config/mise.toml",
    ".devcontainer",
    ".devcontainer.json",
    ".mcp.json",
    ".claude",
    ".codex",
    ".cursor",
    ".windsurf",
    ".gemini",
    ".opencode",
    "opencode.json",
    "opencode.jsonc",
    ".aider.conf.yml",
    ".continue",
    ".roo",
    ".kiro",
    ".amazonq",
    ".qwen",
    ".crush.json",
    "crush.json",
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
        let named = NAMES.iter().filter_map(|name| {
            let directory = line.strip_suffix(name)?.strip_suffix('/')?;
            Some((directory, *name))
        });
        let Some((directory, name)) = named.max_by_key(|(_, name)| name.len()) else {
            return;
        };
        if directory.contains("**") {
            return;
        }
        // What of the name stands in the pattern's anchor: all of it, or the directories before its glob.
        let fixed = match (pattern.is_literal(), name.rsplit_once('/')) {
            (true, _) => name.len() + 1,
            (false, Some((before, _))) => before.len() + 1,
            (false, None) => 0,
        };
        let anchor = pattern.anchor();
        let cut = anchor.len() - fixed;
        self.tops.push(Top {
            base: anchor[..cut].to_vec(),
            below: anchor[cut..].to_vec(),
            pattern: pattern.clone(),
            rule,
        });
    }

    /// What protects a name because `begins` says that a repository begins in a directory above it.
    pub fn top_of(&self, name: &[u8], begins: impl Fn(&[u8]) -> bool) -> Option<Guarded> {
        let slashes = name.iter().enumerate().skip(1).filter(|(_, b)| **b == b'/');
        for (at, _) in slashes {
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
            "/w/lib/a/.config/mise.toml",
            "/w/lib/a/.config/lefthook-local.yml",
            "/w/lib/a/.hg/hgrc",
        ] {
            let guarded = kept(name).unwrap();
            assert!(guarded.rule.text.ends_with("a repository begins at lib/a"));
            assert!(guarded.allow.unwrap().contains("protect"));
        }
        for name in [
            "/w/lib/a/src/.vscode/tasks.json",
            "/w/lib/.envrc",
            "/w/lib/a/.vscodes",
            "/w/lib/a/.config/x",
            "/w/lib/a/.hg/store",
            "/w/lib/a/hgrc",
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
