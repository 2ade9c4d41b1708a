"""The demonstration's chapter of the network: a key that is used and never held, an ask, and what is refused.

As in the first chapters every trap is sprung without a sandbox before, and the servers, the record and files are what
is judged by. Refuses to go on when a trap did not spring.

    with Internet(folder, KEY) as internet:
        control(stage, internet)
        chapter(stage, internet)
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from internet import MODELS, PACKAGES, Heard, Internet
from stage import Stage, contains, title

KEY = "sk-ant-demo-3f9c1b7e5a2d4860"  # a decoy: it opens the demonstration's own server and nothing else
KEYS = {
    "ANTHROPIC_API_KEY": KEY,
    "CAPSULE_EGRESS_IDLE": "3",
}  # as your shell has it; egress leaves soon after
STEPS = ("work", "misbehave", "dump")
COSTS = "SELECT name, input_tokens, output_tokens, cost_microdollars / 1e6 AS dollars FROM model"


def lacking() -> str | None:
    """What this clone's Python lacks for a network, or None."""
    if sys.version_info < (3, 12):
        return "it needs Python 3.12 or newer; `make setup` takes the newest it finds"
    return None if importlib.util.find_spec("mitmproxy") else "the extra capsule[egress] is not installed"


def control(stage: Stage, internet: Internet) -> None:
    """Without a sandbox: the key is there to be read, and everything arrives."""
    copy = stage.folder / "control"
    shutil.copytree(stage.project, copy)
    there = {
        "DEMO_ROUTE": f"127.0.0.1:{internet.port}",
        "DEMO_DNS_ROUTE": stage.environment()["DEMO_DNS"],
        "SSL_CERT_FILE": str(internet.authority),
    }
    print()
    stage.show("python", "../agent/online.py", *STEPS, cwd=copy, more=there | KEYS)
    print()
    heard = internet.forget()
    spelled = any(KEY.encode().hex().encode() in untold for untold in stage.traps.questions())
    stage.check("the model, the upload and the package index were reached", _paths(heard) == _ALL)
    stage.check("the key reached a stranger, in a request and in a name", _leaked(heard) and spelled)
    stage.check("the script holds the key", KEY.encode() in (copy / "environment.txt").read_bytes())
    shutil.rmtree(copy)


def chapter(stage: Stage, internet: Internet) -> None:
    """Under network.yaml."""
    title("With a network: a key it never holds, and a question to you")
    _place(stage, internet)
    log = _log(stage)
    answering = threading.Thread(target=_answer, args=(stage,), daemon=True)
    answering.start()
    code = stage.show(
        "capsule", "run", "--policy", "network.yaml", "--", "python", "../agent/online.py", *STEPS, more=KEYS
    )
    answering.join(10)
    print()
    stage.check("the work was done: exit code 0", code == 0)

    title("Its story: capsule sessions timeline")
    stage.show("capsule", "sessions", "timeline")
    title("What it cost: capsule sessions query")
    stage.show("capsule", "sessions", "query", COSTS)
    _judge(stage, internet.forget(), _log(stage)[len(log) :])


_ALL = {(MODELS, "/v1/messages"), (MODELS, "/v1/files"), (PACKAGES, "/publish"), (PACKAGES, "/search")}


def _judge(stage: Stage, heard: list[Heard], log: list[dict[str, Any]]) -> None:
    title("Judged by the servers, the files and the record")
    calls = [one for one in heard if one.path == "/v1/messages"]
    stage.check("the model's server received the real key", [one.key for one in calls] == [KEY])
    wanted = {(MODELS, "/v1/messages"), (PACKAGES, "/publish")}
    stage.check("nothing but the call and the publication reached a server", _paths(heard) == wanted)
    seen = (stage.project / "environment.txt").read_bytes()
    held = b"capsule-secret-anthropic-" in seen and KEY.encode() not in seen
    stage.check("the script saw a placeholder in every environment, and no key", held)
    stage.check("the key is nowhere in the project, its log included", not contains(stage.project, KEY))

    http = {entry["http"]["path"]: entry for entry in log if entry["type"] == "egress.http"}
    decided = {path: entry["decision"] for path, entry in http.items()}
    names = {entry["dns"]["name"]: entry["dns"]["rcode"] for entry in log if entry["type"] == "egress.dns"}
    answers = [entry["answer"] for entry in log if entry["type"] == "egress.answer"]
    (model,) = [entry["model"] for entry in log if entry["type"] == "egress.model"] or [{}]
    stage.check(
        "on record: which secret the call used", http["/v1/messages"]["http"].get("secret") == ["anthropic"]
    )
    counted = (
        model.get("input_tokens"),
        model.get("output_tokens"),
        [t["name"] for t in model.get("tool_calls", [])],
    )
    stage.check(
        "on record: 1812 tokens in, 64 out, a tool that was called", counted == (1812, 64, ["publish"])
    )
    stage.check("on record: its price", model.get("cost_microdollars", 0) > 0)
    stage.check("on record: the question, and that it was allowed", [a["allowed"] for a in answers] == [True])
    refused = {path: decision["by"] for path, decision in decided.items() if decision["action"] == "block"}
    stage.check(
        "on record: both refused requests, and why", refused == {"/v1/files": "grant", "/search": "secret"}
    )
    stranger = {
        name for name, rcode in names.items() if name.endswith("evil.example") and rcode == "NXDOMAIN"
    }
    stage.check("on record: the names that do not exist in here", len(stranger) == 2)
    rebuilt = stage.quietly("capsule", "sessions", "rebuild", "--check")
    stage.check("the session database says what the log says: exit code 0", rebuilt.returncode == 0)


def _answer(stage: Stage) -> None:
    """What you would do in another terminal."""
    asked = stage.quietly("capsule", "asks", "--wait", "20")
    waiting = stage.quietly("capsule", "asks", "--json")
    asks = json.loads(waiting.stdout)["asks"] if waiting.returncode == 0 else []
    if not asks:
        return  # the script then reports a refusal, and the story that its question was not answered
    words = ("capsule", "answer", asks[0]["id"], "allow")
    told = ["$ capsule asks", *asked.stdout.decode().splitlines(), f"$ {' '.join(words)}"]
    print("\n".join(f"    {line}" for line in told), flush=True)
    stage.quietly(*words)


def _place(stage: Stage, internet: Internet) -> None:
    """The policy and its rules, beside capsule.yaml, with what they cannot know beforehand."""
    here = Path(__file__).parent
    shutil.copy(here / "rules.yaml", stage.project)
    policy = (here / "network.yaml").read_text()
    policy = policy.replace("@address@", f"127.0.0.1:{internet.port}")
    (stage.project / "network.yaml").write_text(policy.replace("@authority@", str(internet.authority)))


def _log(stage: Stage) -> list[dict[str, Any]]:
    lines = stage.quietly("capsule", "log", "--json").stdout.splitlines()
    return [json.loads(line) for line in lines]


def _paths(heard: list[Heard]) -> set[tuple[str, str]]:
    return {(one.host, one.path) for one in heard}


def _leaked(heard: list[Heard]) -> bool:
    return any(one.host == PACKAGES and KEY in one.body for one in heard)
