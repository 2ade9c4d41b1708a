from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.invoke import invoke
from tests.native.log import Log
from tests.native.running import Capsule
from tests.sessions.recorded import http


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_what_was_learnt_is_enough_to_do_it_again(
    capsys: pytest.CaptureFixture[str], capsule_binary: Path, workspace: Path, home: Path
) -> None:
    """The whole circle: a run, the policy learnt from it, the same run under that policy, and one beyond it."""
    capsule = Capsule(capsule_binary, workspace)
    (workspace / "in").mkdir()
    (workspace / "out").mkdir()
    (workspace / "in/a").write_text("hello\n")
    again = ("sh", "-c", "cat in/a > out/b && cp out/b out/c")
    first = capsule.run(*again, options=["--audit", "all"])
    assert first.code == 0, first.err
    answer = invoke(capsys, "learn", "--out", "learnt.yaml")
    assert answer.code == 0, answer.err
    assert "learnt.yaml: " in answer.out
    assert "\n0 of " in answer.out, "nothing that was recorded would be decided otherwise"
    assert invoke(capsys, "policy", "check", "learnt.yaml").code == 0
    for name in ("b", "c"):
        (workspace / "out" / name).unlink()
    second = capsule.run(*again, options=["--policy", "./learnt.yaml"])
    assert second.code == 0, second.err
    assert (workspace / "out/c").read_text() == "hello\n"
    beyond = capsule.run("sh", "-c", "echo x > in/a", options=["--policy", "./learnt.yaml"])
    assert beyond.code != 0
    assert (workspace / "in/a").read_text() == "hello\n"


POLICY = """version: 1
extends: [workspace]
env:
  pass: [COLOUR, MY_TOKEN, PYTHONSTARTUP]
  set: {GREETING: "hello: you", DEPLOY_PASSWORD: hunter2-of-the-policy}
  scrub: {remove: ["*TOKEN*", PYTHONSTARTUP]}
"""


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_variables_are_learnt_by_name_and_no_value_of_the_caller_s_is_on_the_log(
    capsys: pytest.CaptureFixture[str], capsule_binary: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {
        "COLOUR": "value-of-colour", "MY_TOKEN": "value-of-the-token", "PYTHONSTARTUP": "/value/of/startup",
        "OTHER_SECRET": "value-of-another",
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    (workspace / "p.yaml").write_text(POLICY)
    capsule = Capsule(capsule_binary, workspace)
    run = capsule.run("true", options=["--policy", "./p.yaml", "--env", "CHOSEN=value-chosen"]).report["run"]
    log = (workspace / "capsule.log").read_text()
    assert not any(value in log for value in (*values.values(), "value-chosen", "hunter2"))
    answer = invoke(capsys, "learn", run, "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    lines = {(line["section"], line["value"]): line["warning"] for line in found["lines"]}
    assert lines["env.pass", "COLOUR"] is None
    assert lines["env.set", 'GREETING: "hello: you"'] is None
    assert lines["env.pass", "MY_TOKEN"] == "its name says that it is a secret, or runs code"
    assert lines["env.pass", "PYTHONSTARTUP"] == "programs that find it run what it names"
    assert "still names what does" in lines["env.scrub.remove", "*TOKEN*"]
    assert ("env.pass", "PATH") not in lines, "what the preset passes is not named again"
    assert not any("DEPLOY_PASSWORD" in value or "CHOSEN" in value for _, value in lines)
    assert (
        'LOOK TWICE: set by what they ran under (p), to what is not copied: "DEPLOY_PASSWORD"'
        in found["policy"]
    )
    assert "hunter2" not in found["policy"]
    assert "Kept from them; whether a program asked for one is not known:" in found["policy"]
    assert found["withheld"]["OTHER_SECRET"] == 1
    # Only what may not be copied is given otherwise.
    changes = [(change["type"], change["what"], change["now"]) for change in found["replay"]["changes"]]
    assert changes == [("environment", "variable DEPLOY_PASSWORD", "block")]
    (workspace / "learnt.yaml").write_text(found["policy"])
    seen = capsule.run("env", options=["--policy", "./learnt.yaml"]).out
    assert "GREETING=hello: you\n" in seen
    assert "COLOUR=value-of-colour\n" in seen
    assert "MY_TOKEN=value-of-the-token\n" in seen
    assert "OTHER_SECRET" not in seen
    narrower = invoke(capsys, "replay", run, "--policy", "strict", "--json")
    refused = {change["what"] for change in json.loads(narrower.out)["changes"] if change["now"] == "block"}
    assert {"variable COLOUR", "variable MY_TOKEN", "variable GREETING"} <= refused
    (workspace / "wider.yaml").write_text(
        POLICY.replace("COLOUR,", "COLOUR, OTHER_SECRET,").replace('["', '["*SECRET*", "')
    )
    wider = json.loads(invoke(capsys, "replay", run, "--policy", "./wider.yaml", "--json").out)
    assert [(change["what"], change["was"], change["now"]) for change in wider["changes"]] == [
        ("variable OTHER_SECRET", "block", "allow")
    ]
    (workspace / "p.yaml").write_text(POLICY.replace("hello: you", "another"))
    changed = json.loads(invoke(capsys, "learn", run, "--json").out)
    assert not any(line["section"] == "env.set" for line in changed["lines"]), "that policy is another now"


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_hosts_and_refusals(
    capsys: pytest.CaptureFixture[str], capsule_binary: Path, workspace: Path, home: Path
) -> None:
    ran = Capsule(capsule_binary, workspace).run("cat", str(home / ".ssh/id_ed25519"))
    run = ran.report["run"]
    Log(capsule_binary, workspace / "capsule.log").record(
        http("api.example.org", f"/v1/{n}", "POST", run) for n in range(3)
    )
    found = json.loads(invoke(capsys, "learn", run, "--json").out)
    hosts = [line for line in found["lines"] if line["section"] == "network.hosts"]
    assert [line["value"] for line in hosts] == [
        '{host: "api.example.org", ports: [443], methods: [POST], paths: ["/v1/0", "/v1/1", "/v1/2"]}'
    ]
    assert (hosts[0]["count"], hosts[0]["warning"]) == (3, "data leaves by POST")
    assert found["replay"]["changed"] == 0
    assert "Reads were not recorded" in found["policy"]
    assert list(found["refused"]) == ["cat: read " + str(home / ".ssh/id_ed25519")]
    wide = json.loads(invoke(capsys, "learn", run, "--refused", "--json").out)
    (secret,) = [line for line in wide["lines"] if ".ssh" in line["value"]]
    assert secret["warning"] == "SSH keys"


def test_sessions_that_nobody_can_learn_from(
    capsys: pytest.CaptureFixture[str], capsule_binary: Path, workspace: Path
) -> None:
    Log(capsule_binary, workspace / "capsule.log").record([http("a.example")])
    answer = invoke(capsys, "learn")
    assert answer.code == 2
    assert "its directory is not known" in answer.err


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_sessions_of_two_directories(
    capsys: pytest.CaptureFixture[str], capsule_binary: Path, workspace: Path
) -> None:
    (workspace / "sub").mkdir()
    one = Capsule(capsule_binary, workspace).run("true").report["run"]
    log = str(workspace / "capsule.log")
    two = Capsule(capsule_binary, workspace / "sub").run("true", options=["--log", log]).report["run"]
    answer = invoke(capsys, "learn", one, two)
    assert answer.code == 2
    assert "different directories" in answer.err
