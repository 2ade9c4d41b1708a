from __future__ import annotations

import json

import pytest

from capsem.cli.report import Course, code_of, reported
from capsem.errors import NoSuchCommandError, RefusedError, UsageError
from capsem.wire.monitor import Exited, Seen

DONE = Exited(0, None, False, 3, 4, Seen())


@pytest.mark.parametrize(
    ("exited", "code"),
    [
        (Exited(5, None, False, 0, 0), 5),
        (Exited(None, 9, False, 0, 0), 137),
        (Exited(None, 9, True, 0, 0), 124),
    ],
)
def test_exit_codes(exited: Exited, code: int) -> None:
    assert code_of(exited) == code


def test_a_report_says_how_it_went(capsys: pytest.CaptureFixture[str]) -> None:
    async def work(course: Course) -> int:
        course.machine, course.exited = {"id": "m-1", "log": "/l"}, DONE
        return 0

    assert reported(["a\x1b"], work, Course(), as_json=True) == 0
    line = capsys.readouterr().err
    assert "\x1b" not in line
    found = json.loads(line)
    assert (found["machine"], found["usage"]["cpu_ms"], found["seen"]["requests"]) == ("m-1", 3, 0)
    assert reported(["a"], work, Course(), as_json=False) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("error", "cause"), [(RefusedError, "refused"), (NoSuchCommandError, "not_found"), (UsageError, "failed")]
)
def test_what_went_wrong_is_in_it(
    error: type[UsageError], cause: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work(_: Course) -> int:
        raise error("no", next_step="do")

    assert reported(["a"], work, Course(), as_json=True) == error.exit_code
    found = json.loads(capsys.readouterr().err)["exit"]
    assert (found["cause"], found["reason"], found["next_step"]) == (cause, "no", "do")
    with pytest.raises(error):
        reported(["a"], work, Course(), as_json=False)
