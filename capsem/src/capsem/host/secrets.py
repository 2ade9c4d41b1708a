"""The secrets of a machine's policy: values are had here and told to its monitor, which keeps them in memory.

Refuses to begin without one of them, naming the secret and never its value. No value is in a request to the service, in
a record or in a file.

    values = secrets_of(network["egress"])
    await give(Path(machine["socket"]), values)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from capsem.errors import UsageError
from capsem.host.operation import ask
from capsem.host.service import call
from capsem.wire.monitor import Secrets

_SECONDS = 30.0
_LARGEST = 1 << 16
_STEP = "see the policy's `secrets`"


def secrets_of(egress: dict[str, Any]) -> dict[str, str]:
    """The value of each secret that a plan names.

    Raises:
        UsageError: some cannot be had; each of them is named.
    """
    values, missing, unset = {}, [], []
    for one in egress["secrets"]:
        try:
            values[one["name"]] = _checked(one["name"], _value(one["name"], one["from"]))
        except UsageError as error:
            missing.append(error.message)
            if one["from"]["kind"] == "env" and one["from"]["env"] not in os.environ:
                unset.append(one["from"]["env"])
    if missing:
        step = _STEP
        if len(unset) == len(missing):
            # How a value gets there without a shell's history is the caller's to know.
            step = f"export {' '.join(dict.fromkeys(unset))} with their values, and repeat"
        raise UsageError("; ".join(missing), next_step=step)
    return values


async def secrets_for(machine: str) -> dict[str, str]:
    """The value of each secret of a machine's policy, from where that says; to be had before it starts.

    Args:
        machine: its name or id.

    Raises:
        UsageError: some cannot be had; each of them is named.
    """
    found: dict[str, Any] = await call("GET", f"/machines/{machine}/secrets")
    return secrets_of(found)


async def begun(how: str, machine: str, body: object = None) -> Any:
    """Ask the service to start, restart, resume or branch a machine, and tell what runs then its secrets.

    Args:
        how: the last part of the path.
        machine: its name or id.
        body: of the question.

    Raises:
        UsageError: a secret cannot be had; then nothing was done.
        CapsemError: it does not start.
    """
    values = await secrets_for(machine)
    found = await call("POST", f"/machines/{machine}/{how}", body)
    if values:
        for one in found["machines"] if how == "branch" else [found]:
            await give(Path(one["socket"]), values)
    return found


async def give(socket: Path, values: dict[str, str]) -> None:
    """Tell a machine's monitor.

    Raises:
        CapsemError: its policy names others, or it is not there.
    """
    await ask(socket, Secrets(values))


def _value(name: str, source: dict[str, Any]) -> str:
    match source["kind"]:
        case "env":
            text = os.environ.get(source["env"])
            if text is None:
                raise _missing(name, f"the variable {source['env']} is not set")
            return text
        case "file":
            try:
                return Path(source["file"]).expanduser().read_text(encoding="utf-8")[: _LARGEST + 1]
            except (OSError, UnicodeDecodeError) as error:
                raise _missing(name, f"{source['file']}: {error}") from None
        case "keyring":
            line = [sys.executable, "-m", "capsule.egress.custodian", source["service"], source["user"]]
            return _output(name, line)
        case _:
            return _token(name, _output(name, source["command"]))


def _output(name: str, line: list[str]) -> str:
    try:
        done = subprocess.run(
            line, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _missing(name, f"{line[0]}: {type(error).__name__}") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise _missing(name, f"{line[0]} ended with {done.returncode}{f': {said[0]}' if said else ''}")
    return done.stdout[: _LARGEST + 1].decode(errors="replace")


def _token(name: str, text: str) -> str:
    """What a program printed: the value, or JSON with a `token`."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        found = json.loads(text)
    except ValueError:
        return text
    if not isinstance(found, dict) or not isinstance(found.get("token"), str):
        raise _missing(name, "its program printed JSON without a token")
    return str(found["token"])


def _checked(name: str, untrusted: str) -> str:
    value = untrusted.removesuffix("\n").removesuffix("\r")
    if not value:
        raise _missing(name, "it is empty")
    if len(value) > _LARGEST or "\n" in value or "\0" in value:
        raise _missing(name, "it is more than one line, or too long")
    return value


def _missing(name: str, why: str) -> UsageError:
    return UsageError(f"the secret `{name}` cannot be had: {why}", next_step=_STEP)
