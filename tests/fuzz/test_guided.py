"""Guided fuzzing of what reads policies, plans, logs, rules and peers: bounded, and proof that the guidance guides.

`scripts/fuzz SECONDS` runs the same targets longer.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import pytest

from capsule.audit.verifier import Outcome as LogOutcome
from capsule.audit.verifier import verify
from tests.fuzz import engine
from tests.fuzz.egress import DNS, HELLO, SSE
from tests.fuzz.engine import Finding, Outcome, Target, fuzz
from tests.fuzz.log import KEY, LOG, rebuilt
from tests.fuzz.model import MODEL
from tests.fuzz.native import VERIFY
from tests.fuzz.plan import PLAN
from tests.fuzz.policy import FILES, POLICY, SEEDS
from tests.fuzz.reached import AVAILABLE, WHY_NOT, Reached
from tests.fuzz.rules import RULES, RULES_SEEDS, SIGMA, SIGMA_SEEDS, check_rules, check_sigma
from tests.policy.documents import resolve_text

guided = pytest.mark.skipif(not AVAILABLE, reason=WHY_NOT)
# Each at most this long, in seconds of processor time after the seeds; a quick machine ends at the count, with the
# same inputs every time.
BOUNDS = {
    "policy": (POLICY, 3000, 12),
    "plan": (PLAN, 20_000, 4),
    "log": (LOG, 1500, 4),
    "verify": (VERIFY, 400, 2),
    "hello": (HELLO, 4000, 2),
    "dns": (DNS, 4000, 2),
    "sse": (SSE, 4000, 2),
    "model": (MODEL, 2000, 3),
    "rules": (RULES, 1500, 3),
    "sigma": (SIGMA, 1500, 3),
}


@guided
@pytest.mark.parametrize("name", BOUNDS)
def test_a_bounded_run_finds_nothing_and_gets_further_than_its_seeds(name: str) -> None:
    target, inputs, seconds = BOUNDS[name]
    outcome = fuzz(target, seed=1, inputs=inputs, seconds=seconds)
    print(f"{name}: {outcome}")
    assert outcome.inputs > len(target.seeds)
    assert outcome.first_lines > 20
    assert outcome.places > outcome.first_places


@pytest.mark.parametrize("text", SEEDS)
def test_the_seeds_are_policies(text: str) -> None:
    assert resolve_text(text, FILES).sources


@pytest.mark.parametrize("text", RULES_SEEDS)
def test_the_seeds_are_rules(text: str) -> None:
    assert "rules" in tuple(check_rules(text.encode()))


@pytest.mark.parametrize("text", SIGMA_SEEDS)
def test_the_seeds_are_detections(text: str) -> None:
    assert "detections" in tuple(check_sigma(text.encode()))


def test_a_rebuilt_log_is_the_log() -> None:
    assert rebuilt(LOG.seeds[0]) == LOG.seeds[0]
    changed = rebuilt(LOG.seeds[0].replace(b"git", b"got"))
    assert b"got" in changed
    assert verify([changed], key=KEY).outcome is LogOutcome.VERIFIED


def planted(data: bytes) -> Iterable[Hashable]:
    if data[:1] != b"x":
        return ()
    if data[1:2] != b"q":
        return ()
    if data[2:3] != b"7":
        return ()
    raise ZeroDivisionError("planted")


TRIES = 80_000


def run(seed: int, *, guided: bool) -> Outcome:
    target = Target("planted", planted, (b"seed",), (__file__,))
    return fuzz(target, seed=seed, inputs=TRIES, seconds=120, guided=guided)


@guided
@pytest.mark.parametrize("seed", [1, 4, 7])
def test_what_hides_behind_three_conditions_is_found_with_guidance_and_not_without(seed: int) -> None:
    blind = run(seed, guided=False)
    assert (blind.inputs, blind.kept) == (TRIES, 0)
    with pytest.raises(Finding, match="ZeroDivisionError: planted") as found:
        run(seed, guided=True)
    assert found.value.data.startswith(b"xq7")
    with pytest.raises(Finding) as again:
        run(seed, guided=True)
    assert again.value.data == found.value.data


def endless(data: bytes) -> Iterable[Hashable]:
    while data:
        try:
            len(data)
        except Exception:  # noqa: BLE001 - what a careless parser would do
            return ()
    return ()


def greedy(data: bytes) -> Iterable[Hashable]:
    return (len(b"x" * (engine.peak() + (32 << 20))),)


@guided
def test_an_input_that_takes_too_long_or_too_much_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "LARGEST", 16 << 20)
    for check, why, slowest in ((endless, "TooSlow", 0.2), (greedy, "MemoryError", 20.0)):
        monkeypatch.setattr(engine, "SLOWEST", slowest)
        with pytest.raises(Finding, match=why):
            fuzz(Target("bad", check, (b"x",), (__file__,)), seed=1, inputs=2, seconds=9)


@pytest.mark.skipif(AVAILABLE, reason="this Python has sys.monitoring")
def test_an_older_python_is_refused_by_name() -> None:
    with pytest.raises(RuntimeError, match=r"needs sys\.monitoring: Python 3\.12"):
        Reached("x")
