//! The messages between the host and the agent (docs/formats/wire.md), typed.
//!
//! Pure. Refuses an unknown type, an unknown, missing or repeated field, a value out of its bounds, and what the host may
//! not say on that port.
//!
//! ```
//! use capsem_agent::message::{Host, parse};
//! assert!(matches!(parse(5000, br#"{"type":"ping","id":1}"#), Ok(Host::Ping { id: 1 })));
//! assert!(parse(5005, br#"{"type":"ping","id":1}"#).is_err());
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// Version of the wire.
pub const VERSION: u32 = 1;
/// Bytes of an authority's certificate.
pub const AUTHORITY_LIMIT: usize = 64 << 10;
/// The greatest id.
pub const ID_LIMIT: u32 = (1 << 30) - 1;

/// A terminal's size in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

/// What a file operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum FileOp {
    Stat,
    List,
    Mkdir,
    Remove,
    Read,
    Write,
    Rename,
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Exec {
    pub id: u32,
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cwd: String,
    pub uid: u32,
    pub gid: u32,
    pub stdin: bool,
    #[serde(deserialize_with = "present")]
    pub tty: Option<Size>,
    #[serde(deserialize_with = "present")]
    pub timeout_ms: Option<u64>,
}

/// A file operation on one path, done as that user.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct File {
    pub id: u32,
    pub op: FileOp,
    pub path: String,
    pub uid: u32,
    pub gid: u32,
    #[serde(deserialize_with = "present")]
    pub mode: Option<u32>,
    pub recursive: bool,
    /// Of `rename`: what it is called from now on.
    #[serde(default)]
    pub to: Option<String>,
    /// Of `list`: names after this one.
    #[serde(default)]
    pub after: Option<String>,
}

/// What the host says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs)]
pub enum Host {
    Identity {
        version: u32,
        entropy: String,
        hostname: String,
        wall_clock_ns: i64,
        #[serde(deserialize_with = "present")]
        authority: Option<String>,
    },
    Ping {
        id: u32,
    },
    Exec(Exec),
    Signal {
        id: u32,
        number: i32,
    },
    Resize {
        id: u32,
        rows: u16,
        columns: u16,
    },
    File(File),
    Sync {
        id: u32,
    },
    Shutdown {
        id: u32,
    },
    Reboot {
        id: u32,
    },
    Watch {
        id: u32,
        processes: bool,
        changes: Vec<String>,
    },
    Prefetch {
        id: u32,
        paths: Vec<String>,
    },
    Freeze {
        id: u32,
    },
    Thaw {
        id: u32,
        wall_clock_ns: i64,
    },
    Serve {},
    Opened {
        stream: u32,
    },
    Refused {
        stream: u32,
        reason: String,
    },
}

/// What the agent says.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Guest<'a> {
    Hello {
        version: u32,
        agent: &'a str,
        boot_id: &'a str,
        kernel: &'a str,
        capabilities: &'a [&'a str],
    },
    Ready {
        version: u32,
        agent: &'a str,
        boot_id: &'a str,
        kernel: &'a str,
        capabilities: &'a [&'a str],
    },
    Pong {
        id: u32,
    },
    Started {
        id: u32,
        pid: i32,
    },
    Exited {
        id: u32,
        code: Option<i32>,
        signal: Option<i32>,
        timed_out: bool,
        cpu_ms: u64,
        max_rss_bytes: u64,
    },
    Result {
        id: u32,
        value: serde_json::Value,
    },
    Failed {
        id: u32,
        errno: &'a str,
        reason: String,
    },
    Fault {
        reason: String,
    },
    Done {
        id: u32,
    },
    Open {
        stream: u32,
        kind: &'a str,
        address: Option<String>,
        port: Option<u16>,
        pid: Option<u32>,
        uid: Option<u32>,
        program: Option<String>,
    },
    Ran {
        pid: u32,
        parent: Option<u32>,
        uid: Option<u32>,
        program: Option<String>,
        argv: Option<Vec<String>>,
        cut: bool,
    },
    Ended {
        pid: u32,
        code: Option<i32>,
        signal: Option<i32>,
    },
    Change {
        what: &'a str,
        path: String,
        from: Option<String>,
    },
    Lost {
        what: &'a str,
        count: u64,
    },
}

// Serde takes a missing Option for None; the wire does not.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(from)
}

