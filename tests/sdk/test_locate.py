"""A function's address, and finding it again."""

from __future__ import annotations

import json
import os.path
import sys
import types
from pathlib import Path

import pytest

from capsule.errors import NotCallableInsideError
from capsule.sdk.locate import MAIN, Target, find, load_module


async def awaited() -> None: ...


class Group:
    @staticmethod
    def member() -> int:
        return 1


def test_an_address_names_module_name_and_file() -> None:
    target = Target.of(json.dumps)
    assert (target.module, target.qualname, target.awaits) == ("json", "dumps", False)
    assert target.file == os.path.realpath(json.__file__)
    assert Target.of(awaited).awaits
    assert Target.of(Group.member).qualname == "Group.member"


@pytest.mark.parametrize("function", [lambda: 1, 3], ids=["lambda", "number"])
def test_what_cannot_be_found_again_is_refused(function: object) -> None:
    with pytest.raises(NotCallableInsideError):
        Target.of(function)  # type: ignore[arg-type]


def test_a_prompt_has_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", prompt)

    def typed() -> None: ...

    typed.__module__, typed.__qualname__ = "__main__", "typed"
    with pytest.raises(NotCallableInsideError, match="prompt"):
        Target.of(typed)
    prompt.__file__ = __file__
    assert Target.of(typed) == Target(MAIN, "typed", os.path.realpath(__file__), awaits=False)


def test_the_script_of_a_process_that_multiprocessing_began_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = types.ModuleType("__mp_main__")
    script.__file__ = __file__
    monkeypatch.setitem(sys.modules, "__mp_main__", script)

    def tool() -> None: ...

    tool.__module__, tool.__qualname__ = "__mp_main__", "tool"
    assert Target.of(tool) == Target(MAIN, "tool", os.path.realpath(__file__), awaits=False)


def test_a_script_is_loaded_by_path_with_its_guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "job.py"
    script.write_text("def f():\n    return __name__\nif __name__ == '__main__':\n    raise SystemExit\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        assert find(load_module(MAIN, str(script)), "f")() == MAIN
    finally:
        sys.modules.pop(MAIN, None)


def test_another_file_of_the_same_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "capsule_test_twin.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match="inside the sandbox capsule_test_twin is"):
        load_module("capsule_test_twin", "/elsewhere/capsule_test_twin.py")


def test_a_script_that_fails_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "bad.py"
    script.write_text("raise ValueError('at import')\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(ValueError, match="at import"):
        load_module(MAIN, str(script))
    assert MAIN not in sys.modules


def test_a_name_that_is_not_a_function_is_refused() -> None:
    with pytest.raises(TypeError, match="is not a function"):
        find(json, "__name__")
