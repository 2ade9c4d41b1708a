"""The acts of `capsule.attack.process` stand alone, and do their harm where nothing holds them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from capsule.attack.case import Case
from capsule.attack.inside import Inside
from capsule.attack.process import FAMILY, kill_all, monitor_memory
from tests.attack.acts import check, does_harm, sample

SAMPLE = sample(FAMILY, "process.privileges", "process.signal-io")


def test_every_act_stands_alone() -> None:
    check(FAMILY)


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.id)
def test_without_a_sandbox_the_harm_is_seen(case: Case, tmp_path: Path) -> None:
    does_harm(case, tmp_path)


def on_the_host(tmp_path: Path) -> Inside:
    """What an act is told when the sandbox did not hold: it runs in the host's own namespaces."""
    told = dict.fromkeys(("ws", "home", "outside"), str(tmp_path)) | {
        "mark": "m",
        "hook": "",
        "confined": True,
    }
    spaces = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "mnt")}
    return Inside(json.dumps({**told, "namespaces": spaces, "extra": {"victim": 4_194_303}}))


def test_where_nothing_holds_only_the_victim_is_signalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every way to send a signal is replaced by a record before the act runs: nothing is sent here."""
    sent: list[int] = []

    def record(_self: Inside, name: str, *numbers: int) -> None:
        if name == "tgkill":
            sent.append(numbers[0])

    monkeypatch.setattr(os, "kill", lambda pid, _: sent.append(pid))
    monkeypatch.setattr(os, "killpg", lambda pid, _: sent.append(pid))
    monkeypatch.setattr(Inside, "sys", record)
    kill_all(on_the_host(tmp_path))
    assert sent
    assert set(sent) == {4_194_303}


def test_where_nothing_holds_the_hosts_first_process_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "canary").write_text("x")
    touched: list[str] = []

    def note(_self: Inside, path: str, _limit: int = 0) -> bytes:
        touched.append(path)
        return b""

    monkeypatch.setattr(Inside, "read", note)
    monkeypatch.setattr(Inside, "write", lambda _self, path, *_: touched.append(path))
    monkeypatch.setattr(Inside, "say", lambda _self, _loot: None)
    monitor_memory(on_the_host(tmp_path))
    assert touched == [str(tmp_path / "canary")]


def test_a_namespace_that_cannot_be_read_counts_as_the_hosts(tmp_path: Path) -> None:
    a = on_the_host(tmp_path)
    assert not a.elsewhere("pid")
    assert not a.elsewhere("no-such-kind")
