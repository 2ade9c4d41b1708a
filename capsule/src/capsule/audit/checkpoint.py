"""Checkpoints: C2SP `tlog-checkpoint` bodies in `signed-note`s, and `tlog-proof` bundles; Ed25519 only.

Refuses notes with anything that could be written in two ways, keys of small order, signatures that only a lenient
verifier accepts, other signature algorithms.

    note = parse_note(text); assert note is not None and note.verify(key) is Verdict.GOOD
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from capsule.audit import merkle
from capsule.audit.chain import MAX_INTEGER

MAX_NOTE: Final = 16 * 1024
MAX_BUNDLE: Final = 256 * 1024
_ED25519: Final = 1
_MAGIC: Final = "c2sp.org/tlog-proof@v1"
_NAME = re.compile(r"[!-*,-~]+")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,15}")
_CHAIN = re.compile(r"blake3 ([0-9a-f]{64})")
# p = 2^255 - 19: a y-coordinate from p on is a second way to write a point.
_P: Final = 2**255 - 19
# The y-coordinates of the eight points whose order divides 8 (RFC 8032 §5.1; the curve's torsion subgroup).
_EIGHT: Final = 55188659117513257062467267217118295137698188065244968500265048394206261417927
_SMALL_ORDER_Y: Final = frozenset({0, 1, _P - 1, _EIGHT, _P - _EIGHT})


class Verdict(enum.Enum):
    """What a signature comes to."""

    GOOD = "good"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"


def _unbase64(text: str) -> bytes | None:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    # Python forgives stray bits in the last character; a second way to write the same bytes is no way here.
    return data if base64.b64encode(data).decode() == text else None


def _small_order(point: bytes) -> bool:
    y = int.from_bytes(point, "little") & ((1 << 255) - 1)
    return y >= _P or y in _SMALL_ORDER_Y


def number(text: str) -> int | None:
    """A decimal number below 2^53 without leading zeros."""
    return int(text) if _NUMBER.fullmatch(text) and int(text) <= MAX_INTEGER else None


def origin(log: str) -> str:
    """The origin of the log with this id."""
    return f"capsule.log/{log}"


@dataclass(frozen=True, slots=True)
class VKey:
    """A public key with its name (C2SP "vkey").

    Attributes:
        name: the origin of the log it signs.
        key: 32 bytes.
    """

    name: str
    key: bytes

    @property
    def hash(self) -> bytes:
        """The key's four-byte hash, as signatures name it."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([_ED25519]) + self.key).digest()[:4]

    def render(self) -> str:
        """`name+hash+base64`."""
        return f"{self.name}+{self.hash.hex()}+{base64.b64encode(bytes([_ED25519]) + self.key).decode()}"


def parse_vkey(text: str) -> VKey | None:
    """Read `name+hash+base64`; None when it is not an Ed25519 vkey, or one of a weak key."""
    parts = text.split("+", 2)
    if len(parts) != 3 or not _NAME.fullmatch(parts[0]):
        return None
    data = _unbase64(parts[2])
    if data is None or len(data) != 33 or data[0] != _ED25519:
        return None
    vkey = VKey(parts[0], data[1:])
    return vkey if vkey.hash.hex() == parts[1] and not _small_order(vkey.key) else None


@dataclass(frozen=True, slots=True)
class Note:
    """A checkpoint with its signatures.

    Attributes:
        origin: `capsule.log/<log id>`.
        size: the number of entries.
        root: the root of the tree over them.
        chain: the chain digest of the last block's header and entries.
        signatures: key name, key hash, signature.
        text: the note as it was read.
    """

    origin: str
    size: int
    root: bytes
    chain: bytes
    signatures: tuple[tuple[str, bytes, bytes], ...]
    text: str

    def verify(self, key: VKey) -> Verdict:
        """Whether `key` signed this note."""
        signature = next(
            (s for name, hash_, s in self.signatures if (name, hash_) == (key.name, key.hash)), None
        )
        if signature is None:
            return Verdict.UNKNOWN_KEY
        body = self.text[: self.text.index("\n\n") + 1].encode()
        if len(signature) != 64 or _small_order(signature[:32]) or _small_order(key.key):
            return Verdict.BAD_SIGNATURE
        try:
            Ed25519PublicKey.from_public_bytes(key.key).verify(signature, body)
        except (InvalidSignature, ValueError):
            return Verdict.BAD_SIGNATURE
        return Verdict.GOOD


def parse_note(text: str) -> Note | None:
    """Read a signed note; None for anything that is not exactly one."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_NOTE:
        return None
    body, found, tail = text.partition("\n\n")
    lines = body.split("\n")
    if not found or len(lines) != 4 or not _NAME.fullmatch(lines[0]) or not tail.endswith("\n"):
        return None
    size, root, chain = number(lines[1]), _unbase64(lines[2]), _CHAIN.fullmatch(lines[3])
    if size is None or root is None or len(root) != 32 or chain is None:
        return None
    signatures = []
    for line in tail[:-1].split("\n"):
        name, space, encoded = line.removeprefix("— ").partition(" ")
        data = _unbase64(encoded)
        if (
            not line.startswith("— ")
            or not space
            or not _NAME.fullmatch(name)
            or data is None
            or len(data) < 4
        ):
            return None
        signatures.append((name, data[:4], data[4:]))
    return Note(lines[0], size, root, bytes.fromhex(chain[1]), tuple(signatures), text)


def parse_line(line: bytes) -> Note | None:
    """Read a checkpoint line of a log (without its newline); None for any other way of writing it."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return None
    if not (text.startswith('{"note":"') and text.endswith('"}') and len(text) >= 11):
        return None
    text = text[9:-2]
    if '"' in text or "\n" in text or "\\" in text.replace("\\n", ""):
        return None
    note = parse_note(text.replace("\\n", "\n"))
    # On the log a note has exactly the log's own signature: another could be changed unseen.
    return note if note is not None and len(note.signatures) == 1 else None


@dataclass(frozen=True, slots=True)
class Bundle:
    """One entry's proof.

    Attributes:
        entry: the entry's line; empty when it is not in the bundle.
        index: the entry's seq.
        path: the hashes from the leaf's sibling up.
        note: the checkpoint.
    """

    entry: bytes
    index: int
    path: tuple[bytes, ...]
    note: Note

    def leads_from(self, entry: bytes) -> bool:
        """Whether the path leads from `entry` to the checkpoint's root, whoever signed that."""
        root = merkle.root_from_inclusion(self.index, self.note.size, merkle.leaf(entry), self.path)
        return root == self.note.root


def parse_bundle(text: str) -> Bundle | None:
    """Read a `tlog-proof`; None for anything that is not exactly one."""
    head, found, rest = text.partition("\n\n")
    lines = head.split("\n")
    if len(text) > MAX_BUNDLE or not found or lines[0] != _MAGIC or len(lines) < 2:
        return None
    del lines[0]
    entry: bytes | None = b""
    if lines[0].startswith("extra "):
        entry = _unbase64(lines.pop(0)[6:])
    index = number(lines[0][6:]) if lines and lines[0].startswith("index ") else None
    path = [_unbase64(line) for line in lines[1:]]
    note = parse_note(rest)
    if entry is None or index is None or note is None or len(path) > 63:
        return None
    hashes = tuple(node for node in path if node is not None and len(node) == 32)
    return Bundle(entry, index, hashes, note) if len(hashes) == len(path) else None
