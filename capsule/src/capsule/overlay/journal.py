"""What an application is about to do, written beside the layer before it does it: one that is killed is put back later.

It lies where the run cannot write, never in the root: a name in there could be a guest's. Refuses to guess: where the
host has something else by now, nothing of that name is touched, and what stood there before stays in the staging
directory, which is named.

    journal = Journal(layer_directory)
    journal.begin(root, staging_name, steps)      # on the disk before the first rename
    journal.done()                                # all is in place; what is left is only to be removed
    recover(root, layer_directory)                # True: something was put back
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from capsule.overlay.layer import DIRECTORY, look, remove_tree
from capsule.overlay.manifest import OverlayError

NAME, DONE = "applying", "applied"


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One change, as it has to be undone.

    Attributes:
        path: below the root; in the journal, the hexadecimal of its bytes.
        staged: its name in the staging directory; what stood in its place is there as `STAGED.old`.
        kind: what it brings: `file`, `link`, `directory`; `absent`; `mode`.
        inode: of the file or link that is staged; 0 of anything else.
        mode: permission bits that the name had before; 0 where there was none.
    """

    path: str
    staged: str
    kind: str
    inode: int
    mode: int


class Steps(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of an application: its root, its staging directory's name, its changes in order."""

    root: str
    staging: str
    steps: tuple[Step, ...]


class Journal:
    """Of one layer."""

    def __init__(self, directory: Path) -> None:
        """`directory`: the layer's, which only its owner writes."""
        self._directory = directory
        self._begun = False

    def begin(self, root: Path, staging: str, steps: Sequence[Step]) -> None:
        """Write down what follows; returns once it is on the disk."""
        fresh = self._directory / f"{NAME}.new"
        with fresh.open("wb") as file:
            file.write(msgspec.json.encode(Steps(str(root), staging, tuple(map(_spelt, steps)))))
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self._directory / NAME)
        _settle(self._directory)
        self._begun = True

    def done(self) -> None:
        """Everything is in its place, or was put back."""
        if self._begun:
            (self._directory / NAME).rename(self._directory / DONE)
            _settle(self._directory)

    def over(self) -> None:
        """Nothing is left."""
        if self._begun:
            (self._directory / DONE).unlink(missing_ok=True)


def recover(root: Path, directory: Path) -> bool:
    """Put back what an application that was killed had done in part; False: there was none.

    Args:
        root: the directory on the host.
        directory: the layer's.

    Raises:
        OverlayError: something else stands there by now; the message names where the rest is.
    """
    (directory / f"{NAME}.new").unlink(missing_ok=True)
    for name in (DONE, NAME):
        place = directory / name
        try:
            said = msgspec.json.decode(place.read_bytes(), type=Steps)
        except FileNotFoundError:
            continue
        except msgspec.MsgspecError as error:
            raise OverlayError(f"{place} is not a journal: {error}", next_step=f"remove {place}") from error
        if said.root != str(root):
            raise OverlayError(f"{place} is of {said.root}", next_step=f"remove {place}")
        staging = root / said.staging
        left = _undone(root, said) if name == NAME and staging.is_dir() else []
        if left:
            raise OverlayError(
                f"taking over was broken off, and {len(left)} names have become something else since: {left[0]!r}; "
                f"what stood there is in {staging}",
                next_step=f"put it where it belongs, then remove {staging} and {place}",
            )
        if staging.is_dir():
            remove_tree(staging)
        place.unlink()
        return name == NAME
    return False


def _undone(root: Path, said: Steps) -> list[str]:
    """What could not be put back."""
    left = []
    with contextlib.ExitStack() as stack:
        at = os.open(root, DIRECTORY)
        stack.callback(os.close, at)
        staging = os.open(said.staging, DIRECTORY, dir_fd=at)
        stack.callback(os.close, staging)
        # Parents first: what was made so that nobody may write in it was filled before, and is to be emptied now.
        for step in said.steps:
            with contextlib.suppress(OSError), _parent(at, _path(step.path)) as (parent, last):
                _loosen(parent, last, step)
        for step in reversed(said.steps):
            path = _path(step.path)
            try:
                with _parent(at, path) as (parent, last):
                    if not _put_back(parent, last, staging, step):
                        left.append(path)
            except (FileNotFoundError, NotADirectoryError):
                # The directory it would be in was never made, or is gone with what it had.
                if _there(staging, f"{step.staged}.old"):
                    left.append(path)
            except OSError:
                left.append(path)
    return left


def _loosen(parent: int, last: str, step: Step) -> None:
    now = look(parent, last)
    if step.kind == "mode" and now.kind in {"file", "directory"}:
        mode = step.mode
    elif step.kind == now.kind == "directory":
        mode = now.mode | 0o700
    else:
        return
    descriptor = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _put_back(parent: int, last: str, staging: int, step: Step) -> bool:
    now, old = look(parent, last), f"{step.staged}.old"
    if step.kind == "mode":
        return True
    kept = _there(staging, old)
    if step.kind in {"file", "link"} and now.kind == step.kind and now.inode == step.inode:
        os.unlink(last, dir_fd=parent)
    elif step.kind == "directory" and now.kind == "directory" and (kept or step.mode == 0):
        with contextlib.suppress(OSError):  # something else has come into it
            os.rmdir(last, dir_fd=parent)
    if not kept:
        return True
    if look(parent, last).kind != "absent":
        return False
    os.rename(old, last, src_dir_fd=staging, dst_dir_fd=parent)
    return True


def _there(directory: int, name: str) -> bool:
    return look(directory, name).kind != "absent"


@contextlib.contextmanager
def _parent(start: int, path: str) -> Iterator[tuple[int, str]]:
    *above, last = path.split("/")
    with contextlib.ExitStack() as stack:
        at = start
        for part in above:
            at = os.open(part, DIRECTORY, dir_fd=at)
            stack.callback(os.close, at)
        yield at, last


def _spelt(step: Step) -> Step:
    """With its path in hexadecimal: a name may be no text, and JSON has no half characters."""
    return msgspec.structs.replace(step, path=os.fsencode(step.path).hex())


def _path(spelt: str) -> str:
    return os.fsdecode(bytes.fromhex(spelt))


def _settle(directory: Path) -> None:
    descriptor = os.open(directory, DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
