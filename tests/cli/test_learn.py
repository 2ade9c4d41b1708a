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
    assert "`environment:` over from what they ran under (workspace)" in Path("learnt.yaml").read_text()
    assert invoke(capsys, "policy", "check", "learnt.yaml").code == 0
    for name in ("b", "c"):
        (workspace / "out" / name).unlink()
    second = capsule.run(*again, options=["--policy", "./learnt.yaml"])
    assert second.code == 0, second.err
    assert (workspace / "out/c").read_text() == "hello\n"
    beyond = capsule.run("sh", "-c", "echo x > in/a", options=["--policy", "./learnt.yaml"])
    assert beyond.code != 0
    assert (workspace / "in/a").read_text() == "hello\n"


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
