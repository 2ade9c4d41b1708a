//! May this name be read, written, executed? One walk along the name answers.
//!
//! The name must be absolute and resolved: no `.`, no `..`, no symbolic link left in it; anything else is refused.
//! Order: a deny wins over everything, a protect over every grant to write, then the most specific of hide, private
//! and the grants decides (of the same name: first hide, then private, then the grants). A private directory may be
//! read and written; to execute in it takes an `execute` grant of it or of something beneath. A more specific `read`
//! takes away what a `write` above it gave.
//!
//! ```no_run
//! use capsule::plan::{Access, Extras, Variables, Want, parse};
//! let plan = parse(&std::fs::read("plan.json").unwrap()).unwrap();
//! let variables = Variables::new("/w", Some("/home/u"), "/w").unwrap();
//! let access = Access::new(&plan, &variables, &Extras::default()).unwrap();
//! assert!(!access.decide(b"/home/u/.ssh/id_ed25519", Want::Read).is_granted());
//! ```

mod repositories;
mod tops;

use super::model::{Origin, Plan};
use super::names::{Marks, Means, Names, RuleId, Unresolved};
use super::pattern::{Pattern, PatternError};
use super::variables::Variables;
use super::verdict::{Kind, Refusal, RuleRef, Uses, Verdict, Want};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub use repositories::{Guarded, Led, repository_of};

/// How an always kept name is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Neither read nor written.
    Denied,
    /// The same, and the view covers it: reading need not be brokered for it.
    Masked,
    /// Never changed.
    Protected,
}

/// A name that capsule keeps whatever the plan says: the log, its key, the policy's sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Absolute and resolved names; each covers everything beneath.
    pub names: Pattern,
    /// How.
    pub guard: Guard,
    /// For the report: "the log of this run".
    pub reason: String,
}

/// A name that a line of the plan uses, and the name it really is.
///
/// Decisions are made on resolved names. Where a path of the plan runs through a symbolic link (`/bin` → `/usr/bin`, a
/// home that is a link), both names must mean the same, or a deny would be walked around.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// As the plan says it, variables put in.
    pub name: PathBuf,
    /// Resolved.
    pub real: PathBuf,
}

/// What the launcher knows beside the plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// Always kept names.
    pub kept: Vec<Kept>,
    /// Names that are links.
    pub aliases: Vec<Alias>,
    /// Names that are what `.git/hooks` or `.git/config` of the workspace are elsewhere.
    pub led: Vec<Led>,
}

/// Programs that are named of a list of them.
const LISTED: usize = 3;

#[derive(Clone, Debug)]
struct Written {
    field: &'static str,
    text: String,
    origin: Option<Origin>,
    /// The line that this one only follows from.
    like: Option<RuleId>,
}

/// The file system part of a plan, ready to be asked. Neither it nor its answers touch the disk.
#[derive(Clone, Debug)]
pub struct Access {
    names: Names,
    rules: Vec<Written>,
    variables: Variables,
    programs_listed: bool,
    /// The list of programs, as the line that keeps all others out.
    programs: Option<RuleId>,
    hidden: Vec<PathBuf>,
    read_denies: bool,
    globs: bool,
    /// Denials that the view holds up by itself.
    masked: Vec<RuleId>,
    /// What presets protect at the top of the workspace.
    tops: Vec<tops::Top>,
}

/// What holds at the end of a walk.
#[derive(Clone, Copy, Default)]
struct State {
    read: bool,
    write: bool,
    execute: bool,
    program: bool,
    hidden: bool,
    private: bool,
    protect: Option<RuleId>,
    /// The line that protects it because it lies in a repository.
    repository: Option<RuleId>,
    /// The line that took away what was granted further up.
    limit: Option<RuleId>,
}

/// Where a walk along a name ends.
enum Stand {
    /// At a deny that covers the name.
    Denied(RuleId),
    /// At the name itself.
    On(State),
}

