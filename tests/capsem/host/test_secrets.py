from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from capsem.cli.main import main
from capsem.errors import UsageError
from capsem.host import paths
from capsem.host.secrets import secrets_of
from capsem.vm.lifecycle import State
from capsem.vm.network import NOTHING, NetworkSpec
from tests.capsem.processes.service.test_registry import left


def plan(**source: Any) -> dict[str, Any]:
    return {"secrets": [{"name": "api", "from": source}]}


def printing(text: str) -> list[str]:
    return [sys.executable, "-c", f"print({text!r})"]


def test_a_value_comes_from_where_the_policy_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    monkeypatch.setenv("TOKEN", "from-the-environment")
    for source, value in (
        ({"kind": "env", "env": "TOKEN"}, "from-the-environment"),
        ({"kind": "file", "file": str(tmp_path / "token")}, "from-a-file"),
        ({"kind": "command", "command": printing("from-a-program")}, "from-a-program"),
        ({"kind": "command", "command": printing('{"token": "t0ken", "expires": "x"}')}, "t0ken"),
    ):
        assert secrets_of(plan(**source)) == {"api": value}
    assert secrets_of({"secrets": []}) == {}


def test_without_a_value_nothing_begins_and_no_value_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "two").write_text("topsecret\ntopsecret\n")
    monkeypatch.delenv("ABSENT", raising=False)
    monkeypatch.setenv("EMPTY", "")
    for source in (
        {"kind": "env", "env": "ABSENT"},
        {"kind": "env", "env": "EMPTY"},
        {"kind": "file", "file": str(tmp_path / "none")},
        {"kind": "file", "file": str(tmp_path / "two")},
        {"kind": "command", "command": ["/nonexistent/program"]},
        {"kind": "command", "command": [sys.executable, "-c", "print('topsecret'); raise SystemExit(3)"]},
        {"kind": "command", "command": printing('{"other": "topsecret"}')},
    ):
        with pytest.raises(UsageError, match="secret `api` cannot be had") as refused:
            secrets_of(plan(**source))
        assert "topsecret" not in str(refused.value)


def test_everything_that_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABSENT", raising=False)
    named = [{"name": name, "from": {"kind": "env", "env": "ABSENT"}} for name in ("api", "db")]
    with pytest.raises(UsageError, match=r"`api` cannot be had.*`db` cannot be had") as refused:
        secrets_of({"secrets": named})
    assert refused.value.next_step == "export ABSENT with their values, and repeat"
    other = {"name": "other", "from": {"kind": "file", "file": "/nonexistent"}}
    with pytest.raises(UsageError, match="`other` cannot be had") as refused:
        secrets_of({"secrets": [*named, other]})
    assert refused.value.next_step == "see the policy's `secrets`"


@pytest.mark.usefixtures("capsem_home")
@pytest.mark.parametrize("how", ["start", "restart", "resume"])
def test_a_machine_does_not_begin_again_without_its_secrets(
    how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("ABSENT", raising=False)
    secret = {"name": "api", "from": {"kind": "env", "env": "ABSENT"}, "env": None}
    network = NetworkSpec("p.yaml", "d", json.dumps({**NOTHING, "secrets": [secret]}))
    left("m-00000001", "build", State.STOPPED, network=network)
    with pytest.raises(SystemExit) as ended:
        main([how, "build"])
    assert ended.value.code == 2
    assert "the secret `api` cannot be had: the variable ABSENT is not set" in capsys.readouterr().err
    monkeypatch.setenv("ABSENT", "topsecret")
    with pytest.raises(SystemExit) as ended:
        main([how, "build"])
    assert "cannot be had" not in capsys.readouterr().err, "the control: it gets as far as the image"
    assert not [one for one in paths.home().rglob("*") if one.is_file() and b"topsecret" in one.read_bytes()]
