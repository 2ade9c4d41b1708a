"""The native verbs as shell completion sees them: names and options, nothing that runs.

The binary does these itself and never asks this side; asked by `python -m capsule.cli run`, they say so.

    run.params         # for completion
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from capsule.errors import CapsuleError, Fault


class NativeVerbError(CapsuleError):
    """A verb of the native binary was asked of the Python side."""

    fault = Fault.CALLER
    exit_code = 2


def _declare(name: str, flags: Sequence[str], options: Sequence[str]) -> click.Command:
    def refuse(**_: object) -> None:
        raise NativeVerbError(f"'{name}' is a verb of the native binary", next_step=f"call: capsule {name}")

    return click.Command(
        name,
        params=[
            *(click.Option([flag], is_flag=True) for flag in flags),
            *(click.Option([option], type=click.Path()) for option in options),
            click.Argument(["arguments"], nargs=-1, type=click.Path()),
        ],
        callback=refuse,
        epilog=f"Example: capsule {name} --help",
        help="A verb of the native binary.",
    )


run = _declare(
    "run",
    ("--json",),
    ("--policy", "--tool", "--log", "--report-fd", "--timeout", "--env", "--audit", "--allow-degraded"),
)
log = _declare(
    "log", ("--denied", "--follow", "--json", "--checkpoint", "--key"), ("--run", "--type", "--since")
)
verify = _declare(
    "verify", ("--strict", "--quick", "--json", "--no-memory"), ("--key", "--since", "--proof", "--entry")
)
prove = _declare("prove", (), ("--out",))
