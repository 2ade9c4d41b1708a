"""Which directories may be shared live with a machine, and what its share is told.

Refuses everything but a project: `/`, the home directory and what holds it, Capsem's and Capsule's own directories with
what lies above and below them, links, and a directory of the system.

    root = shareable("/home/u/project")
    told(root, Limits())                     # {'directory': …, 'identity': …, 'guards': …, 'limits': …}
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from capsem.errors import UsageError
from capsem.host import paths
from capsem.host.workspace import guards_of, root_of
from capsem.vm.settings import Settings
from capsem.workspace.live import Limits

_SYSTEM = (
    "/usr", "/etc", "/bin", "/sbin", "/lib", "/lib64", "/boot", "/dev", "/proc", "/sys", "/run", "/var/lib", "/nix",
)  # fmt: skip
_KEPT = ".ssh", ".gnupg", ".aws", ".kube", ".docker", ".config", ".local/bin", ".local/state"


def _state() -> list[Path]:
    """Directories of Capsem and Capsule: logs, keys, images, machines, accepted policies."""
    home = Path.home()
    places = [paths.home(), paths.cache()]
    for variable, usual in (
        ("XDG_DATA_HOME", ".local/share"),
        ("XDG_STATE_HOME", ".local/state"),
        ("XDG_CACHE_HOME", ".cache"),
        ("XDG_CONFIG_HOME", ".config"),
    ):
        places.append(Path(os.environ.get(variable) or home / usual) / "capsule")
    return [place.resolve() for place in places]


def shareable(directory: str) -> Path:
    """The directory, once it is known that a machine may change what is in it; absolute and without links.

    Raises:
        UsageError: it is no directory, or one that no machine is let into.
    """
    root = root_of(directory)
    home = Path.home().resolve()
    if root in home.parents:
        raise _no(root, "the home directory lies in it")
    for place in _state():
        if root == place or root in place.parents or place in root.parents:
            raise _no(root, f"Capsem and Capsule keep logs, keys and machines at {place}")
    for place in (*(Path(one) for one in _SYSTEM), *(home / one for one in _KEPT)):
        if root == place or place in root.parents:
            raise _no(root, f"{place} is not a machine's to change")
    return root


def _no(root: Path, why: str) -> UsageError:
    return UsageError(
        f"{root} is not shared live: {why}", next_step="name the project's directory, or use --share copy"
    )


def limits(settings: Settings) -> Limits:
    """How much a machine may take, as the settings say."""
    size = settings.mebibytes("share.size")
    assert size is not None
    return Limits(
        files=int(settings.of("share.files").value), size=size << 20,
        open_files=int(settings.of("share.handles").value),
    )  # fmt: skip


def told(root: Path, most: Limits) -> dict[str, Any]:
    """What a share is told: which directory, how it is known again, what is guarded in it, and how much it may grow.

    Raises:
        UsageError: it is no longer one to be shared.
        PolicyError: the policy that is in force there is wrong.
    """
    about = os.lstat(root)
    if shareable(str(root)) != root:
        raise _no(root, "a link stands there now")
    return {
        "directory": str(root), "identity": [about.st_dev, about.st_ino], "guards": guards_of(root).told(),
        "limits": dataclasses.asdict(most),
    }  # fmt: skip
