"""What the verbs have in common when they speak to the service: one question, and options that describe a machine.

Refuses a file of rules that cannot be read before anything is asked.

    machine = ask("GET", "/machines/m-1a2b3c4d")
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from capsem.cli import terminal
from capsem.errors import ConflictError, NotFoundError, UsageError
from capsem.host import places
from capsem.host.rulefiles import rules_of
from capsem.host.settings import load
from capsem.vm.bounds import LEAST_DISK, LEAST_MEMORY, MOST_CPUS, MOST_DISK, MOST_MEMORY
from capsem.vm.quantities import mebibytes
from capsule.errors import CapsuleError

if TYPE_CHECKING:
    import socket

    from click.shell_completion import CompletionItem

    from capsem.host.lease import Lease
    from capsem.host.recorded import Recorded

_NAMED = re.compile(r"[A-Za-z0-9-]{1,64}")
F = TypeVar("F", bound=Callable[..., Any])


def ask(method: str, path: str, body: object = None, *, start: bool = True) -> Any:
    """One question to the service."""
    import asyncio

    # What asks is loaded for a verb that does.
    from capsem.host.service import call

    return asyncio.run(call(method, path, body, start=start))


def socket_of(machine: dict[str, Any], named: str) -> Path:
    """Where the monitor of a machine that runs answers.

    Args:
        machine: as the service tells it.
        named: how the person called it.

    Raises:
        ConflictError: it does not run; the next step is the one that begins it.
    """
    if machine["status"] is None:
        step = machine["next_step"] or f"capsem start {named}"
        raise ConflictError(f"{named} is {machine['state']}", next_step=step)
    return Path(machine["socket"])


class MachineName(click.ParamType[str]):
    """A machine's name, its id, or the beginning of its id; completion offers those that there are."""

    name = "machine"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """The name, when a machine can be called so."""
        if _NAMED.fullmatch(value) is None:
            raise NotFoundError(f"no machine can be named {value!r}", next_step="see capsem list")
        return value

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        """Machines that begin like this; a service that does not run is not started for it."""
        from click.shell_completion import CompletionItem

        with contextlib.suppress(CapsuleError, OSError):
            machines = ask("GET", "/machines", start=False)
            named = {one["name"] or one["id"]: one["state"] for one in machines}
            named |= {one["id"]: one["name"] or one["state"] for one in machines}
            return [
                CompletionItem(name, help=terminal.plain(help_))
                for name, help_ in named.items()
                if name.startswith(incomplete)
            ]
        return []


class RecordedName(MachineName):
    """The same, or the id of a machine that was deleted and has a log."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Machines that there are, then logs of others."""
        from click.shell_completion import CompletionItem

        found = super().shell_complete(ctx, param, incomplete)
        with contextlib.suppress(CapsuleError, OSError):
            there = {item.value for item in found}
            found += [
                CompletionItem(log.stem, help="its log")
                for log in places.logged()
                if log.stem.startswith(incomplete) and log.stem not in there
            ]
        return found


def recorded(machine: str) -> tuple[Recorded, dict[str, Any] | None]:
    """What is recorded of a machine, and the machine; None for one that was deleted.

    Raises:
        NotFoundError: there is no such machine, and no log of it.
    """
    # What reads records is loaded for the verbs that do.
    from capsem.host.recorded import Recorded

    found = ask("GET", f"/machines/{machine}/record")
    return Recorded(found["id"]), found["machine"]


_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("--share",), {
        "type": click.Choice(["copy", "live"]), "default": "copy", "show_default": True,
        "help": "How the workspace gets there: as a copy, or as DIR itself, which the machine then changes at once.",
    }),
    (("--workspace",), {
        "metavar": "DIR", "type": click.Path(exists=True, file_okay=False),
        "help": "DIR is to be at /workspace, where commands then run.",
    }),
    (("--mcp",), {
        "metavar": "FILE", "type": click.Path(exists=True, dir_okay=False),
        "help": "MCP servers of this host that its programs may use, each under a policy.",
    }),
    (("--rules",), {
        "multiple": True, "type": click.Path(exists=True, dir_okay=False),
        "help": "Rules that decide what is run and copied; may be repeated.",
    }),
    (("--policy",), {
        "metavar": "FILE", "help": "What it may reach: a policy's network, secrets and rules; none: nothing.",
        "show_default": "setting machine.policy",
    }),
    (("-e", "--env", "env"), {
        "multiple": True, "metavar": "NAME=VALUE", "help": "A variable for every command; may be repeated.",
    }),
    (("--disk",), {
        "metavar": "SIZE|none", "show_default": "setting machine.disk",
        "help": "The most its own disk may hold; none: what it writes is in its memory.",
    }),
    (("--memory",), {"show_default": "setting machine.memory", "metavar": "SIZE", "help": "Memory."}),
    (("--cpu", "cpus"), {"show_default": "setting machine.cpu", "type": int, "help": "Processors."}),
    (("--image",), {"show_default": "setting machine.image", "help": "Name or digest of an image."}),
)  # fmt: skip


def machine_options(function: F) -> F:
    """The options that describe a machine."""
    for words, settings in _OPTIONS:
        function = click.option(*words, **settings)(function)
    return function


