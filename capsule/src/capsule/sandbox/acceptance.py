"""What a policy that was only found in a directory may not grant until its user accepted it.

Pure. A `capsule.yaml` comes with a repository as its code does, from whoever wrote it. Found there, it may do what the
preset `workspace` does and what gives no way out: execute what is not sensitive, more calls, variables. The rest waits
for `capsule policy accept`, or for being named: reading or writing elsewhere, sensitive places, hosts, secrets,
services of the host, layers no longer required.

    [change.what for change in beyond(workspace, found, where)]        # ['may send to evil.example', …]
"""

from __future__ import annotations

from capsule.sandbox.access import Variables
from capsule.sandbox.changes import Change, Risk
from capsule.sandbox.diff import compare_plans
from capsule.sandbox.plan import Plan


def beyond(workspace: Plan, found: Plan, where: Variables) -> tuple[Change, ...]:
    """What `found` grants that needs a user's word, by falling risk; empty when it needs none.

    Args:
        workspace: the plan of the preset that holds where nothing is found.
        found: the plan of the file that was found.
        where: the directories of a run at that place.
    """
    return tuple(
        change
        for change in compare_plans(workspace, found, where)
        if change.risk >= Risk.HIGH or change.shows or (change.leads_out and not _built_in(change))
    )


def _built_in(change: Change) -> bool:
    # Whoever serves a preset's hosts was chosen with the preset, not by the file that extends it.
    return change.origin is not None and change.origin.file.startswith("preset:")
