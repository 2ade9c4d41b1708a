"""Which function a call means: named outside the sandbox, found again inside it.

A function crosses as module, qualified name and file; the worker imports the module and looks the name up.
The program's main script is imported by path under a private name, so `if __name__ == "__main__":` holds; where
there is no such line, the script is read down to its first call of a tool, and what it prints meanwhile is dropped.

Refuses: functions that another interpreter could not find again (lambdas, functions inside functions, the
interactive prompt), and a module that turns out to be another file inside the sandbox than outside.

    Target.of(os.path.basename)      # Target(module='posixpath', qualname='basename', file='/usr/lib/…')
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from capsule.errors import NotCallableInsideError
from capsule.sdk import inside

MAIN: Final = "__capsule_main__"
"""The name under which the program's main script is imported inside."""
_MAINS: Final = ("__main__", "__mp_main__")
"""What it is called outside: the second in processes that multiprocessing did not fork."""


@dataclass(frozen=True, slots=True)
class Target:
    """A function's address.

    Attributes:
        module: the name to import.
        qualname: the name in the module, dotted for a static method.
        file: the module's file with symbolic links resolved, or None when it has none.
        awaits: whether it is a coroutine function.
    """

    module: str
    qualname: str
    file: str | None
    awaits: bool

    @classmethod
    def of(cls, function: Callable[..., object]) -> Target:
        """The address of `function`.

        Raises:
            NotCallableInsideError: it has none that another interpreter could use.
        """
        module = getattr(function, "__module__", None)
        qualname = getattr(function, "__qualname__", None)
        if not isinstance(module, str) or not isinstance(qualname, str):
            raise NotCallableInsideError(f"{function!r:.200} is not a function of a module")
        if "<" in qualname:
            raise NotCallableInsideError(f"{qualname} is defined inside a function or is a lambda")
        awaits = inspect.iscoroutinefunction(function)
        loaded = sys.modules.get(module)
        file = getattr(loaded, "__file__", None)
        if module in _MAINS:
            spec = getattr(loaded, "__spec__", None)
            if spec is not None:
                return cls(spec.name, qualname, os.path.realpath(file) if file else None, awaits)
            if file is None or not os.path.exists(file):  # noqa: PTH110
                raise NotCallableInsideError(f"{qualname} was typed at a prompt or piped in: it has no file")
            module = MAIN
        return cls(module, qualname, os.path.realpath(file) if file else None, awaits)


def load_module(name: str, file: str | None) -> ModuleType:
    """Import a module by name, or the main script by path under its private name. Runs inside.

    Raises:
        ImportError: it cannot be imported here, or a different file answers to the name.
    """
    if name in sys.modules:
        return sys.modules[name]
    if name == MAIN:
        return _load_script(file)
    module = importlib.import_module(name)
    found = getattr(module, "__file__", None)
    if file is not None and found is not None and os.path.realpath(found) != file:
        raise ImportError(f"inside the sandbox {name} is {found}, not {file}")
    return module


def _load_script(file: str | None) -> ModuleType:
    spec = None if file is None else importlib.util.spec_from_file_location(MAIN, file)
    if file is None or spec is None or spec.loader is None:
        raise ImportError(f"the script {file} cannot be loaded by its path")
    directory = os.path.dirname(file)  # noqa: PTH120
    if directory not in sys.path:
        sys.path.insert(0, directory)
    module = importlib.util.module_from_spec(spec)
    sys.modules[MAIN] = module
    inside.reading = True
    try:
        with open(os.devnull, "w", encoding="utf-8") as nothing, contextlib.redirect_stdout(nothing):  # noqa: PTH123
            spec.loader.exec_module(module)
    except inside.ReachedCall:
        pass
    except BaseException:
        del sys.modules[MAIN]
        raise
    finally:
        inside.reading = False
    return module


def find(module: ModuleType, qualname: str) -> Any:
    """The function behind a (possibly decorated) name in a module. Runs inside.

    Raises:
        NotCallableInsideError: the main script calls a tool before it defines this function.
        AttributeError: there is no such name.
        TypeError: it is not callable.
    """
    found: Any = module
    for part in qualname.split("."):
        if module.__name__ == MAIN and not hasattr(found, part):
            raise NotCallableInsideError(
                f"inside the sandbox the script has no {qualname}: it is read down to its first call of a tool",
                next_step='put its calls under `if __name__ == "__main__":`, after the functions',
            )
        found = getattr(found, part)
    found = getattr(found, "__capsule_function__", found)
    if not callable(found):
        raise TypeError(f"{module.__name__}:{qualname} is not a function")
    return found
