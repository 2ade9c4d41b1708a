"""An image for programs: what `list`, `inspect`, `build` and `rm` print as JSON. Refuses nothing.

summary(image, ["default"])["digest"]
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from capsem.host.images import Image


def summary(image: Image, called: Iterable[str]) -> dict[str, Any]:
    """An image in a few fields.

    Args:
        image: it.
        called: the names that lead to it.
    """
    manifest = image.manifest
    return {
        "digest": image.digest,
        "names": sorted(called),
        "recipe": manifest.name,
        "kernel": {"flavour": manifest.kernel.flavour, "version": manifest.kernel.version},
        "suite": manifest.suite,
        "packages": len(manifest.packages),
        "bytes": image.size,
        "base": manifest.base,
        "directory": str(image.directory),
    }
