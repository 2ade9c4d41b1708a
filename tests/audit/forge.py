"""Logs made by hand, with a key of our own: sound ones, and every way of being wrong. Writes tests/vectors/audit.

Independent of both verifiers as far as it can be: it hashes and signs by itself.

    uv run python -m tests.audit.forge        # rewrite the vectors
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "audit"
LOG = "00112233445566778899aabbccddeeff"
SEED = bytes(range(32))
OTHER_SEED = bytes(range(1, 33))
ZERO = "blake3:" + "0" * 64


def chained(data: bytes) -> bytes:
    return blake3(data, derive_key_context="capsule audit-log v1 block").digest()


def tree(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 §2.1, word for word."""
    if len(leaves) <= 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest() if leaves else hashlib.sha256().digest()
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + tree(leaves[:k]) + tree(leaves[k:])).digest()


@dataclass
class Signer:
    seed: bytes = SEED
    log: str = LOG

    @property
    def name(self) -> str:
        return f"capsule.log/{self.log}"

    @property
    def public(self) -> bytes:
        return b"\x01" + Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + self.public).digest()[:4]

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.hash.hex()}+{base64.b64encode(self.public).decode()}"

    def note(self, size: int, root: bytes, chain: bytes) -> str:
        body = f"{self.name}\n{size}\n{base64.b64encode(root).decode()}\nblake3 {chain.hex()}\n"
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(body.encode())
        return f"{body}\n— {self.name} {base64.b64encode(self.hash + signature).decode()}\n"


def entry(seq: int, kind: str = "exec", run: str | None = "r-1", **fields: Any) -> bytes:
    head = {"seq": seq, "time": "2026-11-22T12:00:00.000000Z", "mono": seq, "run": run, "type": kind}
    return json.dumps(head | fields, separators=(",", ":"), ensure_ascii=False).encode()


@dataclass
class Forge:
    """A log that grows block by block, and can be told to lie."""

    signer: Signer = field(default_factory=Signer)
    data: bytes = b""
    leaves: list[bytes] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    prev: bytes = bytes(32)
    notes: list[str] = field(default_factory=list)

    def genesis(self, **changes: Any) -> Forge:
        fields: dict[str, Any] = {
            "format": 1,
            "log": self.signer.log,
            "chain": "blake3",
            "tree": "rfc6962-sha256",
            "key": self.signer.vkey,
        }
        kind = changes.pop("kind", "log.created")
        return self.block([entry(0, kind, None, **(fields | changes))])

    def block(
        self,
        lines: Sequence[bytes],
        *,
        seal: bool = True,
        header: Callable[[dict[str, Any]], dict[str, Any]] = lambda header: header,
        note: Callable[[str], str] = lambda note: note,
        root: bytes | None = None,
        size: int | None = None,
        chain: bytes | None = None,
        signer: Signer | None = None,
    ) -> Forge:
        body = b"".join(line + b"\n" for line in lines)
        fields = {
            "block": len(self.starts),
            "prev": f"blake3:{self.prev.hex()}",
            "first": len(self.leaves),
            "count": len(lines),
            "bytes": len(body),
        }
        data = json.dumps(header(fields), separators=(",", ":")).encode() + b"\n" + body
        self.starts.append(len(self.data))
        self.leaves += lines
        if seal:
            text = (signer or self.signer).note(
                len(self.leaves) if size is None else size, root or tree(self.leaves), chain or chained(data)
            )
            self.notes.append(text)
            data += b'{"note":"' + note(text).replace("\n", "\\n").encode() + b'"}\n'
        self.prev = chained(data)
        self.data += data
        return self

    def next(self, count: int = 1, kind: str = "exec", **fields: Any) -> list[bytes]:
        first = len(self.leaves)
        return [entry(first + n, kind, **fields) for n in range(count)]


def sound() -> Forge:
    """Six blocks, eleven entries, two of the blocks without a checkpoint."""
    log = Forge().genesis()
    log.block(log.next(1, "run.started", command=["git", "status"], cwd="/home/é"))
    log.block(log.next(4, path="/usr/bin/git"), seal=False)
    log.block(log.next(2, "denied", target="/etc/shadow", layer="landlock"), seal=False)
    log.block(log.next(2, path="/bin/\u202etrue"))
    log.block(log.next(1, "run.ended", code=0))
    return log


@dataclass(frozen=True)
class Case:
    name: str
    data: bytes
    outcome: str
    block: int | None = None
    key: str | None = Signer().vkey
    since: str | None = None


def cases() -> list[Case]:
    from tests.audit.forgeries import forgeries

    log = sound()
    return [
        Case("sound", log.data, "verified", 6),
        Case("sound-since", log.data, "verified", since=log.notes[1]),
        Case("no-key", log.data, "unauthenticated", key=None),
        *forgeries(log),
    ]


def main() -> None:
    VECTORS.mkdir(parents=True, exist_ok=True)
    for old in VECTORS.glob("*"):
        old.unlink()
    expected = []
    for case in cases():
        (VECTORS / f"{case.name}.log").write_bytes(case.data)
        row: dict[str, Any] = {"name": case.name, "outcome": case.outcome, "key": case.key}
        expected.append(row | {"block": case.block, "since": case.since})
    (VECTORS / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