impl Access {
    /// From a checked plan.
    pub fn new(plan: &Plan, variables: &Variables, extras: &Extras) -> Result<Self, PatternError> {
        let fs = &plan.filesystem;
        let grants = fs.read.len() + fs.write.len() + fs.execute.len();
        let lines = grants + fs.deny.len() + fs.protect.len() + fs.private.len() + fs.hide.len();
        let mut access = Self {
            names: Names::new(2 * lines),
            rules: Vec::with_capacity(lines + extras.kept.len()),
            variables: variables.clone(),
            programs_listed: plan.process.programs.is_some(),
            programs: None,
            hidden: Vec::new(),
            read_denies: false,
            globs: false,
            masked: Vec::new(),
            tops: Vec::new(),
        };
        for place in &fs.hide {
            let rule = access.rule("hide", &place.path, &place.origin);
            let path = access.at(&place.path, extras, |m| m.hide = Some(rule))?;
            access.hidden.push(path);
        }
        for place in &fs.private {
            let rule = access.rule("private", &place.path, &place.origin);
            access.at(&place.path, extras, |m| m.private = Some(rule))?;
        }
        for (field, grants) in [
            ("read", &fs.read),
            ("write", &fs.write),
            ("execute", &fs.execute),
        ] {
            for grant in grants {
                let rule = access.rule(field, &grant.path, &grant.origin);
                access.at(&grant.path, extras, |m| match field {
                    "read" => m.read = Some(rule),
                    "write" => m.write = Some(rule),
                    _ => m.execute = Some(rule),
                })?;
            }
        }
        for program in plan.process.programs.iter().flatten() {
            let rule = access.rule("programs", &program.path, &program.origin);
            access.at(&program.path, extras, |m| m.program = Some(rule))?;
            if access.programs.is_none() {
                access.programs = Some(access.listing(plan, rule, &program.origin));
            }
        }
        for (field, denies, rules) in [("deny", true, &fs.deny), ("protect", false, &fs.protect)] {
            for line in rules {
                let egress = plan.network.egress.as_ref();
                let section = egress.and_then(|e| e.relies_on(&line.pattern, &line.origin));
                let rule = access.rule(section.unwrap_or(field), &line.pattern, &line.origin);
                let pattern = Pattern::new(&line.pattern, variables)?;
                if !denies {
                    access.top(&line.pattern, &pattern, rule);
                }
                access.guard(pattern, rule, denies, extras);
            }
        }
        for led in &extras.led {
            access.lead(led, extras);
        }
        for kept in &extras.kept {
            access.rules.push(Written {
                field: "",
                text: kept.reason.clone(),
                origin: None,
                like: None,
            });
            let rule = (access.rules.len() - 1) as RuleId;
            if kept.guard == Guard::Masked {
                access.masked.push(rule);
            }
            access.guard(
                kept.names.clone(),
                rule,
                kept.guard != Guard::Protected,
                extras,
            );
        }
        access.names.seal();
        access.read_denies = access.denies_something_readable();
        Ok(access)
    }

