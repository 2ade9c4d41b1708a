"""Tools as their callers see them: values, exceptions, signatures, and where they may be called."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import pytest

import capsule
from capsule.errors import RemoteTraceback


def test_a_tool_is_called_as_the_function_it_was(tools: ModuleType) -> None:
    assert tools.add(1) == 3
    assert tools.add(1, b=5) == 6
    value: dict[str, object] = {"n": None, "b": b"\x00\xff", "t": (1, [2.5, "é"]), "$bytes": {"$tuple": []}}
    assert tools.echo(value) == value


def test_the_body_runs_in_another_process_and_leaves_no_state(tools: ModuleType) -> None:
    assert [tools.count(), tools.count()] == [1, 1]
    assert tools.COUNTER == 0


def test_it_still_looks_like_the_function(tools: ModuleType) -> None:
    assert tools.add.__name__ == "add"
    assert tools.add.__doc__ == "Add two numbers."
    assert str(inspect.signature(tools.add)) == "(a: int, b: int = 2) -> int"
    assert inspect.iscoroutinefunction(tools.later)
    assert not inspect.iscoroutinefunction(tools.add)


def test_a_coroutine_function_is_awaited(tools: ModuleType) -> None:
    assert asyncio.run(tools.later("ab")) == "abab"
    result = asyncio.run(tools.later.call("c"))
    assert result.value == "cc"


@pytest.mark.parametrize(
    ("kind", "error"), [("key", KeyError), ("value", ValueError), ("os", FileNotFoundError)]
)
def test_a_builtin_exception_comes_back_as_itself(
    tools: ModuleType, kind: str, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        tools.fail(kind)
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "in fail" in str(caught.value.__cause__)


@pytest.mark.parametrize(("kind", "name"), [("odd", "OddError"), ("exit", "SystemExit")])
def test_another_exception_is_a_tool_error(tools: ModuleType, kind: str, name: str) -> None:
    with pytest.raises(capsule.ToolError, match=name):
        tools.fail(kind)


def test_an_argument_that_cannot_cross_is_named_and_nothing_is_called(tools: ModuleType) -> None:
    with pytest.raises(capsule.UnfitValueError, match=r"argument \[0\]: builtins.set cannot cross"):
        tools.echo({1})
    with pytest.raises(capsule.UnfitValueError, match=r"argument \['b'\]"):
        tools.add(1, b=object())


def test_a_result_that_cannot_cross_is_named(tools: ModuleType) -> None:
    with pytest.raises(capsule.ResultError, match=r"result\['a'\]\[1\]: builtins.set"):
        tools.bad_result()
    with pytest.raises(
        capsule.ResultError, match="result: it is too large: 1001 bytes, where at most 1000 may cross"
    ):
        tools.big(999)
    assert tools.big(900) == "x" * 900
    # Far beyond it: told before a text is made of it.
    with pytest.raises(capsule.ResultError, match="too large: more than the 1000 bytes that may cross"):
        tools.big(200_000_000)


def test_wrong_arguments_raise_the_type_error_of_the_call(tools: ModuleType) -> None:
    with pytest.raises(TypeError, match="add"):
        tools.add()


def test_a_function_inside_a_function_is_refused_when_it_is_decorated() -> None:
    def inner() -> None: ...

    with pytest.raises(capsule.NotCallableInsideError, match="top of a module"):
        capsule.tool(inner)
    with pytest.raises(capsule.NotCallableInsideError):
        capsule.tool(lambda: 1)


@pytest.mark.parametrize(
    "wrong", [{"timeout": 0}, {"timeout": -1}, {"result_limit": 0}, {"result_limit": 1 << 40}]
)
def test_options_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        capsule.tool(**wrong)(test_it_still_looks_like_the_function)  # type: ignore[call-overload]


def test_a_tool_called_from_a_tool_of_the_same_policy_is_a_function_call(tools: ModuleType) -> None:
    assert tools.nested() == 21


def test_a_tool_of_another_policy_is_refused_inside(workspace: Path, tools: ModuleType) -> None:
    (workspace / "two_policies.py").write_text(
        "import capsule\n"
        "@capsule.tool(policy='readonly')\ndef strict(): return 1\n"
        "@capsule.tool\ndef loose(): return strict()\n"
    )
    import two_policies  # type: ignore[import-not-found]

    with pytest.raises(capsule.ToolError, match="another policy than the sandbox"):
        two_policies.loose()


def script(workspace: Path, text: str) -> subprocess.CompletedProcess[str]:
    (workspace / "job.py").write_text(textwrap.dedent(text))
    return subprocess.run([sys.executable, "job.py"], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.usefixtures("tools")
def test_a_script_calls_its_own_tools_behind_its_guard(workspace: Path) -> None:
    done = script(
        workspace,
        """
        import capsule
        @capsule.tool
        def double(x: int) -> int:
            print("from inside")
            return 2 * x
        if __name__ == "__main__":
            print(double(21))
        """,
    )
    assert (done.stdout, done.returncode) == ("42\n", 0), done.stderr
    assert "from inside" in done.stderr


@pytest.mark.usefixtures("tools")
def test_a_script_without_its_guard_is_read_down_to_its_first_call(workspace: Path) -> None:
    done = script(
        workspace,
        """
        import capsule
        print("top")
        @capsule.tool
        def f(): return 1
        try:
            print(f(), f.call().value)
        except Exception as error:
            print("never", error)
        @capsule.tool
        def late(): return 2
        print(late())
        """,
    )
    assert done.stdout == "top\n1 1\n"
    assert "no late" in done.stderr
    assert 'if __name__ == "__main__":' in done.stderr


def test_arguments_that_are_too_large_are_told_before_they_are_sent(tools: ModuleType) -> None:
    with pytest.raises(capsule.UnfitValueError, match=r"17,\d\d\d,\d\d\d bytes.*at most 15,728,640"):
        tools.echo("x" * 17_000_000)
    assert tools.add(1) == 3


def test_a_module_that_fails_inside_says_where(workspace: Path, tools: ModuleType) -> None:
    (workspace / "half.py").write_text(
        "import capsule\n@capsule.tool\ndef f(): return 1\n"
        "from capsule.sdk import inside\nif inside.here: raise ValueError('only inside')\n"
    )
    import half  # type: ignore[import-not-found]

    with pytest.raises(ValueError, match="only inside") as caught:
        half.f()
    assert "looked up inside the sandbox" in caught.value.__notes__[0]
