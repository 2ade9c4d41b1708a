//! Lines about git's repositories, and what takes a line out.
//!
//! A line `**/.git/…` protects what git runs or is led by, in every repository there is; it does not hold in one that
//! the run made itself, nor in a private directory. Who knows what the run made is the monitor. The first repository of
//! the workspace is never made by a run: where a person stands, git looks by itself.
//!
//! `/**/.git/hooks` → `proj/.git/hooks/pre-commit` is protected, `new/.git/hooks/pre-commit` is after `git init new` not

use super::{Access, Extras, Kind, RuleId, RuleRef, State, Written, quoted, shown};
use crate::plan::names::Means;
use crate::plan::pattern::Pattern;
use crate::plan::{Refusal, Want};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A name that means to git what one in `.git` usually means, and is protected as that one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Led {
    /// Absolute and resolved.
    pub name: PathBuf,
    /// Of `.git`: `hooks` or `config`.
    pub means: &'static str,
    /// Why: "core.hooksPath of .git/config leads here".
    pub why: String,
}

/// A line that keeps a name from being moved, removed or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guarded {
    /// Which.
    pub rule: RuleRef,
    /// What takes it out.
    pub allow: Option<String>,
    /// It does not hold in a repository that the run made itself.
    pub repository: bool,
}

impl Guarded {
    /// As a refusal.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        Refusal {
            kind: Kind::Protected,
            rule: Some(self.rule),
            allow: self.allow,
            repository: self.repository,
        }
    }
}

/// The repository that a name is or lies in: up to its first `.git`.
#[must_use]
pub fn repository_of(name: &[u8]) -> Option<&[u8]> {
    let mut at = 0;
    for segment in name.split(|&b| b == b'/') {
        at += segment.len() + 1;
        if segment == b".git" {
            return name.get(..at - 1);
        }
    }
    None
}

impl Access {
    /// The deny or protect that moving a *directory* from one name to another would lose: some name beneath it is
    /// covered (now or later) where it is, and would not be where it goes. For both sides of an exchange, ask twice.
    pub fn guards_lost(&self, from: &[u8], to: &[u8]) -> Option<Guarded> {
        if let Some(rule) = self.guards_below(from) {
            return Some(Guarded {
                rule,
                allow: None,
                repository: false,
            });
        }
        let mut soft = None;
        let walked = self.names.walk(from, |step| {
            step.marks
                .globs()
                .iter()
                .find_map(|(pattern, rule, means)| {
                    let here = pattern.positions(step.rest);
                    let there = match to.strip_prefix(pattern.anchor()) {
                        Some(rest @ ([] | [b'/', ..])) => pattern.positions(rest),
                        _ => 0,
                    };
                    let lost = here & !there != 0;
                    if lost && *means == Means::ProtectsRepository {
                        soft = soft.or(Some(*rule));
                        return None;
                    }
                    lost.then_some(*rule)
                })
        });
        let hard = walked.ok()?;
        let soft = soft.filter(|_| hard.is_none() && self.keeps_repository(from));
        let rule = hard.or(soft)?;
        Some(Guarded {
            rule: self.reference(rule)?,
            allow: self.without(rule),
            repository: hard.is_none(),
        })
    }

    /// Whether lines about repositories speak to this name: they do not in what is the run's own and thrown away.
    pub fn keeps_repository(&self, name: &[u8]) -> bool {
        let (mut state, mut kept) = (State::default(), false);
        let walked = self.names.walk(name, |step| {
            kept |= step.marks.keeps_repositories();
            state.areas(step.marks);
            None::<()>
        });
        walked.is_ok() && kept && !state.private
    }

    /// The refusal of a name that leads into a repository of the workspace's own: its `.git` may not be made.
    pub fn is_first_repository(&self, name: &[u8]) -> bool {
        let workspace = self.variables.workspace().as_os_str().as_bytes();
        let below = name.strip_prefix(workspace.strip_suffix(b"/").unwrap_or(workspace));
        below == Some(b"/.git") && self.keeps_repository(name)
    }

