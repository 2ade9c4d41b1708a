"""What is installed in a root file system, read from the records the installers leave: dpkg, npm, pip.

Refuses records that are not of the documented form (deb822 of dpkg's status file, `package-lock` of npm,
`METADATA` of Python's core metadata); a package that dpkg does not call installed is left out.

    debian(status)                       # (Package(kind='deb', name='bash', version='5.2.15-2+b10'), …)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

import msgspec

from capsem.errors import ImageError
from capsem.vm.image import REBUILD, Package


def debian(untrusted_status: str) -> tuple[Package, ...]:
    """The installed packages of `/var/lib/dpkg/status`, by name.

    Raises:
        ImageError: a paragraph without a name or a version.
    """
    found = []
    for paragraph in untrusted_status.split("\n\n"):
        fields = dict(
            line.split(":", 1)
            for line in paragraph.splitlines()
            if ":" in line and not line.startswith((" ", "\t"))
        )
        if not fields:
            continue
        try:
            name, version, state = (fields[key].strip() for key in ("Package", "Version", "Status"))
        except KeyError as error:
            raise ImageError(
                f"dpkg's list of packages has a paragraph without {error}", next_step=REBUILD
            ) from error
        if state.split()[-1] == "installed":
            found.append(Package(kind="deb", name=name, version=version))
    return tuple(sorted(found, key=_order))


def npm(untrusted_lock: str) -> tuple[Package, ...]:
    """The packages of npm's `node_modules/.package-lock.json`, by name.

    Raises:
        ImageError: it is not of that form.
    """
    try:
        rows = json.loads(untrusted_lock)["packages"]
        found = {
            Package(
                kind="npm",
                name=str(row.get("name") or path.rpartition("node_modules/")[2]),
                version=str(row["version"]),
            )
            for path, row in rows.items()
            if path and not row.get("link")
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImageError(
            f"npm's list of packages is not of its form: {error!r}", next_step=REBUILD
        ) from error
    return tuple(sorted(found, key=_order))


def python(untrusted_metadata: str) -> Package:
    """The package whose `METADATA` this is.

    Raises:
        ImageError: it has no name or no version.
    """
    head = untrusted_metadata.split("\n\n", 1)[0]
    fields = dict(
        line.split(":", 1) for line in head.splitlines() if ":" in line and not line.startswith((" ", "\t"))
    )
    try:
        return Package(kind="pypi", name=fields["Name"].strip(), version=fields["Version"].strip())
    except KeyError as error:
        raise ImageError(f"a Python package's metadata has no {error}", next_step=REBUILD) from error


def lock_text(packages: tuple[Package, ...]) -> str:
    """A lock: one `kind name version` a line, sorted."""
    return "".join(f"{one.kind} {one.name} {one.version}\n" for one in sorted(packages, key=_order))


def read_lock(untrusted_text: str, place: str) -> tuple[Package, ...]:
    """The packages of a lock.

    Raises:
        ImageError: a line that is not `kind name version`, or a package of Debian twice.
    """
    found: set[Package] = set()
    names: set[str] = set()
    for number, line in enumerate(untrusted_text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            kind, name, version = line.split()
            package = msgspec.convert({"kind": kind, "name": name, "version": version}, Package)
        except ValueError as error:  # msgspec's is one too
            raise ImageError(
                f"{place}:{number}: not 'deb|npm|pypi NAME VERSION'",
                next_step="write the lock again with: capsem image build --write-lock",
            ) from error
        if kind == "deb" and name in names:
            raise ImageError(f"{place}:{number}: {name} is there twice", next_step="leave one of the two out")
        found.add(package)
        if kind == "deb":
            names.add(name)
    return tuple(sorted(found, key=_order))


def drift(locked: tuple[Package, ...], installed: tuple[Package, ...]) -> list[str]:
    """What was installed otherwise than locked, in words, by name."""
    wanted, got = set(locked), set(installed)
    if wanted == got:
        return []
    missing = {(one.kind, one.name): one.version for one in wanted - got}
    extra = {(one.kind, one.name): one.version for one in got - wanted}
    return [
        f"{key[1]}: locked {missing.get(key, 'not at all')}, found {extra.get(key, 'not at all')}"
        for key in sorted(missing | extra)
    ]


def absent(wanted: Iterable[str], installed: tuple[Package, ...]) -> list[str]:
    """Names of PyPI, written in any way, that are not among these."""

    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    here = {plain(one.name) for one in installed if one.kind == "pypi"}
    return sorted(name for name in wanted if plain(name) not in here)


def _order(package: Package) -> tuple[str, str, str]:
    return (package.kind, package.name, package.version)