    /// Protect more names, of which was only heard now, each for its reason.
    pub fn protect<'a>(&mut self, each: impl Iterator<Item = (Vec<Pattern>, &'a str)>) {
        for (names, reason) in each {
            self.rules.push(Written {
                field: "",
                text: reason.to_owned(),
                origin: None,
                like: None,
            });
            let rule = (self.rules.len() - 1) as RuleId;
            for pattern in names {
                self.guard(pattern, rule, false, &Extras::default());
            }
        }
        self.names.seal();
    }

    /// What is granted of this name, without a word on what is not: for where only that matters. Takes no lock and no
    /// memory.
    pub fn uses(&self, path: &[u8]) -> Uses {
        match self.stand(path) {
            Ok(Stand::On(state)) => self.granted(&state),
            _ => Uses::default(),
        }
    }

    /// Whether this use of this name is granted. Takes no lock and, when granted, no memory.
    pub fn decide(&self, path: &[u8], want: Want) -> Verdict {
        let state = match self.stand(path) {
            Err(_) => {
                return Verdict::Refused(Refusal {
                    kind: Kind::NotGranted,
                    rule: None,
                    allow: None,
                    repository: false,
                });
            }
            Ok(Stand::Denied(rule)) => {
                return self.refuse(
                    Kind::Denied,
                    Some(rule),
                    self.without_deny(rule, path, want),
                );
            }
            Ok(Stand::On(state)) => state,
        };
        if self.granted(&state).has(want) {
            return Verdict::Granted;
        }
        if let (Want::Write, Some(rule)) = (want, state.protect.or(state.repository)) {
            let mut verdict = self.refuse(Kind::Protected, Some(rule), self.without(rule));
            if let Verdict::Refused(refusal) = &mut verdict {
                refusal.repository = state.write && state.protect.is_none();
            }
            return verdict;
        }
        let kind = if state.hidden {
            Kind::Hidden
        } else {
            Kind::NotGranted
        };
        let by = match want {
            Want::Execute if state.execute => self.programs.or(state.limit),
            _ => state.limit,
        };
        self.refuse(kind, by, self.allow(path, want, &state))
    }

    /// The walk along a name.
    fn stand(&self, path: &[u8]) -> Result<Stand, Unresolved> {
        let mut state = State::default();
        let denied = self
            .names
            .walk(path, |step| state.apply(step.marks, step.rest))?;
        Ok(denied.map_or(Stand::On(state), Stand::Denied))
    }

    fn granted(&self, state: &State) -> Uses {
        let kept = state.protect.is_some() || (state.repository.is_some() && !state.private);
        Uses {
            read: state.read,
            write: state.write && !kept,
            execute: state.execute && (state.program || !self.programs_listed),
        }
    }

    /// The deny or protect that renaming or removing this name would carry away, because the name is at or above its
    /// literal beginning.
    pub fn guards_below(&self, path: &[u8]) -> Option<RuleRef> {
        let guarded = self.names.walk(path, |step| {
            if step.rest.is_empty() {
                Some(step.guarded)
            } else {
                None
            }
        });
        self.reference(guarded.ok()???)
    }

    /// Whether a deny lies within something readable, so that reads must be brokered.
    pub fn has_read_denies(&self) -> bool {
        self.read_denies
    }

    /// Whether a deny or protect has a glob: such a line can mean a link anywhere on the way to a name.
    pub fn has_globs(&self) -> bool {
        self.globs
    }

    /// The directories that look empty from inside.
    pub fn hidden_roots(&self) -> &[PathBuf] {
        &self.hidden
    }

    fn rule(&mut self, field: &'static str, text: &str, origin: &Origin) -> RuleId {
        self.rules.push(Written {
            field,
            text: text.to_owned(),
            origin: Some(origin.clone()),
            like: None,
        });
        (self.rules.len() - 1) as RuleId
    }

    /// The whole list of programs as one line, which stands where its first entry does.
    fn listing(&mut self, plan: &Plan, first: RuleId, origin: &Origin) -> RuleId {
        let list = plan.process.programs.as_deref().unwrap_or_default();
        let mut named: Vec<String> = list
            .iter()
            .take(LISTED)
            .map(|p| quoted(&shown(&p.path)))
            .collect();
        if list.len() > LISTED {
            named.push("…".to_owned());
        }
        self.rules.push(Written {
            field: "programs",
            text: format!("programs: [{}]", named.join(", ")),
            origin: Some(origin.clone()),
            like: Some(first),
        });
        (self.rules.len() - 1) as RuleId
    }

    /// Mark a path of the plan, and the name it really is.
    fn at(
        &mut self,
        text: &str,
        extras: &Extras,
        change: impl Fn(&mut Marks),
    ) -> Result<PathBuf, PatternError> {
        let path = self.variables.path(text).map_err(PatternError::Path)?;
        for name in [Some(path.as_path()), extras.real(&path)]
            .into_iter()
            .flatten()
        {
            self.names.mark(name.as_os_str().as_bytes(), &change);
        }
        Ok(path)
    }

    fn guard(&mut self, pattern: Pattern, rule: RuleId, denies: bool, extras: &Extras) {
        self.globs |= !pattern.is_literal();
        let means = match (denies, pattern.in_any_repository()) {
            (true, _) => Means::Denies,
            (false, true) => Means::ProtectsRepository,
            (false, false) => Means::Protects,
        };
        let real = extras.real(Path::new(std::ffi::OsStr::from_bytes(pattern.anchor())));
        let real = real.map(|r| pattern.anchored_at(r.as_os_str().as_bytes()));
        for pattern in [Some(pattern), real].into_iter().flatten() {
            let anchor = pattern.anchor().to_vec();
            self.names
                .mark(&anchor, |m| match (pattern.is_literal(), denies) {
                    (false, _) => m.add(pattern, rule, means),
                    (true, true) => m.deny = m.deny.or(Some(rule)),
                    (true, false) => m.protect = m.protect.or(Some(rule)),
                });
        }
    }

    fn denies_something_readable(&self) -> bool {
        self.names.any(State::default(), |state, marks, readable| {
            state.areas(marks);
            let open = |rule: RuleId| !self.masked.contains(&rule);
            let denies =
                marks.deny.is_some_and(open) || marks.globs().iter().any(|g| g.2 == Means::Denies);
            denies && (state.read || readable)
        })
    }

    fn refuse(&self, kind: Kind, rule: Option<RuleId>, allow: Option<String>) -> Verdict {
        Verdict::Refused(Refusal {
            kind,
            rule: rule.and_then(|r| self.reference(r)),
            allow,
            repository: false,
        })
    }

    fn reference(&self, rule: RuleId) -> Option<RuleRef> {
        let written = self.rules.get(rule as usize)?;
        let Some(origin) = &written.origin else {
            return Some(RuleRef {
                text: written.text.clone(),
                file: "capsule:always".to_owned(),
                line: 0,
            });
        };
        let text = if written.like.is_some() {
            written.text.clone()
        } else {
            format!("{}: [{}]", written.field, quoted(&shown(&written.text)))
        };
        Some(RuleRef {
            text,
            file: origin.file.clone(),
            line: origin.line,
        })
    }

    /// The YAML that would allow it.
    fn allow(&self, path: &[u8], want: Want, state: &State) -> Option<String> {
        let name = quoted(&self.variables.written(path)?);
        Some(match want {
            Want::Read => format!("filesystem: read: [{name}]"),
            Want::Write => format!("filesystem: write: [{name}]"),
            Want::Execute if state.execute => format!("process: programs: [{name}]"),
            Want::Execute => format!("filesystem: execute: [{name}]"),
        })
    }
}

