//! The plan: reading, variables, patterns, decisions.

#![allow(clippy::unwrap_used)]

mod access;
mod pattern;
mod read;
mod variables;
mod vectors;

use serde_json::{Value, json};

/// A plan that grants little and has a line of every kind.
pub fn sample() -> Value {
    let origin = |line: u32| json!({"file": "/w/capsule.yaml", "line": line, "column": 3});
    let grant =
        |path: &str, line: u32| json!({"path": path, "optional": false, "origin": origin(line)});
    let digest = format!("blake3:{}", "0".repeat(64));
    json!({
        "plan": 1, "name": "sample", "compiler": "0.1.0",
        "policy": {"digest": digest, "sources": [{"path": "/w/capsule.yaml", "digest": digest}]},
        "filesystem": {
            "read": [grant("/usr", 1), grant("${workspace}/vendor", 2), grant("${home}/.gitconfig", 3)],
            "write": [grant("${workspace}", 4)],
            "execute": [grant("/usr/bin", 5), grant("${workspace}/bin", 6)],
            "deny": [
                {"pattern": "${workspace}/**/.env", "origin": origin(7)},
                {"pattern": "${workspace}/secret", "origin": origin(8)},
                {"pattern": "${workspace}/keys/*.pem", "origin": origin(9)},
                {"pattern": "${home}/.ssh", "origin": origin(10)},
            ],
            "protect": [{"pattern": "${workspace}/.git/hooks", "origin": origin(11)}],
            "private": [{"path": "/tmp", "origin": origin(12)}],
            "hide": [{"path": "${home}", "origin": origin(13)}],
        },
        "network": {"mode": "none", "ports": [8080], "unix": [grant("/run/x.sock", 14)], "egress": null,
                    "origin": origin(15)},
        "syscalls": {
            "groups": [{"name": "files", "reason": "files", "origin": origin(16), "members": ["read"]}],
            "allow": [
                {"name": "socket", "reason": "local", "origin": origin(17),
                 "when": [{"arg": 0, "op": "eq", "value": 1, "mask": null}]},
            ],
            "deny": [{"name": "io_uring_setup", "errno": "ENOSYS", "reason": "bypass", "origin": origin(18)}],
        },
        "process": {"programs": null},
        "environment": {"pass": ["PATH", "LC_*"], "set": {"CI": "1"}, "scrub": ["*TOKEN*"]},
        "limits": {"memory": null, "cpu": 1000, "processes": 64, "wall_time": null, "open_files": 1024,
                   "file_size": null, "output": null, "disk": null},
        "require": ["landlock", "seccomp"],
        "audit": "writes",
    })
}
