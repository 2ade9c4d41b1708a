"""The policies that come with capsule. Their bytes are package data; their sources are named `preset:NAME`.

load_preset("workspace").path        # 'preset:workspace'
NAMES                                # ('anthropic', 'c', 'crates', …)
"""

from __future__ import annotations

import pkgutil
from typing import Final

from capsule.policy.model import Source

NAMES: Final = (
    "anthropic", "c", "crates", "debian", "egress", "git", "github", "go", "google-ai", "node", "npm", "openai", "pypi",
    "proxy", "python", "qemu", "readonly", "rust", "secret-files", "share", "strict", "toolchains", "workspace",
)  # fmt: skip


def load_preset(name: str) -> Source | None:
    """The preset's bytes, or None when there is none of that name."""
    if name not in NAMES:
        return None
    # Package data is part of the program, as this module's own text is: nothing of the host is read.
    data = pkgutil.get_data("capsule.policy", f"presets/{name}.yaml")
    if data is None:
        raise FileNotFoundError(f"the preset {name} is missing from this installation of capsule")
    return Source(f"preset:{name}", data)
