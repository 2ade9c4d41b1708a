"""The guest's kernel: compiled from Debian's source with our configuration, or Debian's own cloud kernel.

Either is built once and kept in the cache by what it was made from (sources, configuration, compiler). Refuses
a kernel whose final configuration is not what was asked for, line by line.

    built = hardened(config_text, "bookworm", Silent())
    built.path, built.version            # …/bzImage, '6.1.192-capsem'
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from capsem.errors import ImageError
from capsem.host import commands, debian, paths, rooms
from capsem.host.images import sha256_of
from capsem.host.progress import Progress
from capsem.vm import kernel_config, modules
from capsem.vm.image import Flavour, canonical

SOURCE = "linux-source-6.1"
# How many objects a build makes: for the progress bar only.
_OBJECTS = 1150
_IDENTITY = {
    "KBUILD_BUILD_TIMESTAMP": "2025-01-01 00:00:00 UTC",
    "KBUILD_BUILD_USER": "capsem",
    "KBUILD_BUILD_HOST": "capsem",
    "KBUILD_BUILD_VERSION": "1",
}


@dataclass(frozen=True, slots=True)
class BuiltKernel:
    """A kernel in the cache.

    Attributes:
        path: the bzImage.
        version: what `uname -r` says in the guest.
        config_sha256: of the configuration it has.
        modules: files for the initrd, in the order in which they are loaded; none in the hardened one.
    """

    path: Path
    version: str
    flavour: Flavour
    config_sha256: str
    modules: tuple[Path, ...] = ()


def hardened(config: str, suite: str, progress: Progress) -> BuiltKernel:
    """The kernel of this configuration.

    Raises:
        ImageError: a tool or the sources are missing, or the kernel cannot be built as asked.
    """
    asked = kernel_config.parse(config)
    commands.need("make", "gcc", "flex", "bison", "bc", "lz4", "xz", headers=["gelf.h"])
    sources = _sources(suite, progress)
    compiler = subprocess.run(
        ["gcc", "--version"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[0]
    key = hashlib.sha256(kernel_config.made_by_us(sha256_of(sources), config, compiler).encode()).hexdigest()
    with _once(key) as place:
        if not (place / "kernel.json").exists():
            _compile(sources, config, asked, place, progress)
        return _read(place, "hardened")


def stock(suite: str, progress: Progress) -> BuiltKernel:
    """Debian's kernel for clouds, with the modules a machine needs; the newest of the suite when none is in the cache.

    Raises:
        ImageError: it cannot be fetched or is not of the expected form.
    """
    with _once(stock_key(suite)) as place:
        if not (place / "kernel.json").exists():
            _unpack_stock(suite, place, progress)
        return _read(place, "stock")


def stock_key(suite: str) -> str:
    """What Debian's kernel is kept as: with other modules it is another one."""
    wanted = hashlib.sha256(" ".join((*modules.WANTED, *modules.WELCOME)).encode()).hexdigest()
    return f"stock-{suite}-{wanted[:12]}"


def _sources(suite: str, progress: Progress) -> Path:
    installed = Path(f"/usr/src/{SOURCE}.tar.xz")
    if installed.is_file():
        return installed
    kept = paths.cache() / "sources" / suite / f"{SOURCE}.tar.xz"
    if not kept.is_file():
        progress.step("kernel: fetching its sources")
        with rooms.room(_cache(), "building-") as room:
            [package] = debian.download([SOURCE], suite, Path(room))
            commands.run(["dpkg-deb", "-x", package, f"{room}/tree"], what="unpacking the kernel's sources")
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(Path(room, "tree/usr/src", kept.name), kept)
    return kept


