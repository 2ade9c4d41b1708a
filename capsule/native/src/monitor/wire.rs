//! The messages between the monitor and the supervisor: `docs/formats/monitor-wire.md`, version 1.
//!
//! One JSON object in one datagram of a `SOCK_SEQPACKET` pair. What it refuses: unknown types, unknown, missing or
//! repeated fields, and messages longer than [`MAX_MESSAGE`]. The supervisor treats every message of the monitor as
//! hostile: it uses these types and nothing else.
//!
//! ```
//! use capsule::monitor::wire::{Event, decode, encode};
//! let event = Event::Failed { reason: "no room".into() };
//! assert_eq!(decode::<Event>(&encode(&event)).unwrap(), event);
//! assert!(decode::<Event>(br#"{"type":"failed","reason":"","more":1}"#).is_err());
//! ```

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// No message is longer, in bytes.
pub const MAX_MESSAGE: usize = 128 * 1024;

/// What was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Operation {
    Read,
    Write,
    Execute,
    Create,
    Remove,
    Rename,
    Link,
    Change,
    Connect,
    Bind,
    Send,
    Syscall,
    /// A request over a connection that stands; only egress refuses these.
    Request,
    /// A name that is looked up; only egress refuses these.
    Resolve,
}

/// Which layer refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Layer {
    Supervisor,
    Landlock,
    Seccomp,
    View,
    Network,
    Permissions,
    /// `capsule-egress`: never the monitor.
    Egress,
}

/// The policy line that decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleLine {
    /// What the line says.
    pub text: String,
    /// As in the plan's sources; empty for the launcher's own rules.
    pub file: String,
    /// From 1; 0 for the launcher's own rules.
    pub line: u32,
}

/// A refusal; fields as in `docs/formats/report.md`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Denial {
    /// Path of the executable that tried; of the first one, when several did the same.
    pub program: String,
    /// Process (thread group) inside the sandbox; of the first one.
    pub pid: i32,
    /// What was tried.
    pub operation: Operation,
    /// The system call's name.
    pub syscall: String,
    /// Resolved path, address, or arguments.
    pub target: String,
    /// Which layer refuses it.
    pub layer: Layer,
    /// Name of the error the program saw.
    pub errno: String,
    /// The policy line that refused, when one did.
    pub rule: Option<RuleLine>,
    /// The YAML that would allow it, when something can.
    pub allow: Option<String>,
    /// True when the program only saw that nothing is there (`ENOENT`): of interest, not worth a warning.
    pub probe: bool,
}

/// The process that another one is a child of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parent {
    /// Process inside the sandbox.
    pub pid: i32,
    /// Path of its executable.
    pub program: String,
    /// Its arguments as it shows them now, at most 64 and 1 KiB: it can change what it shows.
    pub argv: Vec<String>,
}

