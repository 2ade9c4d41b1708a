from __future__ import annotations

import pytest

from capsule.errors import CapsuleError, Fault, PlanError, PolicyError, Problem, ReportError, nearest_name


def test_a_problem_reads_as_one_line() -> None:
    problem = Problem("f.yaml", 3, 5, "unknown key 'raed'", "one of read", "read", "correct it")
    assert (
        str(problem)
        == "f.yaml:3:5: unknown key 'raed'; expected one of read; did you mean 'read'?; correct it"
    )
    assert str(Problem("f", 1, 1, "empty")) == "f:1:1: empty"


def test_a_policy_error_is_in_the_order_of_the_file() -> None:
    error = PolicyError([Problem("f", 9, 1, "b"), Problem("f", 2, 7, "a")])
    assert [problem.what for problem in error.problems] == ["a", "b"]
    assert str(error) == "f:2:7: a\nf:9:1: b"
    assert error.next_step == "correct these 2 places and run it again"
    assert PolicyError(error.problems[:1]).next_step == "correct this and run it again"


@pytest.mark.parametrize(
    ("error", "fault", "code"),
    [
        (PolicyError([Problem("f", 1, 1, "x")]), Fault.POLICY, 2),
        (PlanError("x", next_step="y"), Fault.CAPSULE, 125),
        (ReportError("x", next_step="y"), Fault.CAPSULE, 125),
    ],
)
def test_every_error_says_who_and_what_next(error: CapsuleError, fault: Fault, code: int) -> None:
    assert isinstance(error, CapsuleError)
    assert (error.fault, error.exit_code) == (fault, code)
    assert error.next_step


def test_an_error_reads_with_its_next_step() -> None:
    assert (
        str(PlanError("the plan is bad", next_step="compile it again")) == "the plan is bad; compile it again"
    )


def test_the_nearest_name() -> None:
    assert nearest_name("filesytem", ("network", "filesystem")) == "filesystem"
    assert nearest_name("READ", ("read", "write")) == "read"
    assert nearest_name("zzz", ("read", "write")) is None
    assert nearest_name("x" * 10_000, ("x" * 64,)) is not None
