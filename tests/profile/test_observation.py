"""Observations: exact reading, merging that adds up."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.profile.observation import (
    AddressUse,
    FileUse,
    Observation,
    ObservationError,
    ProgramUse,
    SyscallUse,
    encode_observation,
    merge,
    parse_observation,
)


def observation(**changes: object) -> Observation:
    fields: dict[str, object] = {
        "observation": 1, "runs": 1, "command": ("git", "status"), "workspace": "/w", "home": "/home/u",
        "cause": "exited", "code": 0,
        "syscalls": (SyscallUse("openat", 2),), "implied": ("read",), "files": (FileUse("/w/a", read=1),),
        "programs": (ProgramUse("/usr/bin/git", 1),), "lost": 0,
        "addresses": (AddressUse("tcp:127.0.0.1:1", "connect", 1),),
    }  # fmt: skip
    return Observation(**{**fields, **changes})  # type: ignore[arg-type]


def test_what_is_written_is_read_back() -> None:
    seen = observation()
    assert parse_observation(encode_observation(seen)) == seen


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"observation": 2}, "version 2"),
        ({"surprise": 1}, "surprise"),
        ({"runs": "1"}, r"\$\.runs"),
        ({"files": [{"path": "relative"}]}, "not an absolute path"),
        ({"files": [{"path": "/a\0b"}]}, "not an absolute path"),
        ({"files": [{"path": "/" + "a" * 5000}]}, "not an absolute path"),
        ({"files": [{"path": "/a", "read": -1}]}, "negative"),
        ({"programs": [{"path": "/a", "count": -1}]}, "negative"),
        ({"programs": [{"path": "a", "count": 1}]}, "not an absolute path"),
        ({"workspace": "w"}, "not an absolute path"),
    ],
)
def test_anything_else_is_refused_with_its_cause(change: dict[str, object], cause: str) -> None:
    document = {**json.loads(encode_observation(observation())), **change}
    with pytest.raises(ObservationError, match=cause):
        parse_observation(json.dumps(document).encode())


@given(st.binary(max_size=200))
def test_bytes_never_raise_anything_else(data: bytes) -> None:
    with pytest.raises(ObservationError):
        parse_observation(data)


def test_too_large_is_refused_before_reading() -> None:
    with pytest.raises(ObservationError, match="more than"):
        parse_observation(b" " * (64 * 2**20 + 1))


def test_merging_adds_counts_and_keeps_the_last_command() -> None:
    other = observation(
        command=("git", "log"), code=1,
        files=(FileUse("/w/a", read=2, refused=1), FileUse("/w/b", create=1)),
        addresses=(AddressUse("tcp:127.0.0.1:1", "connect", 3, refused=2), AddressUse("tcp:127.0.0.1:1", "bind", 1)),
        implied=("close",), lost=2,
    )  # fmt: skip
    both = merge(observation(), other)
    assert both.runs == 2
    assert both.command == ("git", "log")
    assert both.code == 1
    assert both.syscalls == (SyscallUse("openat", 4),)
    assert both.files == (FileUse("/w/a", read=3, refused=1), FileUse("/w/b", create=1))
    assert both.addresses == (
        AddressUse("tcp:127.0.0.1:1", "bind", 1),
        AddressUse("tcp:127.0.0.1:1", "connect", 4, refused=2),
    )
    assert both.implied == ("close", "read")
    assert both.lost == 2


def test_merging_nothing_or_two_places_is_refused() -> None:
    with pytest.raises(ObservationError, match="nothing to merge"):
        merge()
    with pytest.raises(ObservationError, match="different directories: /v, /w"):
        merge(observation(), observation(workspace="/v"))
