"""The native verbs as shell completion sees them: names and options, nothing that runs.

The binary does these itself and never asks this side; asked by `python -m capsule.cli run`, they say so.

    run.params         # for completion
"""

from __future__ import annotations

import click

from capsule.cli.program import CommandWords
from capsule.cli.reference import PolicyReference
from capsule.errors import CapsuleError, Fault
from capsule.policy.model import LAYERS


class NativeVerbError(CapsuleError):
    """A verb of the native binary was asked of the Python side."""

    fault = Fault.CALLER
    exit_code = 2


def _flag(name: str) -> click.Option:
    return click.Option([name], is_flag=True)


def _file(name: str) -> click.Option:
    return click.Option([name], type=click.Path())


def _text(name: str) -> click.Option:
    return click.Option([name])


def _repeated(name: str, kind: click.ParamType[str] | None = None) -> click.Option:
    return click.Option([name], multiple=True, type=kind)


def _policy() -> click.Option:
    return click.Option(["--policy"], type=PolicyReference())


def _declare(name: str, *options: click.Option, words: click.ParamType[str] | None = None) -> click.Command:
    def refuse(**_: object) -> None:
        raise NativeVerbError(f"'{name}' is a verb of the native binary", next_step=f"call: capsule {name}")

    return click.Command(
        name,
        params=[*options, click.Argument(["arguments"], nargs=-1, type=words or click.Path())],
        callback=refuse,
        epilog=f"Example: capsule {name} --help",
        help="A verb of the native binary.",
    )


run = _declare(
    "run",
    *(_flag(name) for name in ("--json", "--overlay", "--worker")),
    *(_text(name) for name in ("--tool", "--report-fd", "--timeout", "--control-fd")),
    *(_repeated(name) for name in ("--env", "--pass-fd")),
    _repeated("--allow-degraded", click.Choice(LAYERS)),
    _repeated("--read", click.Path(file_okay=False)),
    _repeated("--program", click.Path()),
    _policy(),
    _file("--log"),
    click.Option(["--audit"], type=click.Choice(["run", "writes", "all"])),
    words=CommandWords(),
)
trace = _declare("trace", _flag("--json"), _file("--out"), _policy(), _file("--log"), words=CommandWords())
log = _declare(
    "log",
    *(_flag(name) for name in ("--denied", "--follow", "--full", "--json", "--checkpoint", "--key")),
    *(_text(name) for name in ("--run", "--type", "--since")),
)
verify = _declare(
    "verify",
    *(_flag(name) for name in ("--strict", "--quick", "--json", "--no-memory")),
    *(_file(name) for name in ("--key", "--since", "--proof", "--entry")),
)
prove = _declare("prove", _file("--out"), _flag("--json"))
record = _declare("record", _file("--log"), _flag("--wait"), _flag("--ahead"), _flag("--json"))
