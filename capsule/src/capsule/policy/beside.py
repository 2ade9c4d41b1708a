"""Files that a policy is made of lie beside the file that names them: rules, directories of detection, authorities.

What a policy grants is about the workspace, whoever wrote the line. Rules are not: `rules: [./rules.yaml]` of a team's
file means the team's rules, never a file of that name in whatever project extends it. Refused: a directory whose name
the language of paths does not have.

    beside_paths(policy, policy.sections.rules.add)      # '${workspace}/…' of the top file, '/…' of the others
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from capsule.errors import PolicyError, Problem
from capsule.policy.model import DetectEntry, Origin, PathEntry, Policy
from capsule.policy.paths import PathError, bracketed, parse_path

_WORKSPACE = "${workspace}"


def beside_paths(policy: Policy, entries: Iterable[PathEntry]) -> tuple[PathEntry, ...]:
    """The entries, each with the path it means.

    Raises:
        PolicyError: the directory of a file has a name that no path of a policy may have.
    """
    return tuple(
        dataclasses.replace(entry, path=_beside(policy, entry.path, entry.origin)) for entry in entries
    )


def beside_detections(policy: Policy, entries: Iterable[DetectEntry]) -> tuple[DetectEntry, ...]:
    """As `beside_paths`, of what is no pack.

    Raises:
        PolicyError: as `beside_paths`.
    """
    return tuple(
        dataclasses.replace(entry, name=_beside(policy, entry.name, entry.origin)) if entry.is_path else entry
        for entry in entries
    )


def _beside(policy: Policy, path: str, origin: Origin) -> str:
    if path != _WORKSPACE and not path.startswith(f"{_WORKSPACE}/"):
        return path
    workspace = policy.sources[0].path.rpartition("/")[0]
    directory = next((source.directory for source in policy.sources if source.path == origin.file), workspace)
    if directory == workspace:
        return path
    try:
        return parse_path(bracketed(directory) + path.removeprefix(_WORKSPACE), globs=False)
    except PathError as fault:
        raise PolicyError(
            [
                Problem(
                    origin.file,
                    origin.line,
                    origin.column,
                    f"this lies beside the file that names it, and there {fault.what}",
                    fault.expected,
                    next_step="give that directory another name, or name the file by ~/… or an absolute path",
                )
            ]
        ) from None
