"""Small images for tests: the real form, with contents nobody boots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from capsem.host import paths
from capsem.host.images import Image, adopt, part_of
from capsem.vm.image import Kernel, Manifest, Package, Root


def made_image(name: str = "default", content: bytes = b"kernel") -> Image:
    """An image among those of CAPSEM_HOME."""
    staging = paths.images() / ".building-test"
    staging.mkdir(parents=True)
    for part, data in (
        ("vmlinuz", content),
        ("initrd", b"i"),
        ("root.squashfs", b"r"),
        ("sbom.cdx.json", b"{}"),
    ):
        (staging / part).write_bytes(data)

    def facts(part: str) -> dict[str, Any]:
        found = part_of(staging / part)
        return {"path": found.path, "sha256": found.sha256, "size": found.size}

    digits = "0" * 64
    manifest = Manifest(
        version=1,
        digest="",
        name="default",
        architecture="x86_64",
        kernel=Kernel(**facts("vmlinuz"), flavour="stock", version="6.1", config_sha256=digits),
        initrd=part_of(staging / "initrd"),
        root=Root(**facts("root.squashfs"), format="squashfs"),
        sbom=part_of(staging / "sbom.cdx.json"),
        agent_sha256=digits,
        recipe_sha256=digits,
        suite="bookworm",
        epoch=1_761_955_200,
        environment={},
        packages=(Package(kind="deb", name="bash", version="5.2"),),
    )
    return adopt(staging, manifest.sealed(), name)


def overwrite(path: Path, data: bytes) -> None:
    """What somebody does who may write to this user's files."""
    path.chmod(0o644)
    path.write_bytes(data)
