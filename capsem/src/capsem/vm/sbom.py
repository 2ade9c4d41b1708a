"""The bill of materials of an image: CycloneDX 1.6 in JSON (ECMA-424), made from the list of packages alone.

The same packages give the same bytes: the serial number is derived from the content, the time is the image's
epoch. Refuses nothing: what it is given was typed before.

    document(name="default", epoch=1761955200, packages=packages, kernel=("stock", "6.1"), suite="bookworm")
"""

from __future__ import annotations

import datetime
import hashlib
from typing import Any

from capsem.vm.image import Package, canonical


def document(
    *, name: str, epoch: int, packages: tuple[Package, ...], kernel: tuple[str, str], suite: str
) -> bytes:
    """The document as canonical JSON.

    Args:
        name: the image's name.
        epoch: seconds since 1970.
        packages: what is installed.
        kernel: flavour and version.
        suite: Debian's release, named in the package URLs.
    """
    flavour, version = kernel
    components: list[dict[str, Any]] = [
        {
            "type": "operating-system",
            "bom-ref": "kernel",
            "name": "linux",
            "version": version,
            "properties": [{"name": "capsem:flavour", "value": flavour}],
        }
    ]
    for package in packages:
        url = purl(package, suite)
        components.append(
            {"type": "library", "bom-ref": url, "name": package.name, "version": package.version, "purl": url}
        )
    when = datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    whole: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": when,
            "tools": {"components": [{"type": "application", "name": "capsem"}]},
            "component": {"type": "operating-system", "bom-ref": "image", "name": name},
        },
        "components": components,
        "dependencies": [{"ref": "image", "dependsOn": [one["bom-ref"] for one in components]}],
    }
    whole["serialNumber"] = _serial(canonical(whole))
    return canonical(whole) + b"\n"


def purl(package: Package, suite: str) -> str:
    """The package's URL (package-url specification): `pkg:deb/debian/bash@5.2?distro=bookworm`."""
    name, version = (quote(text) for text in (package.name, package.version))
    if package.kind == "deb":
        return f"pkg:deb/debian/{name}@{version}?distro={quote(suite)}"
    if package.kind == "npm":
        scope, slash, rest = package.name.rpartition("/")
        name = f"{quote(scope)}{slash}{quote(rest)}"
    else:
        name = quote(package.name.lower().replace("_", "-"))
    return f"pkg:{package.kind}/{name}@{version}"


_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_~")


def quote(text: str) -> str:
    """The text with every byte that is not unreserved (RFC 3986, section 2.3) as `%XX`."""
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text.encode())


def _serial(content: bytes) -> str:
    """A UUID of version 8 (RFC 9562): sixteen bytes of the content's SHA-256."""
    digest = bytearray(hashlib.sha256(content).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return "urn:uuid:" + "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