    /// All lines about repositories, and what takes them out.
    pub fn about_repositories(&self) -> Option<Guarded> {
        let mut rules = Vec::new();
        self.names.each(|marks| {
            let kept = marks.globs().iter();
            rules.extend(
                kept.filter(|glob| glob.2 == Means::ProtectsRepository)
                    .map(|glob| glob.1),
            );
        });
        rules.sort_unstable();
        rules.dedup();
        Some(Guarded {
            rule: self.reference(*rules.first()?)?,
            allow: self.without_all(&rules),
            repository: true,
        })
    }

    /// Protect a name as the line about its like in `.git` does, if there is one.
    pub(super) fn lead(&mut self, led: &Led, extras: &Extras) {
        let like = [
            self.variables.workspace().as_os_str().as_bytes(),
            b"/.git/",
            led.means.as_bytes(),
        ]
        .concat();
        let mut state = State::default();
        let _ = self
            .names
            .walk(&like, |step| state.apply(step.marks, step.rest));
        let Some(rule) = state.protect.or(state.repository) else {
            return;
        };
        let (Some(line), Some(of)) = (self.reference(rule), self.rules.get(rule as usize)) else {
            return;
        };
        let written = Written {
            field: "",
            text: format!("{}: {}", line.text, led.why),
            origin: of.origin.clone(),
            like: Some(rule),
        };
        self.rules.push(written);
        let pattern = Pattern::literal(led.name.as_os_str().as_bytes());
        self.guard(pattern, (self.rules.len() - 1) as RuleId, false, extras);
    }

    /// What takes out the line that refuses: an entry in the policy that extends a preset, or a word on where it is.
    pub(super) fn without(&self, rule: RuleId) -> Option<String> {
        self.without_all(&[rule])
    }

    fn without_all(&self, rules: &[RuleId]) -> Option<String> {
        let written = rules.iter().map(|rule| {
            let written = self.rules.get(*rule as usize)?;
            match written.like {
                Some(of) => self.rules.get(of as usize),
                None => Some(written),
            }
        });
        let written: Vec<&Written> = written.collect::<Option<_>>()?;
        // What egress relies on is kept as long as it does: there is nothing to take out.
        let own = |line: &&Written| matches!(line.field, "deny" | "protect");
        listed(written.iter().map(|line| {
            let origin = line.origin.as_ref().filter(|_| own(line))?;
            Some((
                line.field,
                shown(&line.text),
                origin.file.as_str(),
                origin.line,
            ))
        }))
    }

    /// What would allow what a deny refuses: the line taken out, and where nothing else grants it, a grant.
    pub(super) fn without_deny(&self, rule: RuleId, path: &[u8], want: Want) -> Option<String> {
        let mut state = State::default();
        let walked = self.names.walk(path, |step| {
            state.areas(step.marks);
            None::<()>
        });
        walked.ok()?;
        let granted = match want {
            Want::Read => state.read,
            Want::Write => state.write,
            Want::Execute => state.execute,
        };
        let out = self.without(rule)?;
        if granted {
            return Some(out);
        }
        Some(format!("{out} and {}", self.allow(path, want, &state)?))
    }
}

/// `filesystem: protect: {remove: ["a", "b"]}`; for a line of a person's own, where it is.
fn listed<'a>(
    lines: impl Iterator<Item = Option<(&'a str, String, &'a str, u32)>>,
) -> Option<String> {
    let mut removed: Vec<(&str, Vec<String>)> = Vec::new();
    let mut said = Vec::new();
    for line in lines {
        let (field, text, file, number) = line?;
        if !file.starts_with("preset:") {
            said.push(format!(
                "take {} out of filesystem: {field} at {file}:{number}",
                quoted(&text)
            ));
        } else if let Some((_, texts)) = removed.iter_mut().find(|one| one.0 == field) {
            texts.push(quoted(&text));
        } else {
            removed.push((field, vec![quoted(&text)]));
        }
    }
    let removed = removed.iter().map(|(field, texts)| {
        let texts = texts.join(", ");
        format!("filesystem: {{{field}: {{remove: [{texts}]}}}}")
    });
    let all: Vec<String> = removed.chain(said).collect();
    Some(all.join(" and "))
}
