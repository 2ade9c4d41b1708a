//! What `Access` answers: granted, or refused with the kind, the line that refused and the line that would allow.

/// What a program wants to do with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Want {
    /// Read content, or list a directory.
    Read,
    /// Change content or metadata, create, remove, rename.
    Write,
    /// Run it.
    Execute,
}

/// What is granted of a name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uses {
    /// [`Want::Read`].
    pub read: bool,
    /// [`Want::Write`].
    pub write: bool,
    /// [`Want::Execute`].
    pub execute: bool,
}

impl Uses {
    /// Whether this one is.
    pub fn has(self, want: Want) -> bool {
        match want {
            Want::Read => self.read,
            Want::Write => self.write,
            Want::Execute => self.execute,
        }
    }
}

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A `deny` covers it.
    Denied,
    /// A `protect` covers it, and it was to be changed.
    Protected,
    /// Nothing grants this use.
    NotGranted,
    /// Nothing grants it, and the view shows an empty directory in its place: the program sees that it is absent.
    Hidden,
}

/// A line of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRef {
    /// The line as a person would write it: `deny: ["~/.ssh"]`; for what capsule always keeps, the reason.
    pub text: String,
    /// The source: a path or `preset:NAME`; `capsule:always` for what capsule always keeps.
    pub file: String,
    /// From 1; 0 for `capsule:always`.
    pub line: u32,
}

/// A refusal that explains itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub kind: Kind,
    /// The line that refused, or `None` when nothing allowed it.
    pub rule: Option<RuleRef>,
    /// The YAML that would allow it, or `None` when no added line can.
    pub allow: Option<String>,
    /// All that stands against it is a line about repositories, which does not hold in one that the run made itself.
    pub repository: bool,
}

/// The answer for one name and one kind of use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The plan grants it.
    Granted,
    /// It does not.
    Refused(Refusal),
}

impl Verdict {
    /// Whether the plan grants it.
    pub fn is_granted(&self) -> bool {
        *self == Self::Granted
    }

    /// The refusal, if it is one.
    pub fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Granted => None,
            Self::Refused(refusal) => Some(refusal),
        }
    }
}
