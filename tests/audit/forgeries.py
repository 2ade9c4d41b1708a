"""Every way in which a log can be wrong, made from a sound one, with the outcome it must have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.audit.forge import Case, Forge

HEAD = b'{"seq":1,"time":"2026-11-22T12:00:00.000000Z","mono":1,"run":"r-1","type":"exec"'
# Lines that some JSON reader somewhere takes, and this dialect does not.
BAD_LINES = {
    "duplicate-name": HEAD + b',"a":1,"a":2}',
    "duplicate-head": HEAD + b',"seq":1}',
    "duplicate-nested": HEAD + b',"a":{"b":1,"b":1}}',
    "float": HEAD + b',"a":1.0}',
    "exponent": HEAD + b',"a":1e3}',
    "nan": HEAD + b',"a":NaN}',
    "infinity": HEAD + b',"a":-Infinity}',
    "minus-zero": HEAD + b',"a":-0}',
    "leading-zero": HEAD + b',"a":01}',
    "huge-integer": HEAD + b',"a":9007199254740992}',
    "huger-integer": HEAD + b',"a":' + b"9" * 5000 + b"}",
    "deep": HEAD + b',"a":' + b"[" * 8 + b"]" * 8 + b"}",
    "very-deep": HEAD + b',"a":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "many-members": HEAD + b"".join(b',"m%d":1' % n for n in range(60)) + b"}",
    "not-utf8": HEAD + b',"a":"\xff"}',
    "overlong-utf8": HEAD + b',"a":"\xc0\xaf"}',
    "surrogate-utf8": HEAD + b',"a":"\xed\xa0\x80"}',
    "lone-surrogate": HEAD + b',"a":"\\ud800"}',
    "raw-control": HEAD + b',"a":"\x1b"}',
    "raw-del": HEAD + b',"a":"\x7f"}',
    "raw-c1": HEAD + b',"a":"\xc2\x9b"}',
    "upper-escape": HEAD + b',"a":"\\u00E9"}',
    "needless-escape": HEAD + b',"a":"\\/"}',
    "escaped-name": HEAD + b',"\\u0061":1}',
    "space": HEAD + b', "a":1}',
    "carriage-return": HEAD + b"}\r",
    "trailing": HEAD + b"}}",
    "not-closed": HEAD,
    "other-order": b'{"seq":1,"mono":1,"time":"2026-11-22T12:00:00.000000Z","run":"r-1","type":"exec"}',
    "no-time": HEAD.replace(b"12:00:00.", b"12:60:00.") + b"}",
    "bad-run": HEAD.replace(b"r-1", b"1") + b"}",
    "bad-type": HEAD.replace(b"exec", b"Exec") + b"}",
    "other-seq": HEAD.replace(b'"seq":1', b'"seq":2') + b"}",
    "empty-line": b"",
}


def forgeries(log: Forge) -> Iterator[Case]:
    from tests.audit.forge import OTHER_SEED, Case, Forge, Signer, entry

    data, starts, ends = log.data, log.starts, [*log.starts[1:], len(log.data)]
    blocks = [data[a:b] for a, b in zip(starts, ends, strict=True)]
    kept = log.notes[-1]

    # Bytes changed by somebody without the key.
    yield Case("edited", data.replace(b"/etc/shadow", b"/etc/shadoW", 1), "chain_broken", 3)
    yield Case("edited-last", data.replace(b'"code":0', b'"code":1'), "chain_broken", 5)
    yield Case("dropped-block", b"".join(blocks[:2] + blocks[3:]), "chain_broken", 1)
    yield Case(
        "swapped-blocks", b"".join([*blocks[:2], blocks[3], blocks[2], *blocks[4:]]), "chain_broken", 1
    )
    yield Case("doubled-block", b"".join(blocks[:3] + blocks[2:]), "chain_broken", 2)
    body = blocks[2].index(b"\n") + 1
    dropped = blocks[2][:body] + blocks[2][blocks[2].index(b"\n", body) + 1 :]
    yield Case("dropped-line", b"".join([*blocks[:2], dropped, *blocks[3:]]), "malformed", 2)
    yield Case("no-genesis", b"".join(blocks[1:]), "chain_broken", 0)
    yield Case("garbage", b"not a log\n", "malformed", 0)
    yield Case("garbage-after", data + b"x\n", "malformed", 6)
    yield Case("empty", b"", "malformed", 0)
    yield Case("nul-after", data + bytes(4096), "malformed", 6)

    # Ends.
    yield Case("torn-header", data[: starts[5] + 20], "torn", 5)
    yield Case("torn-entry", data[: starts[4] + 200], "torn", 4)
    yield Case("torn-checkpoint", data[:-10], "torn", 6)
    yield Case("unsealed", b"".join(blocks[:4]), "unsealed", 4)
    yield Case("truncated", b"".join(blocks[:4]), "truncated", since=kept)
    yield Case("truncated-torn", data[: starts[4] + 200], "truncated", since=kept)
    yield Case("cut-checkpoint", data[: data.rindex(b'{"note"')], "unsealed", 6, since=kept)
    yield Case("rolled-back", b"".join(blocks[:2]), "rolled_back", since=kept)

    # Rebuilt, and signed again.
    stranger = Forge(Signer(OTHER_SEED)).genesis()
    stranger.block(stranger.next(10))
    yield Case("other-key", stranger.data, "unknown_key", 0)
    yield Case("other-key-alone", stranger.data, "unauthenticated", key=None)
    renamed = Forge(Signer(log="ff" * 16)).genesis()
    yield Case("other-log", renamed.data, "unknown_key", 0)
    fork = Forge().genesis()
    fork.block(fork.next(10, target="/other"))
    yield Case("forked", fork.data, "forked", since=kept)
    resealed = Forge().genesis()
    for lines in ([log.leaves[1]], log.leaves[2:11]):
        resealed.block(lines)
    yield Case("blocks-cut-differently", resealed.data, "forked", since=kept)

    # Checkpoints that do not fit.
    def ended(**lie: Any) -> bytes:
        forged = Forge().genesis()
        return forged.block(forged.next(2), **lie).data

    yield Case("wrong-root", ended(root=bytes(32)), "tree_broken", 1)
    yield Case("wrong-size", ended(size=2), "tree_broken", 1)
    yield Case("wrong-chain", ended(chain=bytes(32)), "chain_broken", 1)
    yield Case("spliced-checkpoint", ended(signer=Signer(log="ff" * 16)), "tree_broken", 1)
    yield Case("wrong-signer", ended(signer=Signer(OTHER_SEED)), "unknown_key", 1)
    broken = ended(note=lambda note: note[:-12] + ("AAAA" if note[-12:-8] != "AAAA" else "BBBB") + note[-8:])
    yield Case("bad-signature", broken, "bad_signature", 1)
    unsigned = ended(note=lambda note: note[: note.index("\n\n") + 2])
    yield Case("no-signature", unsigned, "malformed", 1)
    yield Case("second-signature", ended(note=lambda note: note + note[note.index("—") :]), "malformed", 1)
    yield Case(
        "checkpoint-escaped",
        ended(note=lambda note: note.replace("capsule", "\\u0063apsule")),
        "malformed",
        1,
    )
    yield Case(
        "checkpoint-extension", ended(note=lambda note: note.replace("\n\n", "\nmore\n\n")), "malformed", 1
    )
    yield Case("second-checkpoint", log.data + log.data[log.data.rindex(b'{"note"') :], "malformed", 6)

    # Headers that lie.
    def headed(**lie: object) -> bytes:
        forged = Forge().genesis()
        return forged.block(forged.next(2), header=lambda header: header | lie).data

    yield Case("header-number", headed(block=7), "chain_broken", 1)
    yield Case("header-first", headed(first=7), "chain_broken", 1)
    yield Case("header-prev", headed(prev="blake3:" + "1" * 64), "chain_broken", 0)
    yield Case("header-count", headed(count=1), "malformed", 1)
    yield Case("header-none", headed(count=0), "malformed", 1)
    yield Case("header-huge", headed(bytes=65537), "malformed", 1)
    yield Case("header-hash", headed(prev="sha256:" + "1" * 64), "malformed", 1)
    yield Case("header-field", headed(more=1), "malformed", 1)

    # Other versions and algorithms, and beginnings that are none.
    other: dict[str, Any]
    for other in ({"format": 2}, {"chain": "sha1"}, {"tree": "sha1"}):
        yield Case(f"algorithm-{next(iter(other))}", Forge().genesis(**other).data, "algorithm", 0)
    yield Case("algorithm-true", Forge().genesis(format=True).data, "algorithm", 0)
    yield Case("begins-otherwise", Forge().genesis(kind="exec").data, "malformed", 0)
    yield Case("no-log-id", Forge().genesis(log="../../etc/passwd").data, "malformed", 0)
    created = Forge().genesis().leaves[0]
    yield Case("begins-with-two", Forge().block([created, entry(1)]).data, "malformed", 0)
    # An inner node's preimage as a leaf: it is no entry, and a leaf's prefix is another.
    preimage = bytes([1]) + bytes(64)
    yield Case("second-preimage", Forge().genesis().block([preimage]).data, "malformed", 1)
    for name, bad in BAD_LINES.items():
        yield Case(f"line-{name}", Forge().genesis().block([bad]).data, "malformed", 1)
