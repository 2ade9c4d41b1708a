"""An image as a value: the manifest that names its parts by content, and the digest that names the whole.

An image is a kernel, an initrd with the agent in it, a read-only root file system and a list of what is inside
(`docs/formats/image.md`). Its digest is the SHA-256 of the manifest without `digest`, so equal parts have an
equal digest. Refuses a manifest with unknown, missing or mistyped fields, with a part outside the image's
directory, or with a digest that is not its own.

    manifest = Manifest.parse((directory / "manifest.json").read_bytes())
    manifest.kernel.flavour              # 'hardened'
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Literal, Self

import msgspec

from capsem.errors import ImageError, UsageError

VERSION = 1
DIGEST = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
REBUILD = "build the image again: capsem image build"

Flavour = Literal["hardened", "stock"]


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Fields are all required and nothing else is taken."""


class Part(_Struct, frozen=True):
    """A file of the image. `path` is a name in its directory, `size` in bytes."""

    path: str
    sha256: str
    size: int


class Kernel(Part, frozen=True):
    """The kernel: how it was made, and the version that it reports."""

    flavour: Flavour
    version: str
    config_sha256: str


class Root(Part, frozen=True):
    """The root file system. `format` is the file system's name."""

    format: Literal["squashfs"]


class Disk(Part, frozen=True):
    """The disk that a machine of this image begins with.

    `sha256` is of its blocks of 64 KiB that are not all zero, each after its number (8 bytes, little-endian): where the
    file has holes does not change it. `written`: the bytes of those blocks.
    """

    size_mib: int
    written: int


class Package(_Struct, frozen=True):
    """Something that was installed: `kind` is where from."""

    kind: Literal["deb", "npm", "pypi"]
    name: str
    version: str


class Manifest(_Struct, frozen=True, omit_defaults=True):
    """Everything that is known of an image. `epoch` is in seconds since 1970, the time of every file in it.

    An image that was forked from a machine has a `disk`, and the parts of its `base` (a digest), whose files it uses. A
    base has neither.
    """

    version: int
    digest: str
    name: str
    architecture: Literal["x86_64"]
    kernel: Kernel
    initrd: Part
    root: Root
    sbom: Part
    agent_sha256: str
    recipe_sha256: str
    suite: str
    epoch: int
    environment: dict[str, str]
    packages: tuple[Package, ...]
    base: str | None = None
    disk: Disk | None = None

    @classmethod
    def parse(cls, untrusted_bytes: bytes) -> Self:
        """The manifest in these bytes.

        Raises:
            ImageError: it is not of the documented form, or its digest is not its own.
        """
        try:
            found = msgspec.json.decode(untrusted_bytes, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ImageError(
                f"the image's manifest is not of the documented form: {error}", next_step=REBUILD
            ) from error
        found.check()
        return found

    def check(self) -> None:
        """Compare what the types do not say.

        Raises:
            ImageError: a field that cannot be.
        """
        if self.version != VERSION:
            raise ImageError(
                f"the image's manifest has version {self.version}, this capsem reads {VERSION}",
                next_step=REBUILD,
            )
        for part in self.parts:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", part.path):
                raise ImageError(
                    f"the image's manifest names {part.path!r}, which is no file of its directory",
                    next_step=REBUILD,
                )
            if part.size < 0 or not DIGEST.fullmatch(part.sha256):
                raise ImageError(
                    f"the image's manifest has no size or SHA-256 for {part.path}", next_step=REBUILD
                )
        if len({part.path for part in self.parts}) != len(self.parts):
            raise ImageError("the image's manifest names one file for two parts", next_step=REBUILD)
        if (self.base is None) != (self.disk is None):
            raise ImageError("the image's manifest has one of base and disk", next_step=REBUILD)
        if self.base is not None and not DIGEST.fullmatch(self.base):
            raise ImageError("the image's manifest names a base that is no digest", next_step=REBUILD)
        check_name(self.name)
        if self.digest != self.own_digest():
            raise ImageError("the image's manifest was changed: its digest is another", next_step=REBUILD)

    @property
    def parts(self) -> tuple[Part, ...]:
        """The files of the image, the manifest and those of its base apart."""
        if self.disk is not None:
            return (self.disk,)
        return (self.kernel, self.initrd, self.root, self.sbom)

    def forked(self, name: str, disk: Disk) -> Self:
        """The manifest of an image with these parts and a machine's disk; however often, it needs the base alone."""
        base = self.base or self.digest
        return msgspec.structs.replace(self, name=name, base=base, disk=disk, digest="").sealed()

    def own_digest(self) -> str:
        """SHA-256 of the canonical JSON of everything but `digest`."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        del fields["digest"]
        return hashlib.sha256(canonical(fields)).hexdigest()

    def sealed(self) -> Self:
        """The same with its own digest in it."""
        return msgspec.structs.replace(self, digest=self.own_digest())

    def encode(self) -> bytes:
        """The bytes of `manifest.json`, the same for equal manifests."""
        return canonical(msgspec.to_builtins(self)) + b"\n"


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces, in UTF-8: one spelling a value."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def wanted_name(name: str) -> str:
    """The same for a name that somebody asks for: then it is they who are wrong, and no image.

    Raises:
        UsageError: an image cannot have it.
    """
    try:
        return check_name(name)
    except ImageError as error:
        raise UsageError(error.message, next_step=error.next_step) from None


def check_name(name: str) -> str:
    """The name, if an image can have it.

    Raises:
        ImageError: it is not 1 to 64 of `a-z0-9._-`, or could be taken for a digest.
    """
    if not NAME.fullmatch(name) or re.fullmatch(r"[0-9a-f]{12,64}", name):
        raise ImageError(
            f"{name!r} cannot name an image",
            next_step="use 1 to 64 of a-z, 0-9, '.', '_' and '-', not a digest",
        )
    return name
