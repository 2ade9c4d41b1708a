//! What presets protect at the top of the workspace, at the top of other repositories below it.
//!
//! A person opens an editor, an agent or a shell where a repository begins, and that need not be the workspace. Only
//! lines of presets are meant that name something of the workspace: a person's own line holds where it says. Whether a
//! repository begins somewhere is not known here: who asks has to look.
//!
//! `protect: [.vscode]` → `lib/.vscode/tasks.json` is protected where `lib/.git` was there before the run

use super::{Access, Guarded, RuleId, RuleRef};
use crate::plan::model::Rule;
use crate::plan::pattern::Pattern;
use std::os::unix::ffi::OsStrExt;

/// Where origins of presets begin.
const PRESET: &str = "preset:";
const WORKSPACE: &str = "${workspace}/";

/// One line, without the workspace before it.
#[derive(Clone, Debug)]
pub(super) struct Top {
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
}

impl Access {
    /// Without a trailing slash: the root is empty.
    fn workspace(&self) -> &[u8] {
        let workspace = self.variables.workspace().as_os_str().as_bytes();
        workspace.strip_suffix(b"/").unwrap_or(workspace)
    }

    /// Remember a line that protects, if it is one of these.
    pub(super) fn top(&mut self, line: &Rule, pattern: &Pattern, rule: RuleId) {
        let workspace = self.workspace();
        if line.origin.file.starts_with(PRESET)
            && line.pattern.starts_with(WORKSPACE)
            && let Some(below) = pattern.anchor().strip_prefix(workspace)
        {
            self.tops.push(Top {
                below: below.to_vec(),
                pattern: pattern.clone(),
                rule,
            });
        }
    }

    /// What protects a name below the workspace because `begins` says that a repository begins in a directory above it.
    pub fn top_of(&self, name: &[u8], begins: impl Fn(&[u8]) -> bool) -> Option<Guarded> {
        let workspace = self.workspace();
        let rest = name.strip_prefix(workspace)?;
        let slashes = memchr::memchr_iter(b'/', rest).filter(|&at| at > 0);
        for at in slashes {
            let Some(top) = self.tops.iter().find(|top| top.covers(&rest[at..])) else {
                continue;
            };
            let directory = &name[..workspace.len() + at];
            if !begins(directory) {
                continue;
            }
            let line = self.reference(top.rule)?;
            let where_to = String::from_utf8_lossy(&rest[1..at]).into_owned();
            return Some(Guarded {
                rule: RuleRef {
                    text: format!("{}: a repository begins at {where_to}", line.text),
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
}
