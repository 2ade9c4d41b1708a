//! The fields of a plan, exactly as `docs/formats/plan.md` names them.
//!
//! Every field is required, also those that may be null; an unknown or repeated field is an error. These types
//! say nothing about what the strings hold: `check` does, and `parse` never returns an unchecked plan.

use super::egress::Egress;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::collections::BTreeMap;
use std::fmt;

/// A whole plan, version 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Plan {
    /// The version of the format: 1.
    pub plan: u64,
    /// The policy's name.
    pub name: String,
    /// The version of the compiler that wrote it.
    pub compiler: String,
    /// Where it came from.
    pub policy: Policy,
    /// Which names may be read, written, executed.
    pub filesystem: Filesystem,
    /// Which addresses may be reached.
    pub network: Network,
    /// Which system calls may be made.
    pub syscalls: Syscalls,
    /// Which programs may run.
    pub process: Process,
    /// What the command sees of the environment.
    pub environment: Environment,
    /// Upper bounds.
    pub limits: Limits,
    /// Layers without which nothing runs; sorted.
    pub require: Vec<Require>,
    /// What goes on the log.
    pub audit: Audit,
}

/// The sources a plan was compiled from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Policy {
    /// `blake3:` and 64 hex digits over the sources.
    pub digest: String,
    /// Every file and preset that was read, the top one first.
    pub sources: Vec<Source>,
}

/// One source of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Source {
    /// Absolute path, or `preset:NAME`.
    pub path: String,
    /// `blake3:` and 64 hex digits over its bytes.
    pub digest: String,
}

/// Where in the sources something was written; lines and columns from 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Origin {
    /// As in `Source::path`.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
}

/// The file system part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Filesystem {
    /// May be read.
    pub read: Vec<Grant>,
    /// May be read and written.
    pub write: Vec<Grant>,
    /// May be executed.
    pub execute: Vec<Grant>,
    /// Neither read nor written, wherever a grant says otherwise.
    pub deny: Vec<Rule>,
    /// Read where granted, never changed.
    pub protect: Vec<Rule>,
    /// Covered by an empty writable directory of the run's own.
    pub private: Vec<Place>,
    /// Covered by an empty read-only directory; grants below shine through.
    pub hide: Vec<Place>,
}

/// A granted path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Grant {
    /// Path with variables, no globs.
    pub path: String,
    /// Whether the run goes on when the path does not exist.
    pub optional: bool,
    /// Where it was written.
    pub origin: Origin,
}

/// A pattern that takes away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Rule {
    /// Path with variables and globs; covers everything beneath.
    pub pattern: String,
    /// Where it was written.
    pub origin: Origin,
}

/// A path that is covered by a directory of the run's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Place {
    /// Path with variables, no globs.
    pub path: String,
    /// Where it was written.
    pub origin: Origin,
}

/// The network part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Network {
    /// How the network looks from inside.
    pub mode: NetworkMode,
    /// Host loopback TCP ports that may be reached.
    pub ports: Vec<u16>,
    /// Host Unix sockets that may be reached.
    pub unix: Vec<Grant>,
    /// What is reached by name; there with the mode `hosts`, and only then.
    #[serde(deserialize_with = "present")]
    pub egress: Option<Egress>,
    /// Where it was written.
    pub origin: Origin,
}

/// How the network looks from inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// An empty network namespace.
    None,
    /// A network namespace whose every address leads to `capsule-egress`.
    Hosts,
    /// The host's own network, without walls.
    Open,
}

/// The system call part; anything not allowed is denied and reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Syscalls {
    /// Sorted by name.
    pub groups: Vec<SyscallGroup>,
    /// Sorted by name; several of one name are alternatives.
    pub allow: Vec<SyscallAllow>,
    /// Sorted by name.
    pub deny: Vec<SyscallDeny>,
}

impl Syscalls {
    /// Every way in which a call is allowed: its name, and conditions that must all hold. `deny` is not looked at.
    pub fn allowed(&self) -> impl Iterator<Item = (&str, &[Condition])> {
        let members = self.groups.iter().flat_map(|group| &group.members);
        let single = self.allow.iter();
        members
            .map(|name| (name.as_str(), [].as_slice()))
            .chain(single.map(|call| (call.name.as_str(), call.when.as_slice())))
    }
}

/// System calls that are allowed together, whatever their arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct SyscallGroup {
    /// The group's name.
    pub name: String,
    /// Why it is allowed.
    pub reason: String,
    /// Where it was written.
    pub origin: Origin,
    /// Linux names, sorted.
    pub members: Vec<String>,
}

