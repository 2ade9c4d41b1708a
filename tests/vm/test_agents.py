"""The agents' own command lines, as their authors publish them, each for one turn in a machine.

Judged from the host: what the providers' servers heard, what the machine's log has, and what its memory and files hold.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from capsem.host import recipes
from capsem.host.build import BuildSpec, build
from capsem.host.progress import Silent
from tests.vm.marks import machines
from tests.vm.models import (
    ANTHROPIC,
    GOOGLE,
    INPUT,
    OPENAI,
    OUTPUT,
    WORD,
    Models,
    google_results,
    google_tools,
    openai_results,
    openai_tools,
    results,
)
from tests.vm.served import Stand
from tests.vm.test_machines import Home
from tests.vm.test_network import entries, sessions

pytestmark = machines(2400, "egress", "npm-registry", "userns", "landlock", "seccomp-notify")


@dataclass(frozen=True)
class Agent:
    """One command line: its preset, the variable of its key, its provider, how it is asked for one turn."""

    preset: str
    variable: str
    host: str
    command: tuple[str, ...]
    provider: str


AGENTS = {
    "claude": Agent("anthropic", "ANTHROPIC_API_KEY", ANTHROPIC, ("claude", "-p"), "anthropic"),
    "codex": Agent("openai", "OPENAI_API_KEY", OPENAI, ("codex", "exec", "--skip-git-repo-check"), "openai"),
    "gemini": Agent(
        "google-ai",
        "GEMINI_API_KEY",
        GOOGLE,
        ("gemini", "--skip-trust", "-m", "gemini-2.5-flash", "-p"),
        "google",
    ),
}
KEYS = {agent.host: f"real-key-of-{name}-5b0d92e7" for name, agent in AGENTS.items()}


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    path = Path(tempfile.mkdtemp(prefix="cm-", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPSEM_HOME", str(path))
        patch.setenv("CAPSEM_CACHE", f"{pwd.getpwuid(os.getuid()).pw_dir}/.cache/capsem")
        build(BuildSpec(recipe=recipes.load("agents"), kernel="stock"), Silent())
    home = Home(path)
    home.env |= {agent.variable: KEYS[agent.host] for agent in AGENTS.values()}
    try:
        yield home
    finally:
        home.end()
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    with Models(tmp_path_factory.mktemp("models"), KEYS) as found:
        yield found


def policy(directory: Path, agent: Agent, models: Models) -> Path:
    place = directory / "agent.yaml"
    place.write_text(
        f"version: 1\nname: agent\nextends: [workspace, {agent.preset}]\nnetwork:\n"
        f'  upstreams: [{{host: {agent.host}, address: "127.0.0.1:{models.port}", reason: test}}]\n'
        f'  authorities: ["{models.authority}"]\n'
    )
    return place


@pytest.mark.parametrize("name", AGENTS)
def test_one_turn(name: str, home: Home, models: Models, tmp_path: Path) -> None:
    agent = AGENTS[name]
    key = KEYS[agent.host]
    made = policy(tmp_path, agent, models)
    home.text("create", "--image", "agents", "-n", name, "--memory", "2G", "--policy", str(made))
    try:
        said = home.capsem("exec", name, "--", *agent.command, "Say one word.", seconds=1500).decode()
        log = entries(home, name)
        assert WORD in said, [
            said,
            [(one.method, one.path) for one in models.heard],
            log[-8:],
            sessions(home),
        ]
        calls = models.calls(agent.host)
        assert calls, models.heard
        assert {one.key for one in models.heard if one.host == agent.host} == {key}
        recorded = [entry for entry in log if entry["type"] == "egress.model"]
        assert [one["model"]["provider"] for one in recorded] == [agent.provider] * len(calls)
        assert {(one["model"]["input_tokens"], one["model"]["output_tokens"]) for one in recorded} == {
            (INPUT, OUTPUT)
        }
        http = [
            entry
            for entry in log
            if entry["type"] == "egress.http" and entry["decision"]["action"] == "allow"
        ]
        assert {tuple(one["http"]["secret"]) for one in http} == {(agent.preset,)}
        # Everything that it wrote, every environment and command line; then all of the machine's memory.
        looked = (
            "tar -cf - /root /home /tmp /var/tmp /etc /workspace 2>/dev/null; "
            "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline"
        )
        found = home.capsem("exec", name, "--", "sh", "-c", looked)
        placeholder = f"capsule-secret-{agent.preset}-".encode()
        assert placeholder in found, "the control: what is there is found"
        assert key.encode() not in found
        home.capsem("suspend", name)
        memory = memory_of(home, home.info(name)["id"])
        assert holds(memory, placeholder), "the control: what is there is found"
        assert not holds(memory, key.encode())
        assert key not in Path(home.info(name)["log"]).read_text()
    finally:
        home.capsem("delete", "--force", name)


def one_carried_and_one_refused(stand: Stand) -> None:
    """Of two calls: what the server had, and what the log tells."""
    calls = [line for line in stand.seen().splitlines() if '"tools/call"' in line]
    assert len(calls) == 1
    assert '"token"' in calls[0]
    told = [entry for entry in stand.told() if entry["mcp"]["method"] == "tools/call"]
    assert [(one["decision"]["action"], one["decision"]["rule"]["id"]) for one in told] == [
        ("allow", "mcp.servers tools"),
        ("block", "not-the-keys"),
    ]


def test_claude_uses_a_server_of_the_host(home: Home, models: Models, tmp_path: Path) -> None:
    """A tool's answer comes to the model, a refusal of a rule too; what no call reaches the model is not offered."""
    agent = AGENTS["claude"]
    made = policy(tmp_path, agent, models)
    models.wants = [("mcp__tools__length", {"of": "token"}), ("mcp__tools__length", {"of": "keys"})]
    before = len(models.heard)
    stand = Stand(home, tmp_path, "agents", ("--memory", "2G", "--policy", str(made)))
    try:
        config = {"mcpServers": {"tools": {"command": "capsem", "args": ["mcp", "tools"]}}}
        place = "/root/mcp.json"
        home.capsem("exec", "mcp", "--", "sh", "-c", f"cat >{place}", given=json.dumps(config).encode())
        with_it = ("--mcp-config", place, "--strict-mcp-config", "--allowedTools", "mcp__tools__length")
        words = ("env", "ENABLE_TOOL_SEARCH=false", "claude", "-p", "Measure the token, then the keys.")
        said = home.capsem("exec", "mcp", "--", *words, *with_it, seconds=1500).decode()
        assert WORD in said, said
        heard = [one for one in models.heard[before:] if one.path.partition("?")[0] == "/v1/messages"]
        bodies = [json.loads(one.body) for one in heard]
        offered = {tool["name"] for body in bodies for tool in body.get("tools", ())}
        assert {"mcp__tools__length", "mcp__tools__send"} <= offered, sorted(offered)
        assert "mcp__tools__delete" not in offered
        first, second = results(max(bodies, key=lambda body: len(results(body))))
        assert str(len(stand.token)) in json.dumps(first["content"])
        assert not first.get("is_error")
        assert "keys are not measured" in json.dumps(second["content"])
        assert second["is_error"] is True
        one_carried_and_one_refused(stand)
        assert "keys are not measured" in home.text("timeline", "mcp", "--all")
        home.capsem("verify", "mcp")
    finally:
        models.wants = []
        home.capsem("delete", "--force", "mcp")


