"""A machine's workspace: a directory of the host, copied into it; what is there now; what it was like.

Kept below the machine's own directory: `base.json` (what was sent), `objects/` (contents by BLAKE3), `snapshots/`.
Refuses a machine that has no workspace, two verbs at once on one, and a tree that is over the limits.

    workspace = Workspace.of(machine)
    with workspace.held():
        await workspace.send(told)
        now = await workspace.fetch(told)
        differences(workspace.base(), now.tree)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from capsem.errors import ConflictError, NotFoundError, UsageError
from capsem.host import places, transfer
from capsem.host.lease import Lease
from capsem.host.objects import Objects, Writer
from capsem.host.packing import CHUNK, Packing
from capsem.host.progress import Progress
from capsem.host.service import call
from capsem.wire.archive import ArchiveReader, Limits, Member
from capsem.wire.packing import pieces
from capsem.workspace.guards import PRESETS, Guards
from capsem.workspace.tree import Node, Tree, decode, encode
from capsule.cli.files import POLICY_FILE, load_policy, policy_in_force

INSIDE = "/workspace"
LIMITS = Limits(names=300_000, size=4 << 30, depth=100)
_LARGEST = 256 << 20
"""Bytes of a file that describes a tree."""


@dataclass(slots=True)
class Found:
    """What a machine has in its workspace, as the machine says.

    Attributes:
        tree: by content; the contents are kept.
        special: names that are no files, directories or links, and what they are.
    """

    tree: dict[str, Node] = field(default_factory=dict)
    special: dict[str, str] = field(default_factory=dict)


def guards_of(root: Path) -> Guards:
    """What of a directory no machine gets or writes: by the presets, and by the policy that is in force there.

    Raises:
        PolicyError: that policy is not of the documented form.
    """
    policies = [load_policy(name) for name in PRESETS]
    own = policy_in_force(None, root)
    if Path(own).name == POLICY_FILE:
        policies.append(load_policy(own))
    return Guards(str(root), str(Path.home()), policies)


def root_of(directory: str | Path) -> Path:
    """The directory to be copied, absolute and without links.

    Raises:
        UsageError: it is none, or everything.
    """
    root = Path(directory).resolve()
    if not root.is_dir():
        raise UsageError(f"{directory} is no directory", next_step="name the directory to work on")
    if root in {Path("/"), Path.home()}:
        raise UsageError(f"{root} is more than a workspace", next_step="name the project's directory")
    return root


class Workspace:
    """The workspace of one machine.

    Attributes:
        root: the directory on the host.
        objects: contents that are kept for it.
        inside: where it is in the machine.
        user: whose files they are there; None: the machine's default.
    """

    def __init__(self, machine: str, socket: Path, root: Path, name: str) -> None:
        self.root = root
        self.name = name
        self.directory = places.session(machine) / "workspace"
        self.objects = Objects(self.directory / "objects")
        self.inside = INSIDE
        self.user: int | None = None
        self._socket = socket

    @classmethod
    def of(cls, machine: Mapping[str, Any], *, running: bool = True) -> Self:
        """The workspace of a machine as the service shows it.

        Raises:
            ConflictError: it has none, or does not run.
        """
        name = machine["name"] or machine["id"]
        if machine.get("workspace") is None:
            raise ConflictError(
                f"{name} has no workspace", next_step="give it one: capsem create --workspace DIR"
            )
        if machine.get("share") == "live":
            raise ConflictError(
                f"{name} shares {machine['workspace']} live: what it writes is there already, and there is no copy to "
                "compare, take over or go back to",
                next_step=f"git -C {machine['workspace']} diff; or create it with --share copy",
            )
        if running and machine["status"] is None:
            raise ConflictError(f"{name} is {machine['state']}", next_step=f"capsem start {name}")
        return cls(machine["id"], Path(machine["socket"]), Path(machine["workspace"]), name)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Kept from every other process meanwhile.

        Raises:
            ConflictError: another works on it.
        """
        self.directory.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise ConflictError(
                f"another verb works on the workspace of {self.name}", next_step="wait for its end"
            ) from None
        finally:
            os.close(descriptor)

    async def send(self, packing: Packing, told: transfer.Told = lambda _: None) -> None:
        """Copy the directory into the machine; what was sent is the base from now on."""
        packing.objects = self.objects
        await transfer.send(self._socket, self.inside, packing.pieces(), told, user=self.user)
        self.keep_base(packing.tree, left_out=packing.left_out)

    def base(self) -> dict[str, Node]:
        """What was sent.

        Raises:
            ConflictError: nothing was, to the end.
        """
        return self._base()[0]

    def _base(self) -> tuple[dict[str, Node], dict[str, Any]]:
        place = self.directory / "base.json"
        if not place.exists():
            raise ConflictError(
                f"what was copied into {self.name} is not known: the copy broke off, or it came from another machine",
                next_step="diff and apply there, or create another with --workspace",
            )
        return read_tree(place)

    def left_out(self) -> list[tuple[str, str]]:
        """What was not sent, and why."""
        return [(str(path), str(why)) for path, why in self._base()[1].get("left_out", [])]

    def keep_base(self, tree: Tree, *, left_out: list[tuple[str, str]]) -> None:
        """Remember what both sides have."""
        write_file(self.directory / "base.json", encode(tree, root=str(self.root), left_out=left_out))

    async def fetch(self, told: transfer.Told = lambda _: None) -> Found:
        """What the machine has now; contents are kept until the next `collect`.

        Raises:
            ArchiveError: what it sent is not what an archive may be.
        """
        receiving = _Receiving(self.objects)
        try:
            await transfer.fetch(self._socket, self.inside, receiving.feed, told, user=self.user)
            return receiving.finish()
        except BaseException:
            # Else a machine that lies every time would fill the disk, a little each time.
            self.collect()
            raise
        finally:
            receiving.close()

    async def restore(self, tree: Tree, told: transfer.Told = lambda _: None) -> None:
        """Make the machine's workspace this tree, whose contents are kept."""
        await transfer.send(self._socket, self.inside, self._pieces(tree), told, user=self.user, empty=True)

    def _pieces(self, tree: Tree) -> Iterator[bytes]:
        members: list[tuple[Member, Iterable[bytes]]] = [(Member("", "directory", 0o755), ())]
        for path, node in sorted(tree.items(), key=lambda one: one[0].split("/")):
            member = Member(path, node.kind, node.mode, node.mtime, node.size, node.target)
            members.append((member, self._content(node.digest) if node.kind == "file" else ()))
        return pieces(members, CHUNK)

    def _content(self, digest: str) -> Iterator[bytes]:
        with self.objects.path(digest).open("rb") as file:
            while data := file.read(CHUNK):
                yield data

    def collect(self) -> int:
        """Remove contents that neither the base nor a snapshot has; returns the bytes that are free now."""
        wanted: set[str] = set()
        for place in [self.directory / "base.json", *sorted((self.directory / "snapshots").glob("*.json"))]:
            if place.exists():
                wanted |= {node.digest for node in read_tree(place)[0].values()}
        return self.objects.collect(wanted)