def machine_body(
    *,
    image: str | None,
    cpus: int | None,
    memory: str | None,
    disk: str | None,
    env: Sequence[str],
    rules: Sequence[str],
    workspace: str | None = None,
    share: str = "copy",
    policy: str | None = None,
    mcp: str | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """The options as the service takes them.

    Raises:
        UsageError: an option makes no sense.
    """
    if share == "live" and workspace is None:
        raise UsageError("--share live without a workspace", next_step="name the directory: --workspace DIR")
    settings = load()
    image = str(settings.of("machine.image").value) if image is None else image
    if cpus is None:
        cpus = int(settings.of("machine.cpu").value)
    elif not 1 <= cpus <= MOST_CPUS:
        raise UsageError(f"--cpu: {cpus} is out of range", next_step=f"from 1 to {MOST_CPUS}")
    memory = str(settings.of("machine.memory").value) if memory is None else memory
    disk = str(settings.of("machine.disk").value) if disk is None else disk
    policy = str(settings.of("machine.policy").value) if policy is None else policy
    if workspace is not None:
        if share == "live":
            from capsem.host.sharing import shareable

            workspace = str(shareable(workspace))
        else:
            from capsem.host.workspace import root_of

            workspace = str(root_of(workspace))
    network = None if policy == "none" else _network_of(policy)
    return {
        "image": image,
        "name": name,
        "cpus": cpus,
        "memory_mib": mebibytes(memory, what="--memory", least=LEAST_MEMORY, most=MOST_MEMORY),
        "disk_mib": None
        if disk == "none"
        else mebibytes(disk, what="--disk", least=LEAST_DISK, most=MOST_DISK),
        "env": variables(env),
        "network": network,
        "rules": rules_of(rules),
        "workspace": workspace,
        "share": share,
        "mcp": [] if mcp is None else _servers_of(mcp, network),
    }


def _network_of(policy: str) -> dict[str, Any]:
    # What opens policies is loaded for a machine that has one.
    from capsem.host.policy import network_of

    return network_of(policy)


def _servers_of(file: str, network: dict[str, Any] | None) -> list[dict[str, Any]]:
    # The same for one with servers.
    from capsem.host.mcp import servers_of

    return servers_of(file, network)


def asked_ahead(body: dict[str, Any]) -> socket.socket | None:
    """Ask for a machine with a lease now, and load what waits for it meanwhile; `made` is given what this returns.

    Returns:
        None where nothing was asked: no service runs, or something has to be looked at or copied first.
    """
    network = body["network"]
    if (body["workspace"] is not None and body["share"] == "copy") or (
        network is not None and network["egress"]["secrets"]
    ):
        return None
    # Loaded for the verb that makes a machine of its own.
    from capsem.host.question import ahead

    return ahead("POST", "/machines", _leased(body))


def _leased(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "leased": True}


async def made(
    body: dict[str, Any], lease: Lease | None = None, sent: socket.socket | None = None
) -> dict[str, Any]:
    """A machine as described, with its workspace in it and its secrets known; on an error there is none.

    With a lease, it is there for us alone, and ends with this process. `sent` is of `asked_ahead`, with this body.

    Raises:
        CapsemError: it could not be made, the workspace not be copied, or a secret not be had.
    """
    network = body["network"]
    if network is None or not network["egress"]["secrets"]:
        return await _made(body, lease, sent)
    # Where secrets come from is loaded for a policy that has some; without one of them nothing is made.
    from capsem.host.secrets import give, secrets_of
    from capsem.host.service import call

    values = secrets_of(network["egress"])
    machine = await _made(body, lease)
    try:
        await give(Path(machine["socket"]), values)
    except BaseException:
        await call("POST", f"/machines/{machine['id']}/delete", {"force": True})
        raise
    return machine


async def _made(
    body: dict[str, Any], lease: Lease | None, sent: socket.socket | None = None
) -> dict[str, Any]:
    from capsem.host.service import call

    if lease is not None:
        body = _leased(body)
    if body["workspace"] is None or body["share"] == "live":
        machine: dict[str, Any] = await call("POST", "/machines", body, sent=sent)
        if lease is not None:
            await lease.take(machine)
        return machine
    # What a workspace needs is loaded for a machine that has one.
    from capsem.host.workspace import make

    with terminal.progress() as progress:
        machine, packing = await make(body, progress, lease)
    terminal.left_out(packing.left_out)
    return machine


def variables(pairs: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE pairs.

    Raises:
        UsageError: one has no `=`.
    """
    for pair in pairs:
        if "=" not in pair or pair.startswith("="):
            raise UsageError(f"-e {pair}: no NAME=VALUE", next_step="write -e NAME=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)


_ARGUMENTS = 4096
_YEAR = 366 * 86400


class Seconds(click.ParamType[int]):
    """A time that ends, as milliseconds."""

    name = "SECONDS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The time.

        Raises:
            click.UsageError: it is none, or one that is over before it begins.
        """
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        if not 0.001 <= seconds <= _YEAR:
            self.fail(
                f"{value} is no time that a command may take: from 0.001 to {_YEAR} seconds", param, ctx
            )
        return int(seconds * 1000)


def command_of(argv: Sequence[str]) -> tuple[str, ...]:
    """What is to be run, without the `--` before it.

    Raises:
        UsageError: there is nothing, or more than a machine takes.
    """
    words = tuple(argv[1:] if argv[0] == "--" else argv)
    if not words:
        raise UsageError("there is no command behind --", next_step="write it there, or: capsem shell")
    if len(words) > _ARGUMENTS:
        raise UsageError(
            f"{len(words)} arguments; a machine takes {_ARGUMENTS}",
            next_step="pass them on standard input, to xargs",
        )
    return words
