"""Arguments that cannot be what is meant are told as what they are, before anything starts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

import capsule
from capsule.errors import ArgumentError, CapsuleError, Fault
from capsule.sdk import asked


@pytest.mark.parametrize(
    ("cmd", "told"),
    [
        ([b"ls"], "cmd[0] is bytes, not str; os.fsdecode"),
        (b"ls", "cmd is bytes, not a string or a list"),
        (bytearray(b"ls"), "cmd is bytearray"),
        ({"ls": 1}, "cmd is dict"),
        (["ls", 5], "cmd[1] is int, not str"),
        (5, "cmd is int"),
        (None, "cmd is NoneType"),
        ([], "the command is empty"),
        ("  ", "the command is empty"),
        (["", "x"], "the command's program is an empty string"),
        ("echo 'x", "cmd cannot be split into words: no closing quotation"),
        (["a\0b"], "cmd[0] has a null character at 1"),
        ("echo a\0b", "cmd has a null character at 1"),
        (["ls", "\ud800"], "cmd[1] has half a character at 0 ('\\ud800')"),
    ],
)
def test_a_command_that_is_none(cmd: object, told: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(told)) as caught:
        asked.argv_of(cmd)
    assert (caught.value.fault, bool(caught.value.next_step)) == (Fault.CALLER, True)
    assert isinstance(caught.value, CapsuleError | ValueError)


def test_commands_that_are_some() -> None:
    assert asked.argv_of("git commit -m 'a b'") == ["git", "commit", "-m", "a b"]
    assert asked.argv_of(("ls", PurePosixPath("/x"))) == ["ls", "/x"]
    assert asked.argv_of(Path("/bin/true")) == ["/bin/true"]
    # What the system hands over as text for bytes that are none goes back as those bytes.
    assert asked.argv_of(["ls", "\udcff", ""]) == ["ls", "\udcff", ""]


@pytest.mark.parametrize("value", [0, -1, -0.0, math.inf, math.nan, 1e9, "5", True, [], b"1"])
def test_times_that_cannot_be_kept(value: object) -> None:
    with pytest.raises(ArgumentError, match=r"^timeout is "):
        asked.seconds_of(value)


def test_a_time_with_more_digits_than_python_writes() -> None:
    with pytest.raises(ArgumentError, match=r"^timeout is a number of many digits"):
        asked.seconds_of(10**5000)


def test_times_that_can() -> None:
    assert [asked.seconds_of(value) for value in (None, 1, 1.5, 999_999_999)] == [
        None,
        1.0,
        1.5,
        999_999_999.0,
    ]
    assert asked.seconds_of(1e-9) == 0.001, "it is counted in milliseconds"


@pytest.mark.parametrize(
    ("env", "told"),
    [
        (["A"], "env is list, not a mapping"),
        ("A=1", "env is str, not a mapping"),
        ({1: "A"}, "env: the name 1 is int, not str"),
        ({"A": 1}, "env['A'] is int, not str"),
        ({"A=B": "1"}, "env: 'A=B' cannot be the name of a variable"),
        ({"": "1"}, "env: '' cannot be the name of a variable"),
        ({"A": "x\0"}, "env['A'] has a null character at 1"),
        ({"A\0": "x"}, "env: the name 'A\\x00' has a null character at 1"),
    ],
)
def test_variables_that_are_none(env: object, told: str) -> None:
    with pytest.raises(ArgumentError, match=re.escape(told)):
        asked.variables_of(env)
    assert asked.variables_of(None) == {}
    assert asked.variables_of({"A": ""}) == {"A": ""}


def test_input_and_names() -> None:
    assert [asked.bytes_of(value) for value in (None, "é", b"x", bytearray(b"x"), memoryview(b"x"))] == [
        None, "é".encode(), b"x", b"x", b"x",
    ]  # fmt: skip
    for value in (5, ["x"], "\ud800"):
        with pytest.raises(ArgumentError, match=r"^input "):
            asked.bytes_of(value)
    assert asked.names_of(["landlock"], "allow_degraded") == ("landlock",)
    for wrong in ("landlock", 5, [5]):
        with pytest.raises(ArgumentError, match=r"^allow_degraded"):
            asked.names_of(wrong, "allow_degraded")


@pytest.mark.parametrize(
    "wrong",
    [
        {"cmd": [b"ls"]}, {"timeout": "5"}, {"timeout": math.inf}, {"env": {"A": 1}}, {"cwd": 1}, {"cwd": "a\0b"},
        {"input": 5}, {"cwd": ""},
    ],
)  # fmt: skip
def test_nothing_is_started_for_them(wrong: dict[str, Any], workspace: Path, capsule_binary: Path) -> None:
    ways: list[Callable[..., object]] = [capsule.run, capsule.Sandbox().run]
    for way in ways:
        with pytest.raises(capsule.ArgumentError):
            way(**{"cmd": "true", **wrong})
    assert not (workspace / "capsule.log").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy": 5},
        {"policy": ""},
        {"workspace": b"/"},
        {"workspace": ""},
        {"log": ""},
        {"log": "a\0b"},
        {"timeout": 0},
    ],
)
def test_a_sandbox_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(capsule.ArgumentError, match=f"^{next(iter(wrong))} "):
        capsule.Sandbox(**wrong)
    if "timeout" in wrong:
        with pytest.raises(capsule.ArgumentError, match=r"^timeout "):
            capsule.tool(**wrong)(test_input_and_names)