CODEX_SERVER = (
    'mcp_servers.tools={command="capsem", args=["mcp", "tools"], default_tools_approval_mode="approve", '
    "startup_timeout_sec=300, tool_timeout_sec=300}"
)
GEMINI_SERVER = {"mcpServers": {"tools": {"command": "capsem", "args": ["mcp", "tools"], "trust": True}}}
WITH_SERVER = {
    # A model that it knows to search for tools is not offered them in its first request.
    "codex": (*AGENTS["codex"].command, "-m", "gpt-4.1", "-s", "danger-full-access", "-c", CODEX_SERVER),
    "gemini": AGENTS["gemini"].command,
}
READS = {"codex": (openai_tools, openai_results), "gemini": (google_tools, google_results)}
"""What a request of theirs offers, and what tools answered in it."""


@pytest.mark.parametrize("name", WITH_SERVER)
def test_others_use_a_server_of_the_host(name: str, home: Home, models: Models, tmp_path: Path) -> None:
    """As Claude Code does."""
    agent = AGENTS[name]
    offers, answers = READS[name]
    models.wants = [("tools__length", {"of": "token"}), ("tools__length", {"of": "keys"})]
    before = len(models.calls(agent.host))
    more = ("--memory", "2G", "--policy", str(policy(tmp_path, agent, models)))
    stand = Stand(home, tmp_path, "agents", more)
    try:
        place = "mkdir -p /root/.gemini && cat >/root/.gemini/settings.json"
        home.capsem("exec", "mcp", "--", "sh", "-c", place, given=json.dumps(GEMINI_SERVER).encode())
        words = (*WITH_SERVER[name], "Measure the token, then the keys.")
        said = home.capsem("exec", "mcp", "--", *words, seconds=1500).decode()
        bodies = [json.loads(one.body) for one in models.calls(agent.host)[before:]]
        offered = {tool for body in bodies for tool in offers(body)}
        assert WORD in said, (said, sorted(offered))
        for tool, shown in (("length", True), ("send", True), ("delete", False)):
            assert any(one.endswith((f"tools__{tool}", f"tools_{tool}")) for one in offered) is shown, offered
        first, second = max((answers(body) for body in bodies), key=len)
        assert str(len(stand.token)) in first
        assert "keys are not measured" in second
        one_carried_and_one_refused(stand)
        home.capsem("verify", "mcp")
    finally:
        models.wants = []
        home.capsem("delete", "--force", "mcp")


def memory_of(home: Home, machine: str) -> Path:
    """A suspended machine's memory and devices."""
    return home.path / "sessions" / machine / "suspended"


def holds(place: Path, wanted: bytes) -> bool:
    """Whether a large file has these bytes."""
    rest = b""
    with place.open("rb") as stream:
        while piece := stream.read(1 << 24):
            if wanted in rest + piece:
                return True
            rest = piece[-len(wanted) :]
    return False
