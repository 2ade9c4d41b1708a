"""Any change is found: bytes, lines, blocks; with the key and a head kept elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capsule.audit.checkpoint import parse_note, parse_vkey
from capsule.audit.verifier import MAX_WARNINGS, Head, Outcome, Report, verify
from tests.audit.forge import Forge, Signer, sound

LOG = sound()
KEY = parse_vkey(Signer().vkey)
LINES = LOG.data.splitlines(keepends=True)


def head(note: str) -> Head:
    found = parse_note(note)
    assert found is not None
    return Head(found.size, found.root, found.chain)


def check(data: bytes) -> Report:
    return verify([data], key=KEY, heads=[head(LOG.notes[-1])])


def test_the_sound_log_verifies() -> None:
    """The positive control of every test below."""
    report = check(LOG.data)
    assert report.outcome is Outcome.VERIFIED, report.why
    assert (report.entries, report.blocks, report.checkpoints, report.sealed) == (11, 6, 4, 11)
    assert (report.size, report.log, report.warned) == (len(LOG.data), Signer().log, 0)


@given(st.integers(0, len(LOG.data) - 1), st.integers(0, 7))
def test_any_flipped_bit_is_found(at: int, bit: int) -> None:
    data = bytearray(LOG.data)
    data[at] ^= 1 << bit
    assert check(bytes(data)).outcome is not Outcome.VERIFIED


@given(
    st.integers(0, len(LINES) - 1),
    st.integers(0, len(LINES) - 1),
    st.sampled_from(["drop", "swap", "double"]),
)
def test_lines_dropped_swapped_or_doubled_are_found(x: int, y: int, what: str) -> None:
    lines = list(LINES)
    if what == "drop":
        del lines[x]
    elif what == "swap":
        lines[x], lines[y] = lines[y], lines[x]
    else:
        lines.insert(y, lines[x])
    data = b"".join(lines)
    assert data == LOG.data or check(data).outcome is not Outcome.VERIFIED


@given(st.integers(0, len(LOG.data)), st.binary(min_size=1, max_size=20))
def test_inserted_bytes_are_found(at: int, junk: bytes) -> None:
    assert check(LOG.data[:at] + junk + LOG.data[at:]).outcome is not Outcome.VERIFIED


@given(st.integers(0, len(LOG.data) - 1))
def test_a_cut_tail_is_found_by_a_head_kept_elsewhere(at: int) -> None:
    assert check(LOG.data[:at]).outcome is not Outcome.VERIFIED


@settings(max_examples=30)
@given(st.integers(1, 5000))
def test_pieces_of_any_size_come_to_the_same(size: int) -> None:
    pieces = (LOG.data[at : at + size] for at in range(0, len(LOG.data), size))
    assert verify(pieces, key=KEY).outcome is Outcome.VERIFIED


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_whatever_the_bytes_there_is_an_outcome(junk: bytes) -> None:
    assert verify([junk], key=KEY).outcome in {Outcome.MALFORMED, Outcome.TORN}


def warned(*entries: tuple[str, dict[str, object]]) -> list[str]:
    log = Forge().genesis()
    for kind, fields in entries:
        log.block(log.next(1, kind, **fields))
    report = verify([log.data], key=KEY)
    assert report.outcome is Outcome.VERIFIED, report.why
    return [kind for kind, _ in report.warnings]


def test_what_deserves_a_look() -> None:
    assert warned(("run.started", {}), ("exec", {}), ("run.ended", {})) == []
    assert warned(("run.started", {"enforced": {"degraded": ["cgroup"]}})) == ["degraded", "unclosed"]
    assert warned(("gap", {}), ("recovery", {}), ("clock", {}), ("policy.changed", {})) == [
        "gap", "recovery", "clock", "policy_changed",
    ]  # fmt: skip


def test_a_log_that_replaces_another_says_so() -> None:
    report = verify([Forge().genesis(replaces={"log": "ff" * 16}).data], key=KEY)
    assert report.warnings == [("replaced", 0)]


def test_a_flood_of_warnings_is_counted_not_kept() -> None:
    log = Forge().genesis()
    log.block(log.next(500, "gap", run=None))
    report = verify([log.data], key=KEY)
    assert (len(report.warnings), report.warned) == (MAX_WARNINGS, 500)


def test_many_open_runs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capsule.audit.verifier.MAX_OPEN_RUNS", 3)
    log = Forge().genesis()
    for n in range(8):
        log.block(log.next(1, "run.started", run=f"r-{n}"))
    report = verify([log.data], key=KEY)
    assert [kind for kind, _ in report.warnings] == ["unclosed"] * 4