/// One allowed system call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct SyscallAllow {
    /// Its Linux name.
    pub name: String,
    /// Why it is allowed.
    pub reason: String,
    /// Where it was written.
    pub origin: Origin,
    /// Conditions that must all hold.
    pub when: Vec<Condition>,
}

/// One denied system call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct SyscallDeny {
    /// Its Linux name.
    pub name: String,
    /// The error the program sees, by name: `EPERM`.
    pub errno: String,
    /// Why it is denied.
    pub reason: String,
    /// Where it was written.
    pub origin: Origin,
}

/// A condition over one 64-bit argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub arg: u8,
    /// How it is compared.
    pub op: Op,
    /// With what.
    pub value: u64,
    /// For `mask` alone: `(argument & mask) == value`.
    #[serde(deserialize_with = "present")]
    pub mask: Option<u64>,
}

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    Mask,
}

/// The process part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Process {
    /// `None`: any file under `execute`.
    #[serde(deserialize_with = "present")]
    pub programs: Option<Vec<Program>>,
}

/// One program that may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Program {
    /// Path with variables, no globs.
    pub path: String,
    /// `blake3:` and 64 hex digits, or any content.
    #[serde(deserialize_with = "present")]
    pub digest: Option<String>,
    /// Where it was written.
    pub origin: Origin,
}

/// The environment part; `scrub` wins over `pass`, `set` over both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Environment {
    /// Name globs that pass.
    pub pass: Vec<String>,
    /// Values that are set.
    #[serde(deserialize_with = "unique_keys")]
    pub set: BTreeMap<String, String>,
    /// Name globs that never pass.
    pub scrub: Vec<String>,
}

/// Upper bounds; `None` is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Limits {
    /// Bytes.
    #[serde(deserialize_with = "present")]
    pub memory: Option<u64>,
    /// Milliseconds of processor time of the whole tree.
    #[serde(deserialize_with = "present")]
    pub cpu: Option<u64>,
    /// Processes and threads at one time.
    #[serde(deserialize_with = "present")]
    pub processes: Option<u64>,
    /// Milliseconds.
    #[serde(deserialize_with = "present")]
    pub wall_time: Option<u64>,
    /// Descriptors of one process.
    #[serde(deserialize_with = "present")]
    pub open_files: Option<u64>,
    /// Bytes of one file.
    #[serde(deserialize_with = "present")]
    pub file_size: Option<u64>,
    /// Bytes on standard output and standard error together.
    #[serde(deserialize_with = "present")]
    pub output: Option<u64>,
    /// Bytes in private file systems.
    #[serde(deserialize_with = "present")]
    pub disk: Option<u64>,
}

/// A layer without which nothing runs; in the order of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Require {
    Cgroup,
    Landlock,
    Namespaces,
    Network,
    Seccomp,
    Supervisor,
}

/// What goes on the log beside the run itself and every denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audit {
    /// Programs and connections.
    Run,
    /// Also every write.
    Writes,
    /// Also every read.
    All,
}

/// Reads a structure from an object alone: derived code would also take an array of its values in order.
pub(super) struct ObjectOnly<D>(pub(super) D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for ObjectOnly<D> {
    type Error = D::Error;
    fn deserialize_any<V: de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }
    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// `remote = "Self"` makes the derived code an inherent function, which these call.
macro_rules! objects {
    ($($name:ident)*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                $name::deserialize($crate::plan::model::ObjectOnly(from))
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                $name::serialize(self, to)
            }
        }
    )*};
}
pub(super) use objects;

objects! {
    Plan Policy Source Origin Filesystem Grant Rule Place Network Syscalls SyscallGroup SyscallAllow SyscallDeny Condition Process Program Environment Limits
}

/// An option whose field must be there: serde takes a missing one for null unless it is read through a function.
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(from)
}

/// A map without repeated keys: serde keeps the last of them.
fn unique_keys<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Unique;
    impl<'de> de::Visitor<'de> for Unique {
        type Value = BTreeMap<String, String>;
        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("an object of strings")
        }
        fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = entries.next_entry::<String, String>()? {
                if map.contains_key(&key) {
                    return Err(de::Error::custom(format_args!(
                        "duplicate field `{}`",
                        key.escape_debug()
                    )));
                }
                map.insert(key, value);
            }
            Ok(map)
        }
    }
    from.deserialize_map(Unique)
}