def _compile(sources: Path, config: str, asked: dict[str, str], place: Path, progress: Progress) -> None:
    with rooms.room(_cache(), "building-") as room:
        progress.step("kernel: unpacking its sources")
        commands.run(
            ["tar", "-xf", sources, "-C", room, "--strip-components=1"], what="unpacking the kernel's sources"
        )
        Path(room, "capsem.config").write_text(config)
        make = ["make", "-s", f"-j{len(os.sched_getaffinity(0))}"]
        progress.step("kernel: configuring")
        commands.run(
            [*make, "allnoconfig"],
            what="configuring the kernel",
            cwd=Path(room),
            environment={"KCONFIG_ALLCONFIG": "capsem.config"},
        )
        made = Path(room, ".config").read_text()
        wrong = kernel_config.unmet(asked, kernel_config.parse(made, ".config"))
        if wrong:
            raise ImageError(
                "the kernel's configuration is not what was asked for: " + "; ".join(wrong),
                next_step="name what each of these options depends on, or leave it out",
            )
        progress.step("kernel: compiling")
        count = 0

        def seen(line: str) -> None:
            nonlocal count
            count += line.lstrip().startswith(("CC ", "AS "))
            progress.at(min(count / _OBJECTS, 0.99))

        commands.run(
            [argument for argument in make if argument != "-s"] + ["bzImage"],
            what="compiling the kernel",
            cwd=Path(room),
            environment=_IDENTITY,
            seen=seen,
        )
        version = commands.run(
            ["make", "-s", "kernelrelease"], what="the kernel's version", cwd=Path(room)
        ).strip()
        _keep(place, Path(room, "arch/x86/boot/bzImage"), Path(room, ".config"), version)


def _unpack_stock(suite: str, place: Path, progress: Progress) -> None:
    with rooms.room(_cache(), "building-") as room:
        progress.step("kernel: fetching Debian's")
        [package] = debian.download(["linux-image-cloud-amd64"], suite, Path(room), follow="linux-image-6.")
        tree = Path(room, "tree")
        commands.run(["dpkg-deb", "-x", package, tree], what="unpacking Debian's kernel")
        [image] = tree.glob("boot/vmlinuz-*")
        version = image.name.removeprefix("vmlinuz-")
        found = {modules.module_name(path.name): path for path in tree.rglob("*.ko")}
        contents = {name: path.read_bytes() for name, path in found.items()}
        wanted = [*modules.WANTED, *(name for name in modules.WELCOME if name in found)]
        (place / "modules").mkdir(exist_ok=True)
        for name in (ordered := modules.order(wanted, contents)):
            shutil.copyfile(found[name], place / "modules" / f"{name}.ko")
        _keep(place, image, tree / "boot" / f"config-{version}", version, tuple(ordered))


def _keep(place: Path, image: Path, config: Path, version: str, ordered: tuple[str, ...] = ()) -> None:
    """The description is written last: without it the directory counts as empty."""
    shutil.copyfile(image, place / "bzImage")
    shutil.copyfile(config, place / "config")
    facts = {"version": version, "sha256": sha256_of(place / "bzImage"), "modules": ordered}
    temporary = place / "kernel.json.new"
    temporary.write_bytes(canonical(facts))
    temporary.rename(place / "kernel.json")


def _read(place: Path, flavour: Flavour) -> BuiltKernel:
    facts = json.loads((place / "kernel.json").read_bytes())
    path = place / "bzImage"
    if sha256_of(path) != facts["sha256"]:
        raise ImageError(
            f"{path} was changed since it was built", next_step=f"remove {place} and build again"
        )
    return BuiltKernel(
        path=path,
        version=facts["version"],
        flavour=flavour,
        config_sha256=sha256_of(place / "config"),
        modules=tuple(place / "modules" / f"{name}.ko" for name in facts["modules"]),
    )


def _cache() -> Path:
    paths.cache().mkdir(mode=0o700, parents=True, exist_ok=True)
    return paths.cache()


@contextlib.contextmanager
def _once(key: str) -> Iterator[Path]:
    """The directory of a key, for one process at a time."""
    # What a build that was killed left: a kernel's sources, half compiled.
    for left in rooms.abandoned(_cache(), ("building-",)):
        rooms.clear(left)
    place = _cache() / "kernels" / key
    place.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield place
    finally:
        os.close(descriptor)
