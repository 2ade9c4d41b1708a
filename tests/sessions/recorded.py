"""Entries of the documented forms (docs/formats/events.md, audit-log.md), and a session of them, for the tests here.

Example: ``Log(binary, path).record(session("r-1"))`` puts them on a log as egress and the run do.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
PYTHON = {"path": "/usr/bin/python3", "pid": 7, "name": "python3", "argv": ["python3", "agent.py"]}
ALLOW = {"action": "allow", "by": "grant", "rule": {"file": "/w/capsule.yaml", "line": 4}, "reason": "listed"}
BLOCK = {
    "action": "block", "by": "rule", "reason": "gists are public", "missing": ["http.body"],
    "rule": {"id": "no-gists", "file": "/w/rules.yaml", "line": 9, "owner": "user", "priority": 100},
}  # fmt: skip
ASK = {
    "id": "a-1",
    "what": "PUT https://a.example/x",
    "expires": 9,
    "rule": {"id": "ask-before-publish", "reason": "publishes"},
}
ANSWER = {"id": "a-1", "allowed": False, "outcome": "answered", "by": "terminal"}


def exec_(run: str | None = "r-1", *argv: str, program: str = "/usr/bin/git", pid: int = 2) -> Json:
    words = list(argv) or ["git", "status"]
    return {"type": "exec", "run": run, "pid": pid, "program": program, "argv": words, "truncated": False}


def write(target: str, operation: str = "create", run: str | None = "r-1", source: str | None = None) -> Json:
    return {
        "type": "read" if operation == "read" else "write", "run": run, "pid": 3, "program": "/usr/bin/git",
        "operation": operation, "target": target, "from": source,
    }  # fmt: skip


def denied(target: str, operation: str = "read", run: str | None = "r-1", **more: Any) -> Json:
    return {
        "type": "denied", "run": run, "program": "/usr/bin/cat", "pid": 4, "operation": operation,
        "syscall": "openat", "target": target, "layer": "view", "errno": "EACCES",
        "rule": {"file": "preset:toolchains", "line": 62, "text": 'deny: ["~/.ssh"]'}, "allow": None,
        "probe": False, "count": 1, **more,
    }  # fmt: skip


def http(host: str, path: str = "/", method: str = "GET", run: str | None = "r-1", **more: Any) -> Json:
    fields: Json = {
        "id": f"h-{host}{path}", "method": method, "scheme": "https", "host": host, "port": 443, "path": path,
        "query": "a=1", "url": f"https://{host}{path}?a=1", "version": "2", "headers": {"accept": "*/*"},
        "address": "203.0.113.9", "status": 200, "body": {"size": 12}, "duration_us": 4000, "first_byte_us": 900,
        "response": {"size": 2048, "content_type": "application/json", "headers": {}}, "secret": ["github"],
    }  # fmt: skip
    decision = more.pop("decision", ALLOW)
    return {
        "type": "egress.http", "run": run, "event": {"id": f"e-{path}", "type": "http", "time": "x"},
        "program": PYTHON, "decision": decision, "http": fields | more,
    }  # fmt: skip


def dns(name: str, run: str | None = "r-1", decision: Json = ALLOW, **more: Any) -> Json:
    return {
        "type": "egress.dns", "run": run, "event": {"id": "e-d", "type": "dns", "time": "x"}, "program": PYTHON,
        "decision": decision,
        "dns": {"name": name, "qtype": "A", "transport": "udp", "labels": 2, "length": len(name), "count": 3} | more,
    }  # fmt: skip


def tcp(host: str, run: str | None = "r-1", decision: Json = ALLOW, **more: Any) -> Json:
    return {
        "type": "egress.tcp", "run": run, "event": {"id": "e-t", "type": "tcp", "time": "x"}, "program": PYTHON,
        "decision": decision,
        "tcp": {"host": host, "address": "203.0.113.7", "port": 443, "sni": host, "tls": True, "bytes_out": 10,
                "bytes_in": 5000, "duration_us": 70} | more,
    }  # fmt: skip


def model(name: str = "claude", run: str | None = "r-1", **more: Any) -> Json:
    return {
        "type": "egress.model", "run": run, "event": {"id": "e-m", "type": "model", "time": "x"}, "program": PYTHON,
        "model": {
            "http_id": "h-1", "provider": "anthropic", "api": "messages", "name": name, "stream": True,
            "messages": 4, "input_tokens": 1200, "cached_tokens": 1000, "output_tokens": 300,
            "cost_microdollars": 8100, "priced": True, "stop_reason": "tool_use", "response_id": "m-1",
            "tool_calls": [{"id": "t-1", "name": "bash", "arguments_size": 30}, {"id": "t-2", "name": "edit"}],
        } | more,
    }  # fmt: skip


def finding(run: str | None = "r-1") -> Json:
    rule = {
        "id": "secret-then-egress",
        "title": "Secret read, then sent",
        "level": "high",
        "file": "x.yml",
        "line": 1,
    }
    return {"type": "egress.finding", "run": run, "rule": rule, "events": ["e-1", "e-2"], "count": 2}


def connect(target: str, run: str | None = "r-1", errno: str | None = None) -> Json:
    return {
        "type": "connect",
        "run": run,
        "pid": 3,
        "program": "/usr/bin/psql",
        "target": target,
        "errno": errno,
    }


def mcp(run: str | None = "r-1") -> Json:
    call = {"method": "tools/call", "server": "files", "tool": "grep", "request_id": 3, "arguments_size": 9}
    return {"type": "egress.mcp", "run": run, "program": PYTHON, "mcp": call}


def session(run: str = "r-1") -> list[Json]:
    """One of everything that others than a run may record."""
    return [
        exec_(run),
        exec_(run, "python3", "agent.py", program="/usr/bin/python3"),
        write("/w/src/a.py", run=run),
        write("/w/src/b.py", "rename", run, "/w/src/c.py"),
        write("/etc/hosts", "read", run),
        denied("/home/u/.ssh/id_ed25519", run=run),
        denied("tcp:192.0.2.1:25", "connect", run, rule=None, layer="network"),
        denied("/usr/bin/nc", "execute", run),
        denied("kexec_load", "syscall", run, probe=True),
        connect("tcp:127.0.0.1:5432", run),
        connect("unix:/run/x.sock", run, "EACCES"),
        dns("api.example.org", run),
        dns("evil.example", run, BLOCK),
        http("api.example.org", "/v1/a", run=run),
        http("api.example.org", "/gists", "POST", run, decision=BLOCK),
        tcp("db.example.org", run),
        model(run=run),
        mcp(run),
        {"type": "egress.websocket", "run": run, "websocket": {"messages": 3}},
        finding(run),
        {"type": "egress.ask", "run": run, "ask": ASK},
        {"type": "egress.answer", "run": run, "answer": ANSWER},
        {
            "type": "call.started", "run": run, "call": 1, "tool": "add", "function": "m:add", "arguments": "[]",
            "arguments_bytes": 2, "arguments_commitment": "x", "timeout_ms": None,
        },
        {"type": "call.ended", "run": run, "call": 1, "outcome": "returned", "us": 12, "denials": 0, "answer_bytes": 1},
        {"type": "egress.lost", "run": run, "why": "egress died"},
        {"type": "limit", "run": run, "limit": "memory"},
    ]  # fmt: skip


def machine(run: str = "r-m-0badcafe") -> list[Json]:
    """What a machine's monitor records: a start, two commands of which one is refused, a file, connections, an end."""
    ls = {"path": "ls", "name": "ls", "argv": ["ls", "-l"], "command": "ls -l"}
    rm = {"path": "rm", "name": "rm", "argv": ["rm", "-r"], "command": "rm -r"}
    file = {"operation": "write", "path": "/root/x", "name": "x", "ext": ""}
    rule = {"action": "block", "rule": {"id": "no-rm", "file": "rules.yaml", "line": 3}, "reason": "not here"}
    return [
        {"type": "machine.started", "run": run, "template": True, "resumed": False, "accelerator": "tcg"},
        {
            "type": "machine.exec", "run": run, "argv": ["ls", "-l"], "cwd": "/root", "user": 7,
            "event": {"id": "host-1", "type": "process"}, "process": ls, "decision": ALLOW,
        },
        {"type": "machine.exit", "run": run, "exec": "host-1", "code": 2, "signal": None, "cpu_ms": 5},
        {
            "type": "machine.exec", "run": run, "argv": ["rm", "-r"], "cwd": "/", "user": 0,
            "event": {"id": "host-2", "type": "process"}, "process": rm, "decision": rule,
        },
        {
            "type": "machine.file", "run": run, "operation": "write", "target": "/root/x", "user": 0,
            "event": {"id": "host-3", "type": "file"}, "file": file, "decision": {"action": "allow", "by": "default"},
        },
        {"type": "machine.dial", "run": run, "dial": {"host": "a.example", "port": 443}, "decision": ALLOW},
        {"type": "machine.dial", "run": run, "dial": {"host": "b.example", "port": 25}, "decision": BLOCK},
        {"type": "machine.stopped", "run": run, "asked": True, "qemu_exit": 0},
    ]  # fmt: skip


def guest(run: str = "r-m-0badcafe") -> list[Json]:
    """What a machine's monitor records of the guest's word about itself."""
    word = {"run": run, "reported_by": "guest"}
    process = {"path": "/bin/ls", "name": "ls", "argv": ["ls", "-l"], "command": "ls -l", "pid": 7, "uid": 0}
    file = {"operation": "rename", "path": "/w/b", "name": "b", "from": "/w/a"}
    return [
        {
            "type": "guest.process", "event": {"id": "guest-1", "type": "process"}, "process": process,
            "program": {"pid": 1, "path": "/bin/sh", "name": "sh", "reported_by": "guest"}, **word,
        },
        {"type": "guest.exit", "process": {"pid": 7, "path": "/bin/ls", "name": "ls"}, "code": 0, **word},
        {"type": "guest.file", "event": {"id": "guest-2", "type": "file"}, "file": file, **word},
        {"type": "guest.lost", "what": "changes", "count": 3, "by": "guest", **word},
        {"type": "guest.lost", "what": "processes", "count": 4, "by": "host", "run": run},
        {"type": "guest.lost", "what": "directories", "count": 5, "by": "guest", **word},
    ]  # fmt: skip
