"""The packs of Sigma rules that come with capsule. Their bytes are package data; files are named `pack:NAME/FILE`.

It refuses names it does not know, by returning None.

    load_pack("agents")[0]      # ('pack:agents/agent-instructions-written.yml', 'title: …')
"""

from __future__ import annotations

import pkgutil
from typing import Final

from capsule.policy.network import PACKS

FILES: Final = {
    "agents": (
        "agent-instructions-written", "authorized-keys-written", "credential-file-read", "dns-encoded",
        "encoded-command",
        "git-hook-written", "git-hooks-redirected", "large-upload", "many-refusals", "mass-deletion",
        "metadata-service",
        "new-remote-pushed", "package-published", "package-upload", "piped-to-shell", "pipeline-written",
        "pushed-to-address", "recursive-removal", "reverse-shell", "secret-elsewhere",
        "secret-read-then-sent",
        "startup-file-written",
    ),
}  # fmt: skip
NAMES: Final = PACKS


def load_pack(name: str) -> list[tuple[str, str]] | None:
    """(name, text) of each file of the pack, or None when there is none of that name."""
    if name not in FILES:
        return None
    found = []
    for file in FILES[name]:
        # Package data is part of the program, as this module's own text is: nothing of the host is read.
        data = pkgutil.get_data("capsule.rules", f"packs/{name}/{file}.yml")
        if data is None:
            raise FileNotFoundError(f"{name}/{file}.yml is missing from this installation of capsule")
        found.append((f"pack:{name}/{file}.yml", data.decode()))
    return found
