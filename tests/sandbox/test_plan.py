from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from capsule.errors import PlanError, PolicyError
from capsule.sandbox.plan import MAX_BYTES, PlanOrigin, PlanSyscallDeny, decode_plan, encode_plan
from tests.sandbox.plans import plan_of, preset_plan


def test_the_encoding_is_canonical() -> None:
    data = encode_plan(plan_of('name: x\nfilesystem: {read: ["./é\\"b"]}\nenv: {set: {A: "\\u20ac"}}'))
    value = json.loads(data)
    assert json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() == data
    assert '${workspace}/é\\"b'.encode() in data
    assert value["environment"]["set"]["A"] == "€"
    assert list(value) == sorted(value)


def test_shared_good_vectors_are_read_and_written_back(repository: Path) -> None:
    vectors = sorted((repository / "tests/vectors/plan/good").glob("*.json"))
    assert vectors
    for vector in vectors:
        data = vector.read_bytes().rstrip(b"\n")
        assert encode_plan(decode_plan(data)) == data


# What types cannot say is the launcher's to refuse; these the reader here refuses too.
SHAPE = {
    "array", "array-deep", "audit-off", "cut", "duplicate-set", "duplicate-top", "empty", "missing-null",
    "missing-programs", "missing-top", "mode-host", "condition-op", "limit-text", "unknown-top",
}  # fmt: skip


def test_shared_bad_vectors_of_wrong_shape_are_refused(repository: Path) -> None:
    refused = 0
    for vector in sorted((repository / "tests/vectors/plan/bad").glob("*.json")):
        text = json.loads(vector.read_text())["plan"]
        if vector.stem in SHAPE:
            with pytest.raises(PlanError):
                decode_plan(text.encode())
            refused += 1
    assert refused >= 10


@pytest.mark.parametrize(
    "change",
    [
        {"plan": 2},
        {"plan": "1"},
        {"extra": 1},
        {"require": ["selinux"]},
        {"audit": "off"},
        {"name": 1.5},
        {"limits": {}},
    ],
)
def test_other_shapes_are_refused(change: dict[str, object]) -> None:
    value = json.loads(encode_plan(plan_of("")))
    value.update(change)
    with pytest.raises(PlanError, match="this is not a plan") as caught:
        decode_plan(json.dumps(value).encode())
    assert "capsule policy compile" in caught.value.next_step


def test_sizes_are_capped_both_ways() -> None:
    with pytest.raises(PlanError, match="more than 1048576"):
        decode_plan(b" " * (MAX_BYTES + 1))
    with pytest.raises(PlanError, match="not a plan"):
        decode_plan(b"[" * 100_000)
    plan = plan_of("")
    reason = "x" * 4000
    many = tuple(PlanSyscallDeny(f"n{i}", "EPERM", reason, PlanOrigin("f", 1, 1)) for i in range(300))
    with pytest.raises(PolicyError, match=r"1:1: all that this says comes to .* more than 1048576"):
        encode_plan(msgspec.structs.replace(plan, syscalls=msgspec.structs.replace(plan.syscalls, deny=many)))


def test_a_preset_stays_small() -> None:
    assert len(encode_plan(preset_plan("workspace"))) < 100_000
