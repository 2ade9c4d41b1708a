from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.invoke import invoke


@pytest.mark.needs("egress")
@pytest.mark.needs("userns", "unshare", "curl")
def test_answers_to_real_asks(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.cli.waiting import waiting

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with waiting(tmp_path) as run:
        denied = run.put("/size/1")
        answer = invoke(capsys, "answer", denied, "deny")
        assert (answer.code, answer.out) == (0, f"{denied}: denied\n")
        assert run.finish().out.endswith("403")
        late = invoke(capsys, "answer", denied, "allow")
        assert late.code == 1
        assert "it was answered, or its time is over" in late.err
        assert "see what waits: capsule asks" in late.err

        allowed = run.put("/size/1")
        answer = invoke(capsys, "answer", allowed, "allow", "--scope", "host", "--for", "10m", "--json")
        assert json.loads(answer.out) == {"id": allowed, "action": "allow", "scope": "host", "for": "10m"}
        assert run.finish().out.endswith("200")
        again = run.stage.run(
            "curl", "-sS", "-X", "PUT", "-d", "x", "-w", "%{http_code}", "http://a.example/size/1"
        )
        assert again.out.endswith("200"), "the answer holds for the host: nobody is asked again"
        assert invoke(capsys, "answer", "nosuch", "deny").code == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a1", "maybe"], "'maybe' is not one of"),
        (["a1", "allow", "--scope", "world"], "'world' is not one of"),
        (["a1", "allow", "--for", "10m"], "--for goes with --scope path or --scope host"),
        (["a1", "allow", "--scope", "host", "--for", "10"], "--for is '10'; expected a duration"),
        (["../sessions", "allow"], "is no ask's id"),
        (["a1 HTTP/1.1", "allow"], "is no ask's id"),
        (["a1"], "Missing argument"),
    ],
)
def test_what_is_no_answer(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    answer = invoke(capsys, "answer", *arguments)
    assert answer.code == 2
    assert says in answer.err


def test_nobody_to_answer(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    answer = invoke(capsys, "answer", "a1", "deny")
    assert answer.code == 1
    assert "no run of yours reaches hosts at this moment" in answer.err
