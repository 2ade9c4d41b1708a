"""What a run keeps from its command whatever the policy says: its log and key, the policy, and root's own files.

The launcher decides (docs/formats/policy.md, "Kept"); this says the same beforehand, for `explain`.

    why_kept("/w/capsule.log", "write", policy, access)     # "the logs of runs are kept; …"
"""

from __future__ import annotations

import os
import stat

from capsule.audit import store
from capsule.places import state_directory
from capsule.policy.model import Policy
from capsule.sandbox.access import Access

LOG = "capsule.log"
POLICY = "capsule.yaml"
ROOTS_FILES = (
    "/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-", "/etc/sudoers", "/etc/security/opasswd",
    "/etc/krb5.keytab", "/etc/ppp/chap-secrets", "/etc/ppp/pap-secrets",
)  # fmt: skip
"""As the launcher has them (`capsule/native/src/supervise/secrets.rs`); a test compares the two lists."""
ROOTS_DIRECTORIES = ("/etc/ssh", "/etc/ssl/private", "/etc/sudoers.d")


def why_kept(path: str, want: str, policy: Policy, access: Access) -> str | None:
    """Why a run keeps `path` from this use although the policy grants it, or None."""
    if want == "write":
        parts = path.split("/")
        if any(part == LOG or part.startswith(LOG + ".") for part in parts):
            return "the logs of runs are kept; name another place for this run's with --log"
        if POLICY in parts:
            return "the name of a policy, which a later run would obey, is kept"
        if path in {name for source in policy.sources for name in (source.path, source.target)}:
            return "the policy in force is kept"
        listed = _listed(path)
        if listed is not None:
            return f"{listed} is kept"
    state = os.path.realpath(state_directory())
    if path == state or path.startswith(state + "/"):
        return "the key of the log is kept, and nothing runs where it could be reached"
    granted = {
        access.variables.path(grant.path)
        for grant in access.plan.filesystem.read + access.plan.filesystem.write
    }
    if os.geteuid() == 0 and path not in granted and _roots_own(path):
        return "only root can read it on this host; a grant of this very path gives it back"
    return None


def _listed(path: str) -> str | None:
    """What another run has at this path."""
    for entry in store.listed():
        policy = entry.removeprefix("policy:")
        if policy != entry and path == policy:
            return "the policy of another run"
        if path == entry or path.startswith(entry + "."):
            return "the log of another run"
    return None


def _roots_own(path: str) -> bool:
    if path not in ROOTS_FILES and os.path.dirname(path) not in ROOTS_DIRECTORIES:  # noqa: PTH120 - text, not a file
        return False
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and not found.st_mode & 0o004