/// From the monitor to the supervisor. `mono`: microseconds of `CLOCK_MONOTONIC` when it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// A refusal, `count` times since the last message about the same one.
    Denied {
        /// When it happened (last).
        mono: u64,
        /// How many since the last message about the same refusal; the first time 1.
        count: u64,
        /// What was refused.
        denial: Denial,
    },
    /// A program was started (recorded before the kernel tries; it may still fail).
    Exec {
        /// When it happened.
        mono: u64,
        /// Process inside the sandbox.
        pid: i32,
        /// The program's resolved path.
        program: String,
        /// At most 64 arguments and 4 KiB.
        argv: Vec<String>,
        /// Whether there were more.
        truncated: bool,
        /// The process that it was started from; none for the command itself.
        parent: Option<Parent>,
    },
    /// A name was changed (levels `writes` and `all`), or read (level `all`).
    File {
        /// When it happened.
        mono: u64,
        /// Process inside the sandbox.
        pid: i32,
        /// Path of the executable.
        program: String,
        /// What was done.
        operation: Operation,
        /// Resolved path; for a rename or link the new one.
        target: String,
        /// For a rename or link, the old one.
        from: Option<String>,
    },
    /// A repository was made, is called otherwise now, or is gone.
    Repository {
        /// When it happened.
        mono: u64,
        /// Process inside the sandbox.
        pid: i32,
        /// Path of the executable.
        program: String,
        /// Names it within the run.
        number: u64,
        /// What it is called now; nothing when it is gone.
        target: Option<String>,
    },
    /// A connection to something outside was made, or failed.
    Connect {
        /// When it happened.
        mono: u64,
        /// Process inside the sandbox.
        pid: i32,
        /// Path of the executable.
        program: String,
        /// `tcp:127.0.0.1:5432`, `unix:/run/x.sock`.
        target: String,
        /// Name of the error, when it failed.
        errno: Option<String>,
    },
    /// A connection was begun to an address that leads to egress.
    Egress {
        /// When it happened.
        mono: u64,
        /// Process inside the sandbox.
        pid: i32,
        /// Path of the executable.
        program: String,
        /// At most 4 KiB.
        argv: Vec<String>,
        /// From where, `ip:port`.
        source: String,
        /// Where to, `ip:port`.
        target: String,
    },
    /// A question: connect to `target` on the host. Answered by [`Order::Dialled`] with the same `id`.
    Dial {
        /// Names the question.
        id: u64,
        /// What to dial.
        target: Target,
    },
    /// Counts for `capsule trace`, told at the end in several messages.
    Observed {
        /// Name and count of system calls.
        syscalls: Vec<(String, u64)>,
        /// Names and what was done with them.
        files: Vec<SeenFile>,
        /// Uses of names that were too many to remember.
        lost: u64,
    },
    /// The command stands still without an order: it stopped itself, or another of the sandbox did. Told once until it is
    /// ordered to go on.
    Stopped {},
    /// The command ended and no other process of the sandbox lives but the monitor, which ends now; `status` as
    /// `waitpid` gives it. Everything the monitor knew before has been sent.
    Exited {
        /// Raw wait status.
        status: i32,
        /// Processor time of all of them, in milliseconds.
        cpu_ms: u64,
        /// The most memory one of them had, in bytes.
        max_rss_bytes: u64,
    },
    /// The monitor cannot go on; the run must end.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Uses of one name, as in `docs/formats/observation.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct SeenFile {
    pub path: String,
    pub read: u64,
    pub write: u64,
    pub create: u64,
    pub remove: u64,
    pub change: u64,
    pub absent: u64,
}

/// What the supervisor is asked to dial. It checks against its own copy of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// A TCP port on the host's loopback.
    Tcp {
        /// The port.
        port: u16,
        /// Over IPv6.
        v6: bool,
    },
    /// A Unix stream or seqpacket socket of the host.
    Unix {
        /// Absolute path.
        path: String,
        /// `SOCK_SEQPACKET` instead of `SOCK_STREAM`.
        seqpacket: bool,
    },
}

/// From the supervisor to the monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// The answer to [`Event::Dial`]; one descriptor comes with it (`SCM_RIGHTS`) when `errno` is null.
    Dialled {
        /// The question's.
        id: u64,
        /// Number of the error, when it failed.
        errno: Option<i32>,
    },
    /// Send a signal to the command's process group.
    Signal {
        /// Its number.
        number: i32,
    },
    /// Send what is known and leave; everything in the sandbox ends with the monitor.
    Stop {},
}

/// Bytes of one message.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    serde_json::to_vec(message).unwrap_or_default()
}

/// One message from its bytes.
///
/// # Errors
/// A sentence saying what is wrong, when it is too long, not JSON, or not of this version.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    if bytes.len() > MAX_MESSAGE {
        return Err(format!(
            "a message of {} bytes; at most {MAX_MESSAGE}",
            bytes.len()
        ));
    }
    serde_json::from_slice(bytes).map_err(|e| e.to_string())
}

/// A path or argument as text: bytes that are not UTF-8 become `\xNN`.
///
/// ```
/// assert_eq!(capsule::monitor::wire::text(b"caf\xc3\xa9\xff"), "café\\xff");
/// ```
pub fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            out.push_str(&format!("\\x{byte:02x}"));
        }
    }
    out
}
