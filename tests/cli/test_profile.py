"""`capsule profile` from the command to the suggested policy, with the real binary."""

import json
import re
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

pytestmark = pytest.mark.needs("userns", "landlock", "seccomp-notify")


def profile(binary: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(binary), "profile", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def policy_of(text: str) -> dict[str, Any]:
    loaded = YAML(typ="safe", pure=True).load(text)
    assert isinstance(loaded, dict)
    return loaded


def test_one_command_suggests_a_policy_under_which_it_runs(capsule_binary: Path, workspace: Path) -> None:
    (workspace / "in.txt").write_text("x\n")
    command = ["/bin/sh", "-c", "mkdir -p out && cat in.txt > out/copy.txt"]
    done = profile(capsule_binary, workspace, "--", *command)
    assert done.returncode == 0, done.stderr
    suggested = policy_of(done.stdout)
    assert suggested["filesystem"]["write"] == ["."], "a directory was made in it, and reading comes with it"
    assert "read" not in suggested["filesystem"]
    assert "LOOK TWICE:" not in done.stdout

    (workspace / "out" / "copy.txt").unlink()
    (workspace / "capsule.yaml").write_text(done.stdout)
    again = subprocess.run(
        [str(capsule_binary), "run", "--policy", "capsule.yaml", "--json",
         "--log", str(workspace.parent / "log"), "--", *command],
        cwd=workspace, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    report = json.loads(again.stderr.splitlines()[-1])
    assert [d for d in report["denials"] if not d["probe"]] == []
    assert (workspace / "out" / "copy.txt").read_text() == "x\n"


def test_a_service_of_the_host_that_was_not_reached_is_a_port_and_nobody_is_none(
    capsule_binary: Path, workspace: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as other:
        port, free = server.getsockname()[1], other.getsockname()[1]
        other.close()
        code = (
            f"import socket\nfor port in ({free}, {port}):\n"
            "    with socket.socket() as s: print(port, s.connect_ex(('127.0.0.1', port)))"
        )
        command = ["/usr/bin/python3", "-c", code]
        done = profile(capsule_binary, workspace, "--", *command)
        assert policy_of(done.stdout)["network"] == {"ports": [port]}
        line = next(line for line in done.stdout.splitlines() if f"- {port}" in line)
        assert re.search(
            r"1 connection, refused while observing +LOOK TWICE: a service of the host listens there", line
        )
        (line,) = [line for line in done.stdout.splitlines() if f"tcp:127.0.0.1:{free}" in line]
        assert line.startswith("# Not suggested: ")
        assert line.endswith(f"to allow: network: {{ports: [{free}]}}")
        (workspace / "capsule.yaml").write_text(done.stdout)
        again = subprocess.run(
            [str(capsule_binary), "run", "--policy", "capsule.yaml",
             "--log", str(workspace.parent / "log"), "--", *command],
            cwd=workspace, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert again.stdout.split() == [str(free), "111", str(port), "0"], again.stderr


def test_runs_are_merged_and_a_file_of_commands_is_read(capsule_binary: Path, workspace: Path) -> None:
    (workspace / "a").write_text("1")
    (workspace / "commands.txt").write_text("# two of them\ncat a\n\ncat a a\n")
    done = profile(capsule_binary, workspace, "commands.txt", "--out-dir", "sysprofile")
    assert done.returncode == 0, done.stderr
    seen = json.loads((workspace / "sysprofile" / "observation.json").read_text())
    assert seen["runs"] == 2
    reads = {use["path"]: use["read"] for use in seen["files"]}
    assert reads[str(workspace / "a")] == 3
    assert policy_of((workspace / "sysprofile" / "capsule.yaml").read_text())["extends"] == ["strict"]
    again = profile(capsule_binary, workspace, "--out-dir", "sysprofile", "--", "cat", "a")
    assert again.returncode == 0, again.stderr
    assert json.loads((workspace / "sysprofile" / "observation.json").read_text())["runs"] == 3
    fresh = profile(capsule_binary, workspace, "--fresh", "--out-dir", "sysprofile", "--", "cat", "a")
    assert fresh.returncode == 0, fresh.stderr
    assert json.loads((workspace / "sysprofile" / "observation.json").read_text())["runs"] == 1


def test_a_present_policy_is_compared_and_pruned(capsule_binary: Path, workspace: Path) -> None:
    (workspace / "a").write_text("1")
    (workspace / "unused").mkdir()
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [strict]\nfilesystem:\n  read:\n    - ./a\n    - ./unused\n  write:\n    - ./out\n"
    )
    (workspace / "out").mkdir()
    only = profile(
        capsule_binary,
        workspace,
        "--policy",
        "./capsule.yaml",
        "--out-dir",
        "kept",
        "--prune",
        "--",
        "cat",
        "a",
    )
    assert only.returncode == 0, only.stderr
    options = ("--policy", "./capsule.yaml", "--out-dir", "kept", "--json")
    done = profile(capsule_binary, workspace, *options, "--diff", "--prune", "--", "cat", "a")
    assert done.returncode == 1, done.stderr
    answer = json.loads(done.stdout)
    assert {grant["path"] for grant in answer["unused"]} == {
        str(workspace / "unused"),
        str(workspace / "out"),
    }
    assert not [use for use in answer["refused"] if use["path"] == str(workspace / "a")]
    pruned = policy_of((workspace / "kept" / "capsule.yaml").read_text())
    assert pruned["filesystem"] == {"read": ["./a"], "write": []}


def test_a_policy_works_from_where_it_was_written(capsule_binary: Path, workspace: Path) -> None:
    (workspace / "commands.txt").write_text("echo x > out.txt\n")
    done = profile(capsule_binary, workspace, "commands.txt", "--out-dir", "sysprofile")
    assert done.returncode == 0, done.stderr
    (workspace / "out.txt").unlink()
    log = ("--log", str(workspace.parent / "log"))
    again = subprocess.run(
        [str(capsule_binary), "run", "--policy", "sysprofile/capsule.yaml", *log, "--", "/bin/sh", "-c",
         "echo x > out.txt"],
        cwd=workspace, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert (workspace / "out.txt").read_text() == "x\n"


def test_commands_that_fail_and_secrets_that_were_tried_are_said(
    capsule_binary: Path, workspace: Path
) -> None:
    (workspace / ".env").write_text("k=v")
    (workspace / "capsule.yaml").write_text(
        "version: 1\nextends: [workspace]\nfilesystem: {deny: [./.env]}\n"
    )
    (workspace / "commands.txt").write_text("cat .env; exit 3\ntrue\n")
    done = profile(capsule_binary, workspace, "commands.txt", "--out-dir", "sysprofile")
    assert done.returncode == 1
    assert "profile: 1/2 exited 3: cat .env; exit 3" in done.stderr
    assert "1 to look at twice" in done.stdout
    text = (workspace / "sysprofile/capsule.yaml").read_text()
    assert re.search(
        r"# LOOK TWICE, refused and not suggested: .*/\.env\"?, 1 times: looks like a secret", text
    ), text
    answer = json.loads(profile(capsule_binary, workspace, "--json", "--", "false").stdout)
    assert [each["code"] for each in answer["failed"]] == [1]


def test_what_does_not_start_is_no_profile(capsule_binary: Path, workspace: Path) -> None:
    done = profile(capsule_binary, workspace, "--", "nosuch")
    assert (done.returncode, done.stdout) == (125, "")
    assert "nosuch did not start (not found)" in done.stderr


def test_what_makes_no_sense_is_said(capsule_binary: Path, workspace: Path) -> None:
    for arguments, words in [
        (("--diff", "--", "true"), "--policy"),
        (("--prune", "--policy", "strict", "--out-dir", "x", "--", "true"), "policy file"),
        (("missing.txt",), "cannot be read"),
    ]:
        done = profile(capsule_binary, workspace, *arguments)
        assert done.returncode not in (0, 1)
        assert words in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
