"""Policy files from disk: the one place where this side opens them.

Refused: what is not a regular file (a FIFO would hang, a device would not end) and what is over the parser's
limit.

    source = load_policy("capsule.yaml")        # or a preset's name
    FileLoader().load("./team.yaml", source.path)
"""

from __future__ import annotations

import os
from pathlib import Path

from capsule.errors import PolicyError, Problem, nearest_name
from capsule.policy.document import MAX_BYTES
from capsule.policy.merge import LoadError, resolve, with_tool
from capsule.policy.model import Policy, Source
from capsule.policy.parser import is_preset_name
from capsule.policy.presets import NAMES, load_preset
from capsule.regular import NotRegularError, read_regular

POLICY_FILE = "capsule.yaml"
DEFAULT_PRESET = "workspace"


class FileLoader:
    """Reads files named in `extends`; the port of `merge.resolve`."""

    def load(self, reference: str, including: str) -> Source:
        """See `merge.Loader`. Relative to where `including` really lies; what is read is named by what it is."""
        path = (
            Path(reference).expanduser()
            if reference.startswith("~/")
            else Path(including).resolve().parent / reference
        )
        # Not `resolve`, which raises at a circle of links: opening it says so.
        return _read(Path(os.path.realpath(path)))


def policy_in_force(named: str | None, here: Path) -> str:
    """The policy a run started here would have: the named one, the nearest `capsule.yaml`, or the preset.

    Looks where the launcher looks: upward to the repository, the home directory or the root.

    Args:
        named: what was asked for, or None.
        here: the working directory.

    Returns:
        A preset's name, or an absolute path.
    """
    if named:
        return named if is_preset_name(named) and not Path(named).is_file() else str(_placed(Path(named)))
    home = Path.home()
    for folder in (here, *here.parents):
        if os.path.lexists(folder / POLICY_FILE):
            return str(folder / POLICY_FILE)
        if folder == home or os.path.lexists(folder / ".git"):
            break
    return DEFAULT_PRESET


def load_policy(reference: str, tool: str | None = None) -> Policy:
    """The resolved policy of a file or preset, and of one of its tools.

    Args:
        reference: a preset's name, or the path of a file (with a '/' or ending in .yaml or .yml).
        tool: a key of `tools`, or None for the policy itself.

    Raises:
        PolicyError: with every place that is wrong.
    """
    policy = resolve(load_source(reference), FileLoader())
    return policy if tool is None else with_tool(policy, tool)


def load_source(reference: str) -> Source:
    """The bytes of a file or preset, under the name its origins will have (absolute, or `preset:NAME`)."""
    if is_preset_name(reference):
        preset = load_preset(reference)
        if preset is not None:
            return preset
        if Path(reference).exists() and not Path(reference).is_file():
            raise PolicyError(
                [Problem(reference, 1, 1, "this is not a regular file", "a file, or a preset's name")]
            )
        if not Path(reference).is_file():
            raise PolicyError(
                [
                    Problem(
                        reference,
                        1,
                        1,
                        "there is no such preset or file",
                        "a file, or one of " + ", ".join(NAMES),
                        nearest_name(reference, NAMES),
                    )
                ]
            )
    try:
        return _read(Path(reference))
    except LoadError as fault:
        raise PolicyError([Problem(reference, 1, 1, fault.what, next_step=fault.next_step)]) from None


def _read(path: Path) -> Source:
    shown = str(path)
    try:
        data = read_regular(path, most=MAX_BYTES)
    except NotRegularError:
        raise LoadError(f"{shown} is not a regular file", "name a file") from None
    except OSError as error:
        raise LoadError(
            f"the file {shown} cannot be read: {error.strerror}", "check the path and its permissions"
        ) from None
    placed, real = _placed(path), Path(os.path.realpath(path))
    return Source(str(placed), data, "" if placed == real else str(real))


def _placed(path: Path) -> Path:
    """The name the launcher can protect and a person can open, whatever the working directory.

    A link in its last segment stays: the workspace is where the policy's name stands, wherever the file is kept.
    """
    return Path(os.path.realpath(path.parent), path.name)