impl Extras {
    fn real(&self, name: &Path) -> Option<&Path> {
        self.aliases
            .iter()
            // Both are clean and absolute: as bytes they are compared faster than part by part.
            .find(|a| a.name.as_os_str() == name.as_os_str())
            .map(|a| a.real.as_path())
    }
}

impl State {
    /// What one directory on the way says; `Some` ends the walk with the deny that covers the name.
    #[inline]
    fn apply(&mut self, marks: &Marks, rest: &[u8]) -> Option<RuleId> {
        if marks.deny.is_some() {
            return marks.deny;
        }
        if self.protect.is_none() {
            self.protect = marks.protect;
        }
        match marks.deep(rest) {
            Some((rule, true)) => return Some(rule),
            Some((rule, false)) => self.protect = self.protect.or(Some(rule)),
            None => {}
        }
        // Most names lie in no repository: one search tells for all lines about them.
        let in_one = marks.keeps_repositories() && rest.windows(5).any(|part| part == b".git/");
        for (pattern, rule, means) in marks.globs() {
            let ask = match means {
                Means::Denies => true,
                Means::Protects => self.protect.is_none(),
                Means::ProtectsRepository => in_one && self.repository.is_none(),
            };
            if ask && pattern.at_any_depth().is_none() && pattern.covers_below(rest) {
                match means {
                    Means::Denies => return Some(*rule),
                    Means::Protects => self.protect = Some(*rule),
                    Means::ProtectsRepository => self.repository = Some(*rule),
                }
            }
        }
        self.areas(marks);
        None
    }

    #[inline]
    fn areas(&mut self, marks: &Marks) {
        if marks.hide.is_some() || marks.read.is_some() || marks.write.is_some() {
            self.private = false;
        }
        if marks.hide.is_some() {
            (self.read, self.write, self.execute, self.hidden, self.limit) =
                (false, false, false, true, marks.hide);
        }
        if marks.private.is_some() {
            (self.read, self.write, self.execute, self.hidden) = (true, true, false, false);
            self.limit = marks.private;
            // Of the same name a grant says more.
            self.private = marks.read.is_none() && marks.write.is_none();
        }
        if marks.read.is_some() {
            (self.read, self.write, self.hidden, self.limit) = (true, false, false, marks.read);
        }
        if marks.write.is_some() {
            (self.read, self.write, self.hidden, self.limit) = (true, true, false, None);
        }
        if marks.execute.is_some() {
            (self.execute, self.hidden) = (true, false);
        }
        self.program |= marks.program.is_some();
    }
}

/// A path of a plan as a person writes it.
fn shown(text: &str) -> String {
    text.replacen("${home}", "~", 1)
        .replacen("${workspace}", ".", 1)
}

/// A YAML double-quoted scalar (JSON's escapes are a subset of YAML's).
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