def look_through(root: Path) -> Packing:
    """What of a directory would be sent.

    Raises:
        CapsuleError: the directory is over the limits, or its policy is wrong.
    """
    return Packing(root, leave=guards_of(root).withheld, limits=LIMITS)


async def make(
    body: Mapping[str, Any], progress: Progress, lease: Lease | None = None
) -> tuple[dict[str, Any], Packing]:
    """A machine as the service takes it, with its workspace copied into it; on an error there is none.

    Args:
        body: what is asked for.
        progress: told how far it is.
        lease: taken as soon as there is a machine.

    Raises:
        CapsuleError: the directory is over the limits, the machine could not be made, or the copy not be taken.
    """
    with contextlib.closing(look_through(Path(body["workspace"]))) as packing:
        progress.step("starting a machine")
        machine: dict[str, Any] = await call("POST", "/machines", body)
        try:
            if lease is not None:
                await lease.take(machine)
            workspace = Workspace.of(machine, running=False)
            progress.step(f"copying {len(packing.members) - 1} names, {packing.size / 1e6:.1f} MB")
            with workspace.held():
                await workspace.send(packing, lambda done: progress.at(min(1.0, done / (packing.size + 1))))
        except BaseException:
            await call("POST", f"/machines/{machine['id']}/delete", {"force": True})
            raise
    return machine, packing


class _Receiving:
    """An archive on its way into the store; nothing is made under a name that the guest gave."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._reader = ArchiveReader(LIMITS)
        self._found = Found()
        self._writer: Writer | None = None
        self._member: Member | None = None

    def feed(self, untrusted_data: bytes) -> None:
        for piece in self._reader.feed(untrusted_data):
            if isinstance(piece, bytes):
                if self._writer is not None:
                    self._writer.write(piece)
                continue
            self._end_file()
            if piece.kind == "special":
                self._found.special[piece.path] = piece.what
            elif piece.kind == "file":
                self._writer, self._member = self._objects.writer(), piece
            elif piece.path:
                self._found.tree[piece.path] = Node(piece.kind, piece.mode, 0, piece.mtime, "", piece.target)

    def _end_file(self) -> None:
        if self._writer is not None and self._member is not None:
            one = self._member
            self._found.tree[one.path] = Node("file", one.mode, one.size, one.mtime, self._writer.keep())
            self.close()

    def finish(self) -> Found:
        self._reader.finish()
        self._end_file()
        return self._found

    def close(self) -> None:
        if self._writer is not None:
            self._writer.__exit__(None, None, None)
            self._writer = None


def read_tree(place: Path) -> tuple[dict[str, Node], dict[str, Any]]:
    """The tree in a file of ours.

    Raises:
        NotFoundError: there is none.
        MachineError: it is none.
    """
    try:
        with place.open("rb") as file:
            return decode(file.read(_LARGEST), str(place))
    except FileNotFoundError as error:
        raise NotFoundError(f"{place} is not there", next_step="see capsem snapshot list") from error


def write_file(place: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    place.parent.mkdir(mode=0o700, exist_ok=True)
    fresh = place.with_name(place.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(place)
