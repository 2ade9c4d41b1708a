"""Take what changed in a machine's workspace over to the host's directory: reviewed name by name, all of it or nothing.

Uses Capsule's own review of layers: what is guarded there is guarded here, and every name is put in its place by a
descriptor, never over a link, with what stood there kept until the last one is in place. Refuses nothing silently: a
change carries why it is refused, or in conflict because the host's side is no longer what the machine was given.

    reviewed = review(workspace, found, paths=("src",))
    take_over(workspace, found, reviewed)
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from blake3 import blake3

from capsem.errors import ConflictError, NotFoundError
from capsem.host.beneath import DIRECTORY, open_beneath
from capsem.host.workspace import Found, Workspace, guards_of
from capsem.wire.archive import leads_out
from capsem.workspace.tree import Difference, Node, Tree, below, differences
from capsule.overlay.apply import Application
from capsule.overlay.change import ABSENT, Change, Entry
from capsule.overlay.journal import recover
from capsule.overlay.layer import look
from capsule.overlay.manifest import OverlayError

_BLOCK = 1 << 20


@dataclass(slots=True)
class Reviewed:
    """What would happen.

    Attributes:
        changes: what is to be taken over; some may be refused or in conflict.
        already: names that the host has as the machine has them.
        differences: those the changes were made of, by name.
    """

    changes: list[Change] = field(default_factory=list)
    already: list[str] = field(default_factory=list)
    differences: dict[str, Difference] = field(default_factory=dict)

    @property
    def refused(self) -> list[Change]:
        """What is never taken over."""
        return [one for one in self.changes if one.refused is not None]

    @property
    def conflicts(self) -> list[Change]:
        """Where the host changed meanwhile."""
        return [one for one in self.changes if one.refused is None and one.conflict is not None]

    @property
    def wanted(self) -> list[Change]:
        """What can be taken over."""
        return [one for one in self.changes if one.refused is None and one.conflict is None]


def review(workspace: Workspace, found: Found, paths: tuple[str, ...] = ()) -> Reviewed:
    """Judge every difference between what the machine was given and what it has.

    Raises:
        NotFoundError: one of `paths` names nothing that changed.
    """
    base = workspace.base()
    put_in_order(workspace)
    changed = differences(base, found.tree)
    wanted = _with_parents([one for one in changed if below(one.path, paths)], changed)
    special = {path: what for path, what in found.special.items() if below(path, paths)}
    for path in paths:
        if not any(below(one.path, (path,)) for one in wanted) and not any(
            below(one, (path,)) for one in special
        ):
            raise NotFoundError(f"nothing changed at {path}", next_step=f"see capsem diff {workspace.name}")
    guards = guards_of(workspace.root)
    root = _opened(workspace.root)
    reviewed = Reviewed()
    try:
        gone: list[str] = []
        blocked: list[str] = []
        for one in wanted:
            if one.after is None and any(one.path.startswith(above + "/") for above in gone):
                continue  # what replaces the directory takes it away
            change, same = _judged(root, one, base, reviewed)
            if same:
                reviewed.already.append(one.path)
                reviewed.differences[one.path] = one
                continue
            if one.action == "replaced" and one.before is not None and one.before.kind == "directory":
                gone.append(one.path)
            change = replace(change, refused=change.refused or guards.unwritable(change, base.keys()))
            if one.after is not None and any(one.path.startswith(above + "/") for above in blocked):
                change = replace(
                    change, conflict=change.conflict or "the directory it lies in is not taken over"
                )
            if (
                one.after is not None
                and one.after.kind == "directory"
                and (change.refused or change.conflict)
            ):
                blocked.append(one.path)
            reviewed.changes.append(change)
            reviewed.differences[one.path] = one
        for path, what in sorted(special.items()):
            reviewed.changes.append(
                Change(path, "added", ABSENT, Entry("special", what=what), refused=f"it is a {what}")
            )
    finally:
        os.close(root)
    return reviewed


def put_in_order(workspace: Workspace) -> None:
    """Put back what taking over that was killed had done in part, and remove what it left.

    Raises:
        ConflictError: something else stands there by now.
    """
    try:
        recover(workspace.root, workspace.directory)
    except OverlayError as error:
        raise ConflictError(error.message, next_step=error.next_step) from error
    for left in workspace.directory.glob("upper-*"):
        shutil.rmtree(left)


def _opened(root: Path) -> int:
    try:
        return os.open(root, DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise NotFoundError(
            f"{root}: {error.strerror}", next_step="put the directory back to where it was copied from"
        ) from error


def _with_parents(wanted: list[Difference], changed: list[Difference]) -> list[Difference]:
    """Those, and the directories that have to be made for them."""
    made = {one.path: one for one in changed if one.after is not None and one.after.kind == "directory"}
    names = {one.path for one in wanted}
    for one in wanted:
        if one.after is None:
            continue
        above = one.path
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in made and made[above].action in {"added", "replaced"}:
                names.add(above)
    return [one for one in changed if one.path in names]


def _judged(root: int, one: Difference, base: Tree, reviewed: Reviewed) -> tuple[Change, bool]:
    """The change as Capsule knows it, and whether the host has it already."""
    entry, node, why = _on_host(root, one.path)
    after = (
        ABSENT
        if one.after is None
        else Entry(one.after.kind, one.after.mode, one.after.size, one.after.target)
    )
    change = Change(one.path, one.action, entry, after)
    if one.after is not None and one.after.kind == "link" and leads_out(one.path, one.after.target):
        change = replace(change, refused="it is a link that leads out")
    if why is not None:
        return replace(change, conflict=why), False
    if one.after is None and node is None and entry.kind == "absent":
        return change, True
    if one.after is not None and node is not None and node.same_content(one.after):  # noqa: SIM102 - two questions
        if node.mode == one.after.mode or node.kind == "link":
            return change, True
    return replace(change, conflict=_conflict(root, one, base, reviewed, now=(entry, node))), False


def _conflict(
    root: int, one: Difference, base: Tree, reviewed: Reviewed, *, now: tuple[Entry, Node | None]
) -> str | None:
    entry, node = now
    if one.before is None:
        if entry.kind != "absent":
            return "it appeared on the host since the copy"
        above = one.path.rpartition("/")[0]
        made = reviewed.differences.get(above)
        if above and (made is None or made.after is None):
            there = _on_host(root, above)[0]
            if there.kind != "directory":
                return f"{above} is no directory on the host any more"
        return None
    if entry.kind == "absent":
        return "it was removed on the host since the copy"
    if node is None or not node.same_content(one.before):
        return "it changed on the host since the copy"
    if one.action == "mode" and node.mode != one.before.mode:
        return "its mode changed on the host since the copy"
    if one.before.kind == "directory" and one.action == "replaced":
        return _differs_below(root, one.path, base)
    return None


def _differs_below(root: int, path: str, base: Tree) -> str | None:
    """What in a directory that is to be replaced is not as it was sent, or None."""
    directory = open_beneath(root, path, DIRECTORY)
    try:
        names = os.listdir(directory)  # noqa: PTH208 - a descriptor
    finally:
        os.close(directory)
    for name in sorted(names):
        inner = f"{path}/{name}"
        _, node, why = _on_host(root, inner)
        if why is not None or inner not in base or node is None or not node.same_content(base[inner]):
            return f"{name} in it is not what was copied"
        if node.kind == "directory" and (found := _differs_below(root, inner, base)):
            return found
    return None


def _on_host(root: int, path: str) -> tuple[Entry, Node | None, str | None]:
    """What the host has under a name, by content; and why that cannot be told."""
    above, _, last = path.rpartition("/")
    try:
        parent = open_beneath(root, above, DIRECTORY)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.EXDEV}:
            return ABSENT, None, f"{above} is or has become a link on the host"
        if error.errno in {errno.ENOENT, errno.ENOTDIR}:
            return ABSENT, None, None
        return ABSENT, None, f"{above}: {error.strerror}"
    try:
        entry = look(parent, last)
        if entry.kind == "absent":
            return entry, None, None
        mode = entry.mode & 0o777
        if entry.kind == "file":
            return entry, Node("file", mode, entry.size, 0, _digest(parent, last)), None
        if entry.kind == "link":
            return entry, Node("link", mode, target=entry.target), None
        return entry, Node("directory", mode) if entry.kind == "directory" else None, None
    except OSError as error:
        return ABSENT, None, f"it cannot be read: {error.strerror}"
    finally:
        os.close(parent)


def _digest(parent: int, name: str) -> str:
    descriptor = open_beneath(parent, name, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file any more", name)
        digest = blake3()
        while data := os.read(descriptor, _BLOCK):
            digest.update(data)
        return str(digest.hexdigest())
    finally:
        os.close(descriptor)


def take_over(workspace: Workspace, reviewed: Reviewed) -> list[str]:
    """Put what can be taken over in its place, all or nothing; returns directories that stay, since they hold more.

    The base then has what the host has, so that a second time finds nothing.

    Raises:
        ConflictError: something on the host changed just now; everything was put back.
    """
    wanted = reviewed.wanted
    emptied = [one for one in wanted if one.action == "removed" and one.before.kind == "directory"]
    placed = [one for one in wanted if one not in emptied]
    upper = Path(tempfile.mkdtemp(prefix="upper-", dir=workspace.directory))
    try:
        _lay(workspace, upper, placed, reviewed)
        with Application(workspace.root, upper) as application:
            for change in placed:
                application.stage(change)
            application.commit()
    except OverlayError as error:
        raise ConflictError(error.message, next_step=error.next_step) from error
    except OSError as error:
        raise ConflictError(
            f"{error.filename or workspace.root}: {error.strerror}; everything was put back",
            next_step="see what the host has there, and repeat",
        ) from error
    finally:
        shutil.rmtree(upper)
    stay = _removed(workspace.root, emptied)
    base = workspace.base()
    for path in [*(one.path for one in wanted if one.path not in stay), *reviewed.already]:
        one = reviewed.differences[path]
        if one.before is not None and one.before.kind == "directory" and one.action != "mode":
            base = {
                name: node for name, node in base.items() if name != path and not name.startswith(path + "/")
            }
        if one.after is None:
            base.pop(path, None)
        else:
            base[path] = one.after
    workspace.keep_base(base, left_out=workspace.left_out())
    return sorted(stay)


def _lay(workspace: Workspace, upper: Path, placed: list[Change], reviewed: Reviewed) -> None:
    """The new contents as a directory of ours, from which they are taken over."""
    for change in placed:
        after = reviewed.differences[change.path].after
        if after is None or change.action == "mode" or after.kind == "directory":
            continue
        place = upper / change.path
        place.parent.mkdir(parents=True, exist_ok=True)
        if after.kind == "link":
            place.symlink_to(after.target)
        else:
            os.link(workspace.objects.path(after.digest), place)


def _removed(root: Path, emptied: list[Change]) -> set[str]:
    """Remove directories, the deepest first; returns those that are not empty."""
    stay = set()
    at = _opened(root)
    try:
        for change in reversed(emptied):
            above, _, last = change.path.rpartition("/")
            try:
                parent = open_beneath(at, above, DIRECTORY)
            except OSError:
                continue  # it is gone with what was above it
            try:
                os.rmdir(last, dir_fd=parent)
            except OSError:
                stay.add(change.path)
            finally:
                os.close(parent)
    finally:
        os.close(at)
    return stay
