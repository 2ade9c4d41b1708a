"""The runner believes the host: an open launcher fails, a refusing one proves nothing, a broken act is no pass."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from capsule.attack.case import Case, Launch, Verdict
from capsule.attack.inside import Inside
from capsule.attack.judges import no_harm
from capsule.attack.runner import Arena, run_all
from tests.attack.launchers import launcher


def harmless(a: Inside) -> None:
    a.read(a.ws + "/src/main.py")


def harmful(a: Inside) -> None:
    a.write(a.outside + "/canary")


def broken(a: Inside) -> None:
    raise RuntimeError("a fault of the act")


def endless(a: Inside) -> None:
    import time

    time.sleep(30)


def arena(folder: Path, refuse: str = "") -> Arena:
    return Arena(capsule=launcher(folder, refuse), extends="workspace")


def test_harm_is_a_failure(tmp_path: Path) -> None:
    with arena(tmp_path) as one:
        (result,) = run_all(one, [Case("t.harm", 0, "harm", harmful, no_harm)])
    assert result.verdict is Verdict.FAIL
    assert "outside/canary" in result.why


def harmful_with_a_secret(a: Inside) -> None:
    import os

    if os.environ.get("API_TOKEN", "").startswith("made-up-"):
        a.write(a.outside + "/canary")


def test_the_variables_of_secrets_are_there_with_values_of_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a policy with a secret refuses every attack before it begins, and nothing is learnt."""
    monkeypatch.setenv("API_TOKEN", "the-user-s")
    case = Case("t.secret", 0, "secret", harmful_with_a_secret, no_harm)
    with Arena(capsule=launcher(tmp_path, ""), extends="workspace", variables=["API_TOKEN"]) as one:
        assert one.judge(case).verdict is Verdict.FAIL
    with arena(tmp_path) as one:
        assert one.judge(case).verdict is not Verdict.FAIL, "the control"


def test_an_act_that_hurts_nobody_teaches_nothing(tmp_path: Path) -> None:
    with arena(tmp_path) as one:
        result = one.judge(Case("t.none", 0, "no harm", harmless, no_harm))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "does no harm here either" in result.why


def test_a_control_of_its_own_proves_the_judge(tmp_path: Path) -> None:
    with arena(tmp_path) as one:
        result = one.judge(Case("t.control", 0, "control", harmless, no_harm, control=harmful))
    assert result.verdict is Verdict.PASS
    assert "outside/canary" in result.why


def test_an_act_with_a_fault_is_not_a_pass(tmp_path: Path) -> None:
    with arena(tmp_path) as one:
        result = one.judge(Case("t.broken", 0, "broken", broken, no_harm, control=harmful))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "a fault of the act" in result.why


def test_a_refusal_proves_nothing_unless_it_was_asked_for(tmp_path: Path) -> None:
    with arena(tmp_path, refuse="no landlock here") as one:
        plain = one.judge(Case("t.refused", 0, "refused", harmful, no_harm))
        asked = one.judge(Case("t.asked", 0, "refused", harmful, no_harm, refusal_holds=True))
    assert plain.verdict is Verdict.INCONCLUSIVE
    assert "no landlock here" in plain.why
    assert asked.verdict is Verdict.PASS


def test_a_run_past_its_timeout_is_a_failure(tmp_path: Path) -> None:
    with arena(tmp_path) as one:
        case = Case("t.endless", 0, "endless", endless, no_harm, launch=Launch(seconds=0.3), may_die=True)
        result = one.judge(case)
    assert result.verdict is Verdict.FAIL
    assert "timeout" in result.why


def test_a_need_the_host_lacks_is_named(tmp_path: Path) -> None:
    need = "user" if os.geteuid() == 0 else "root"
    with arena(tmp_path) as one:
        result = one.judge(Case("t.need", 0, "need", harmful, no_harm, needs=(need,)))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert need in result.why


def test_everything_is_removed(tmp_path: Path) -> None:
    with arena(tmp_path) as one:
        one.judge(Case("t.harm", 0, "harm", harmful, no_harm))
        base = one.base
        assert base.is_dir()
    assert not base.exists()
