"""Build an image; each part comes from the cache when nothing it is made from has changed.

Everything is made in a directory beside the images and moved among them when it is whole; a build that fails or
is interrupted leaves nothing there. Refuses an agent that is not an executable of this architecture, and
packages that are not those of the lock.

    build(BuildSpec(recipe=recipe, kernel="hardened", name="default"), Silent())
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from capsem.errors import ImageError
from capsem.host import agent as agents
from capsem.host import debian, kernel, limits, paths, recipes, rooms, rootfs
from capsem.host.images import Image, adopt, part_of, sha256_of
from capsem.host.kernel import BuiltKernel
from capsem.host.progress import Progress
from capsem.vm import initrd, packages, sbom
from capsem.vm.image import VERSION, Flavour, Kernel, Manifest, Package, Root, canonical, wanted_name
from capsem.vm.recipe import Recipe

# Changed when the same recipe would give another tree: what is in the cache is then made anew.
_TREE = 2
# The same for recipes with packages of PyPI alone.
_PIP = 2
# Bytes of root file systems in the cache; beyond that the ones that were used longest ago go.
_KEPT = 6 << 30


@dataclass(frozen=True, slots=True)
class BuildSpec:
    """What is asked for.

    Attributes:
        name: what the image can be called; the recipe's name when None.
        agent: the guest's agent; the installed one when None.
        lock: the packages, all of them, that the image must have; None takes what Debian has now.
        fresh: make the root file system again even if there is one of this recipe.
    """

    recipe: Recipe
    kernel: Flavour = "hardened"
    name: str | None = None
    agent: Path | None = None
    lock: tuple[Package, ...] | None = None
    fresh: bool = False


def build(spec: BuildSpec, progress: Progress) -> Image:
    """The image, built or found.

    Raises:
        ImageError: a part cannot be built; the message names it and what to do.
        ConflictError: it does not fit within limits.home.
    """
    recipe = spec.recipe
    # What is known at once is said before minutes go by.
    wanted_name(spec.name or recipe.name)
    agent = agents.find_agent(spec.agent)
    built = (
        kernel.hardened(recipes.kernel_config(), recipe.suite, progress)
        if spec.kernel == "hardened"
        else kernel.stock(recipe.suite, progress)
    )
    paths.images().mkdir(mode=0o700, parents=True, exist_ok=True)
    limits.check(f"the image {spec.name or recipe.name}")
    try:
        with rooms.room(paths.images(), ".building-") as room:
            with _base(spec, progress) as (base, inside):
                progress.step("image: putting it together")
                staging = room / "image"
                staging.mkdir()
                rootfs.append_agent(base, agent, staging / "root.squashfs", recipe.epoch, room)
            shutil.copyfile(built.path, staging / "vmlinuz")
            (staging / "initrd").write_bytes(_initrd(agent, built))
            (staging / "sbom.cdx.json").write_bytes(
                sbom.document(
                    name=recipe.name,
                    epoch=recipe.epoch,
                    packages=inside,
                    kernel=(built.flavour, built.version),
                    suite=recipe.suite,
                )
            )
            # It lies there now, and only has to be named: nothing more is added.
            limits.check(f"the image {spec.name or recipe.name}")
            return adopt(staging, _manifest(recipe, built, agent, inside, staging), spec.name or recipe.name)
    except OSError as error:
        raise ImageError(
            f"the image could not be written: {error.strerror or error}",
            next_step="free some space (CAPSEM_HOME and CAPSEM_CACHE can be elsewhere); nothing half-done was kept",
        ) from error


def _manifest(
    recipe: Recipe, built: BuiltKernel, agent: Path, inside: tuple[Package, ...], staging: Path
) -> Manifest:
    def facts(name: str) -> dict[str, str | int]:
        part = part_of(staging / name)
        return {"path": part.path, "sha256": part.sha256, "size": part.size}

    return Manifest(
        version=VERSION,
        digest="",
        name=recipe.name,
        architecture="x86_64",
        kernel=Kernel(
            **facts("vmlinuz"),  # type: ignore[arg-type]
            flavour=built.flavour,
            version=built.version,
            config_sha256=built.config_sha256,
        ),
        initrd=part_of(staging / "initrd"),
        root=Root(**facts("root.squashfs"), format="squashfs"),  # type: ignore[arg-type]
        sbom=part_of(staging / "sbom.cdx.json"),
        agent_sha256=sha256_of(agent),
        recipe_sha256=recipe.digest(),
        suite=recipe.suite,
        epoch=recipe.epoch,
        environment=recipe.environment,
        packages=inside,
    ).sealed()


def _initrd(agent: Path, built: BuiltKernel) -> bytes:
    entries = [
        initrd.Entry("init", 0o100555, agent.read_bytes()),
        *(initrd.Entry(name, 0o040755) for name in ("dev", "proc", "sys", "root")),
        # Before the agent has mounted anything the kernel opens its console here.
        initrd.Entry("dev/console", 0o020600, device=(5, 1)),
        initrd.Entry("dev/null", 0o020666, device=(1, 3)),
    ]
    if built.modules:
        entries.append(initrd.Entry("modules", 0o040755))
        entries += [
            initrd.Entry(f"modules/{path.name}", 0o100444, path.read_bytes()) for path in built.modules
        ]
        order = "".join(f"{path.name}\n" for path in built.modules)
        entries.append(initrd.Entry("modules/order", 0o100444, order.encode()))
    return initrd.archive(entries)


@contextlib.contextmanager
def _base(spec: BuildSpec, progress: Progress) -> Iterator[tuple[Path, tuple[Package, ...]]]:
    """The root file system without the agent, and what is in it, from the cache or made now; held while it is used."""
    recipe, lock = spec.recipe, spec.lock
    key = hashlib.sha256(
        canonical(
            {
                "tree": _TREE,
                "recipe": recipe.digest(),
                "lock": packages.lock_text(lock) if lock is not None else None,
                **({"pip": _PIP} if recipe.pypi else {}),
            }
        )
    ).hexdigest()
    place = paths.cache() / "roots" / key
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        base, listing, proof = place / "base.squashfs", place / "packages", place / "sha256"
        if spec.fresh or not proof.exists():
            proof.unlink(missing_ok=True)
            inside = _made(spec, place, progress)
            listing.write_text(packages.lock_text(inside))
            # Written last: without it the directory counts as empty.
            proof.write_text(sha256_of(base))
        elif sha256_of(base) != proof.read_text():
            proof.unlink()
            raise ImageError(
                f"{base} was changed since it was built", next_step="build again: it is made anew"
            )
        os.utime(place)
        bound(place.parent, _KEPT)
        yield base, packages.read_lock(listing.read_text(), str(listing))
    finally:
        os.close(descriptor)


def bound(roots: Path, limit: int) -> None:
    """Remove root file systems that were used longest ago until the rest have at most `limit` bytes.

    One that a build holds stays.
    """
    places = sorted(
        (path for path in roots.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime
    )
    total = sum(_size(place) for place in places)
    for place in places:
        if total <= limit:
            return
        descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            total -= _size(place)
            # Without it the directory counts as empty, however far we get; who waits for the lock makes it anew.
            (place / "sha256").unlink(missing_ok=True)
            for path in place.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        finally:
            os.close(descriptor)


def _size(place: Path) -> int:
    total = 0
    for path in place.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another build works there
            total += path.lstat().st_size
    return total


def _made(spec: BuildSpec, place: Path, progress: Progress) -> tuple[Package, ...]:
    # Those of other recipes, too: nobody may build them again.
    for root in place.parent.iterdir():
        for left in rooms.abandoned(root, ("building-",)):
            rooms.clear(left)
    with rooms.room(place, "building-") as room:
        archive = Path(room, "root.tar")
        debian.bootstrap(spec.recipe, archive, progress, spec.lock or ())
        inside = rootfs.assemble(archive, spec.recipe, Path(room, "base.squashfs"), progress)
        if absent := packages.absent(spec.recipe.pypi, inside.packages):
            raise ImageError(
                f"pip installed them where no program finds them: {', '.join(absent)}",
                next_step="take the python3 and python3-pip of the recipe's suite",
            )
        if spec.lock is not None and (words := packages.drift(spec.lock, inside.packages)):
            raise ImageError(
                "the packages are not those of the lock: " + "; ".join(words[:10]),
                next_step="take a mirror that still has them, or write a new lock: capsem image build --write-lock",
            )
        Path(room, "base.squashfs").rename(place / "base.squashfs")
        return inside.packages
