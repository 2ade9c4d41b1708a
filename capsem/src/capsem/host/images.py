"""The images of this user: found by name or digest, opened when every byte is as the manifest says, removed.

An image is the directory `images/<digest>/` below `CAPSEM_HOME`; `images/names.json` maps names to digests.
Refuses an image whose files are not those of its manifest, and to remove one that a machine was made from.

    image = open_image("default")
    image.kernel                     # …/images/3f…/vmlinuz
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capsem.errors import ConflictError, ImageError, NotFoundError
from capsem.host import hold, paths
from capsem.host.rooms import room
from capsem.vm.image import DIGEST, REBUILD, Disk, Manifest, Part, canonical, check_name

_NAMES = "names.json"
_SHORTEST = 4
_BLOCK = 64 << 10
_MANIFESTS = 16


@dataclass(frozen=True, slots=True)
class Image:
    """An image that was found and agrees with its manifest."""

    directory: Path
    manifest: Manifest

    @property
    def digest(self) -> str:
        """What names it for good."""
        return self.manifest.digest

    @property
    def _parts(self) -> Path:
        return self.directory if self.manifest.base is None else paths.images() / self.manifest.base

    @property
    def kernel(self) -> Path:
        """The kernel, a bzImage."""
        return self._parts / self.manifest.kernel.path

    @property
    def initrd(self) -> Path:
        """The initrd, a cpio archive that is not compressed."""
        return self._parts / self.manifest.initrd.path

    @property
    def root(self) -> Path:
        """The root file system, a squashfs."""
        return self._parts / self.manifest.root.path

    @property
    def disk(self) -> Path | None:
        """The disk that a machine begins with; None: an empty one."""
        return None if self.manifest.disk is None else self.directory / self.manifest.disk.path

    @property
    def size(self) -> int:
        """Bytes of its own files; of a disk what is written."""
        disk = self.manifest.disk
        return disk.written if disk is not None else sum(part.size for part in self.manifest.parts)


@dataclass(frozen=True, slots=True)
class Difference:
    """One part that is not as the manifest says."""

    path: str
    what: str


def open_image(name_or_digest: str) -> Image:
    """The image of a name, a digest, or the beginning of a digest (4 digits at least).

    The size and SHA-256 of every file are compared. What was compared is remembered by device, inode, size and
    times of the file (`.verified` in the directory), so that a start does not read the whole file system again.

    Raises:
        NotFoundError: there is none.
        ImageError: its files or its manifest are not what they were when it was built.
    """
    if (found := compared_before(name_or_digest)) is not None:
        return found
    image = find(name_or_digest)
    if image.manifest.base is not None:
        open_image(image.manifest.base)
    state = _state(image)
    differences = compare(image)
    if differences:
        first = differences[0]
        raise ImageError(f"image {image.digest[:12]}: {first.path}: {first.what}", next_step=REBUILD)
    _remember(image, state)
    return image


def compared_before(name_or_digest: str) -> Image | None:
    """The same without reading its files; None: they may have been changed since they were compared, or never were.

    Raises:
        NotFoundError: there is none.
        ImageError: its manifest is not what it was when it was built.
    """
    image = find(name_or_digest)
    if image.manifest.base is not None and compared_before(image.manifest.base) is None:
        return None
    state = _state(image)
    if state is None or state != _remembered(image):
        return None
    _used(image)
    return image


def find(name_or_digest: str) -> Image:
    """The image of a name or digest; its manifest is read, its files are not.

    Raises:
        NotFoundError: there is none, or the digest's beginning fits two.
        ImageError: its manifest is not of the documented form.
    """
    known = names()
    digest = known.get(name_or_digest)
    if digest is None:
        fits = [
            one for one in _digests() if len(name_or_digest) >= _SHORTEST and one.startswith(name_or_digest)
        ]
        if len(fits) != 1:
            listed = ", ".join(sorted(known)) or "none"
            raise NotFoundError(
                f"no image {name_or_digest!r}" if not fits else f"{name_or_digest!r} fits {len(fits)} images",
                next_step=f"images: {listed}; build one with: capsem image build{_recipe(name_or_digest)}",
            )
        digest = fits[0]
    directory = paths.images() / digest
    try:
        manifest = _manifest((directory / "manifest.json").read_bytes())
    except OSError as error:
        raise ImageError(
            f"image {digest[:12]} has no manifest: {error.strerror}", next_step=REBUILD
        ) from error
    if manifest.digest != digest:
        raise ImageError(f"{directory} holds the image {manifest.digest[:12]}", next_step=REBUILD)
    return Image(directory, manifest)


@functools.lru_cache(maxsize=_MANIFESTS)
def _manifest(untrusted: bytes) -> Manifest:
    """What these bytes say; the same bytes say the same, and a service is asked for few images again and again."""
    return Manifest.parse(untrusted)


def compare(image: Image) -> list[Difference]:
    """What is not as the manifest says, after reading every byte."""
    found = []
    for part in image.manifest.parts:
        what = _difference(image.directory / part.path, part)
        if what is not None:
            found.append(Difference(part.path, what))
    expected = {part.path for part in image.manifest.parts} | {"manifest.json"}
    others = [
        name
        for name in sorted(path.name for path in image.directory.iterdir())
        if not name.startswith(".verified")
    ]
    found += [Difference(name, "is not in the manifest") for name in others if name not in expected]
    if image.manifest.base is not None:
        try:
            found += [Difference(f"base {one.path}", one.what) for one in compare(find(image.manifest.base))]
        except (NotFoundError, ImageError) as error:
            found.append(Difference("base", error.message))
    return found


def names() -> dict[str, str]:
    """Names and the digests they stand for.

    Raises:
        ImageError: the file of names is not of the documented form.
    """
    path = paths.images() / _NAMES
    try:
        untrusted = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ImageError(
            f"{path} cannot be read: {error.strerror}", next_step="see whose CAPSEM_HOME is, and its modes"
        ) from error
    except ValueError as error:
        raise ImageError(
            f"{path} is no JSON: {error}",
            next_step="remove it and name your images again with: capsem image build -n NAME",
        ) from error
    if not isinstance(untrusted, dict) or not all(
        isinstance(value, str) and DIGEST.fullmatch(value) for value in untrusted.values()
    ):
        raise ImageError(
            f"{path} maps no names to digests",
            next_step="remove it and name your images again with: capsem image build -n NAME",
        )
    return untrusted


def everything() -> list[Image]:
    """Every image whose manifest can be read, the newest first."""
    found = []
    for digest in _digests():
        with contextlib.suppress(ImageError):
            found.append(find(digest))
    return sorted(found, key=lambda image: (-image.directory.stat().st_mtime_ns, image.digest))


def adopt(staging: Path, manifest: Manifest, name: str) -> Image:
    """Move a finished directory among the images and give it a name; an equal image that is there stays.

    Args:
        staging: a directory on the images' file system with all the manifest names; it is gone afterwards.
        manifest: sealed.
        name: what it can be called from now on.
    """
    check_name(name)
    target = paths.images() / manifest.digest
    (staging / "manifest.json").write_bytes(manifest.encode())
    for path in staging.iterdir():
        path.chmod(0o444)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    with _names_changed() as known:
        if target.exists() and not _whole(target, manifest):
            shutil.rmtree(target)
        if target.exists():
            shutil.rmtree(staging)
        else:
            staging.rename(target)
        known[name] = manifest.digest
    return find(manifest.digest)


def _used(image: Image) -> None:
    with contextlib.suppress(OSError):  # as for `_remember`
        os.utime(image.directory / ".verified")


def last_used(image: Image) -> float:
    """When an image was made or opened last, seconds since 1970."""
    times = [image.directory.stat().st_mtime]
    with contextlib.suppress(FileNotFoundError):
        times.append((image.directory / ".verified").stat().st_mtime)
    return max(times)


def remove(name_or_digest: str, *, unused_since: float | None = None) -> Image:
    """Remove an image and every name of it.

    Args:
        name_or_digest: which.
        unused_since: refuse if it has a name, or was used after that; None: whenever it was.

    Raises:
        ConflictError: a machine depends on it.
        NotFoundError: there is none.
    """
    image = find(name_or_digest)
    with _names_changed() as known:
        used, forks = users(image.digest), forks_of(image.digest)
        if used or forks:
            needs = [*used, *(f"image {one}" for one in forks)]
            # One that runs is deleted with --force only.
            forced = any(hold.holder(paths.sessions() / one) is not None for one in used)
            steps = [f"capsem delete {'--force ' * forced}{' '.join(used)}"] * bool(used)
            steps += [f"capsem image rm {' '.join(forks)}"] * bool(forks)
            raise ConflictError(
                f"image {image.digest[:12]} is needed by: {', '.join(needs)}",
                next_step=f"remove them first: {'; '.join(steps)}",
            )
        called = [name for name, digest in known.items() if digest == image.digest]
        if unused_since is not None and (called or last_used(image) > unused_since):
            raise ConflictError(f"image {image.digest[:12]} is in use", next_step="leave it")
        for name in called:
            del known[name]
        # Gone under its digest at once; what is left of a removal that was killed is no image.
        with room(paths.images(), ".removed-") as grave:
            image.directory.rename(grave / "image")
    return image


def _recipe(name: str) -> str:
    """How to ask for an image of that name, where a recipe that comes along has it."""
    from capsem.host import recipes  # only for an error

    return f" --recipe {name}" if name != "default" and name in recipes.ours() else ""


def users(digest: str) -> list[str]:
    """The machines whose `session.json` names an image anywhere; one that cannot be read counts, as it may."""
    found = []
    for path in sorted(paths.sessions().glob("*/session.json")):
        try:
            if _mentions(json.loads(path.read_bytes()), digest):
                found.append(path.parent.name)
        except FileNotFoundError:
            continue
        except (OSError, ValueError):
            found.append(path.parent.name)
    return found


def forks_of(digest: str) -> list[str]:
    """The images that use this one's files, by their digests' beginnings."""
    return [image.digest[:12] for image in everything() if image.manifest.base == digest]


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def blocks_of(path: Path) -> tuple[str, int]:
    """The digest of a disk as `Disk` has it, and the bytes in the blocks that count; holes are passed over."""
    whole, written = hashlib.sha256(), 0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        place = 0
        while place < size:
            try:
                place = os.lseek(file.fileno(), place, os.SEEK_DATA) // _BLOCK * _BLOCK
            except OSError as error:
                if error.errno == errno.ENXIO:
                    break
                raise
            block = os.pread(file.fileno(), _BLOCK, place)
            if block.strip(b"\0"):
                whole.update((place // _BLOCK).to_bytes(8, "little"))
                whole.update(block)
                written += len(block)
            place += _BLOCK
    return whole.hexdigest(), written


def fork(base: Image, disk: Path, name: str) -> Image:
    """An image with a machine's disk, which becomes part of it.

    Args:
        base: the image that the machine was made from.
        disk: a file on the images' file system; it is gone afterwards.
        name: what the new image can be called.

    Raises:
        ConflictError: an image has this name.
    """
    check_name(name)
    if name in names():
        raise ConflictError(f"there is an image named {name}", next_step="choose another name")
    digest, written = blocks_of(disk)
    size = disk.stat().st_size
    part = Disk(path="disk", sha256=digest, size=size, size_mib=size >> 20, written=written)
    with room(paths.images(), ".forking-") as place:
        staging = place / "image"
        staging.mkdir()
        disk.rename(staging / "disk")
        return adopt(staging, base.manifest.forked(name, part), name)


def part_of(path: Path) -> Part:
    """A file as a part of a manifest."""
    return Part(path=path.name, sha256=sha256_of(path), size=path.stat().st_size)


def _whole(directory: Path, manifest: Manifest) -> bool:
    try:
        same = (directory / "manifest.json").read_bytes() == manifest.encode()
    except OSError:
        return False
    return same and not compare(Image(directory, manifest))


def _mentions(value: Any, digest: str) -> bool:
    if isinstance(value, dict):
        return any(_mentions(one, digest) for one in value.values())
    if isinstance(value, list):
        return any(_mentions(one, digest) for one in value)
    return bool(value == digest)


def _digests() -> list[str]:
    try:
        return sorted(path.name for path in paths.images().iterdir() if DIGEST.fullmatch(path.name))
    except FileNotFoundError:
        return []


def _difference(path: Path, part: Part) -> str | None:
    try:
        if path.is_symlink() or not path.is_file():
            return "is missing" if not path.exists() else "is no plain file"
        size = path.stat().st_size
        if size != part.size:
            return f"has {size} bytes, the manifest says {part.size}"
        digest = blocks_of(path)[0] if isinstance(part, Disk) else sha256_of(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return (
        None
        if digest == part.sha256
        else f"has SHA-256 {digest[:12]}…, the manifest says {part.sha256[:12]}…"
    )


def _state(image: Image) -> bytes | None:
    """What would change if somebody wrote to a file of the image, root apart."""
    rows: dict[str, list[int]] = {}
    for part in image.manifest.parts:
        try:
            status = (image.directory / part.path).lstat()
        except OSError:
            return None
        if status.st_size != part.size:
            return None
        rows[part.path] = [
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_mode,
        ]
    return canonical({"digest": image.digest, "parts": rows})


def _remembered(image: Image) -> bytes | None:
    try:
        return (image.directory / ".verified").read_bytes()
    except OSError:
        return None


def _remember(image: Image, state: bytes | None) -> None:
    """Failing to write costs time at the next start, nothing else: images may be on a read-only file system."""
    if state is None or state != _state(image):
        return
    with contextlib.suppress(OSError):
        temporary = image.directory / f".verified.{os.getpid()}"
        temporary.write_bytes(state)
        temporary.replace(image.directory / ".verified")


@contextlib.contextmanager
def _names_changed() -> Iterator[dict[str, str]]:
    """The names, for one who changes them; written when the block ends well, one at a time."""
    directory = paths.images()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(directory / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        known = names()
        before = dict(known)
        yield known
        if known != before:
            temporary = directory / f"{_NAMES}.new"
            temporary.write_bytes(canonical(known) + b"\n")
            temporary.replace(directory / _NAMES)
    finally:
        os.close(descriptor)