/// The host's message on that port.
pub fn parse(port: u16, untrusted: &[u8]) -> Result<Host, String> {
    let said: Host =
        serde_json::from_slice(untrusted).map_err(|error| format!("not a message: {error}"))?;
    let place = match said {
        Host::Identity { .. }
        | Host::Ping { .. }
        | Host::Exec(_)
        | Host::Signal { .. }
        | Host::Resize { .. }
        | Host::File(_) => port == 5000,
        Host::Sync { .. }
        | Host::Shutdown { .. }
        | Host::Reboot { .. }
        | Host::Watch { .. }
        | Host::Prefetch { .. }
        | Host::Thaw { .. } => port == 5004,
        Host::Freeze { .. } => true,
        Host::Serve {} | Host::Opened { .. } | Host::Refused { .. } => port == 5002 || port == 5003,
    };
    if !place {
        return Err(format!("a host does not say that on port {port}"));
    }
    bounds(&said)?;
    Ok(said)
}

fn bounds(said: &Host) -> Result<(), String> {
    let id = match said {
        Host::Ping { id }
        | Host::Signal { id, .. }
        | Host::Resize { id, .. }
        | Host::Sync { id }
        | Host::Shutdown { id }
        | Host::Reboot { id }
        | Host::Watch { id, .. }
        | Host::Prefetch { id, .. }
        | Host::Freeze { id }
        | Host::Thaw { id, .. }
        | Host::Exec(Exec { id, .. })
        | Host::File(File { id, .. }) => *id,
        Host::Identity { .. } | Host::Serve {} | Host::Opened { .. } | Host::Refused { .. } => 1,
    };
    let fine = (1..=ID_LIMIT).contains(&id)
        && match said {
            Host::Identity {
                version,
                entropy,
                hostname,
                wall_clock_ns,
                authority,
            } => {
                *version == VERSION
                    && host_name(hostname)
                    && *wall_clock_ns >= 0
                    && authority
                        .as_ref()
                        .is_none_or(|text| text.len() <= AUTHORITY_LIMIT)
                    && unbase64(entropy).is_some_and(|bytes| (32..=512).contains(&bytes.len()))
            }
            Host::Exec(exec) => {
                (1..=4096).contains(&exec.argv.len())
                    && !exec.argv.iter().any(|text| text.contains('\0'))
                    && exec
                        .env
                        .iter()
                        .all(|(name, value)| variable(name) && !value.contains('\0'))
                    && absolute(&exec.cwd)
                    && exec.uid != u32::MAX
                    && exec.gid != u32::MAX
                    && exec
                        .tty
                        .is_none_or(|size| size.rows > 0 && size.columns > 0)
                    && exec
                        .timeout_ms
                        .is_none_or(|wait| (1..=1 << 40).contains(&wait))
            }
            Host::File(file) => {
                absolute(&file.path)
                    && file.uid != u32::MAX
                    && file.gid != u32::MAX
                    && file.mode.is_none_or(|mode| mode <= 0o1777)
                    && (file.op == FileOp::Rename) == file.to.is_some()
                    && file.to.as_deref().is_none_or(absolute)
                    && (file.op == FileOp::List || file.after.is_none())
            }
            Host::Signal { number, .. } => (1..=64).contains(number),
            Host::Resize { rows, columns, .. } => *rows > 0 && *columns > 0,
            Host::Watch { changes, .. } => {
                changes.len() <= 16 && changes.iter().all(|path| absolute(path))
            }
            Host::Prefetch { paths, .. } => {
                paths.len() <= 64 && paths.iter().all(|path| absolute(path))
            }
            Host::Opened { stream } | Host::Refused { stream, .. } => *stream > 0,
            Host::Thaw { wall_clock_ns, .. } => *wall_clock_ns >= 0,
            Host::Ping { .. }
            | Host::Sync { .. }
            | Host::Shutdown { .. }
            | Host::Reboot { .. }
            | Host::Serve {}
            | Host::Freeze { .. } => true,
        };
    if fine {
        Ok(())
    } else {
        Err("a message with a value out of its bounds".to_owned())
    }
}

fn variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

fn absolute(path: &str) -> bool {
    path.starts_with('/') && path.len() <= 4095 && !path.contains('\0')
}

fn host_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// RFC 4648 §4 with padding; None for anything else.
pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(4) {
        return None;
    }
    let padding = bytes.iter().rev().take_while(|byte| **byte == b'=').count();
    if padding > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(bytes.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0);
    for byte in &bytes[..bytes.len() - padding] {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    Some(out)
}
