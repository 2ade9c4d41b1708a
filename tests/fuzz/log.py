"""The log's verifier as a target: any bytes come to an outcome, and only what was signed as it is comes to `verified`.

Changes would all end at the block's digest: three of four are given counts, digests, tree and signature anew, by the
forge that makes the test vectors. Refuses nothing.

    fuzz(LOG, seed=1, inputs=1000, seconds=5)
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import replace

from capsule.audit.checkpoint import parse_line, parse_vkey
from capsule.audit.entry import EntryError, parse
from capsule.audit.verifier import Outcome, Report, verify
from tests.audit.forge import VECTORS, Forge, Signer, sound
from tests.fuzz.engine import Target
from tests.fuzz.mutation import cut

KEY, OTHER = parse_vkey(Signer().vkey), parse_vkey(Signer(bytes(32)).vkey)
_HEADER, _NOTE = b'{"block":', b'{"note":'


def repaired(data: bytes, chance: int) -> bytes:
    """The log that has the lines of `data` as entries, sound in all else; one time in four `data` itself."""
    return rebuilt(data) if chance else data


def rebuilt(data: bytes) -> bytes:
    """The log that the owner of the key would have written with these entries, cut and sealed where they are."""
    log, lines = Forge(), list[bytes]()

    def close(*, seal: bool) -> None:
        if lines:
            log.block(lines, seal=seal)
            lines.clear()

    for line in data.removesuffix(b"\n").split(b"\n"):
        if line.startswith(_HEADER):
            close(seal=False)
        elif line.startswith(_NOTE):
            close(seal=True)
        else:
            lines.append(line)
    close(seal=False)
    return log.data


def check(data: bytes) -> Iterable[Hashable]:
    """Verify `data`, whole and in pieces, under its key, another one and none; read each line on its own."""
    assert KEY is not None, "no key"
    assert OTHER is not None, "no other key"
    report = verify([data], key=KEY)
    told(report, data)
    pieces = verify(cut(len(data), data), key=KEY)
    # Only the words may differ: of a few bytes less can be said.
    assert replace(pieces, why=report.why) == report, "another outcome when it comes in pieces"
    if report.outcome is Outcome.VERIFIED:
        assert rebuilt(data) == data, "verified, and not as it was signed"
    for key in (OTHER, None):
        other = verify([data], key=key)
        told(other, data)
        assert other.outcome is not Outcome.VERIFIED, f"verified under {key}"
    for line in data.split(b"\n")[:40]:
        parse_line(line)
        try:
            parse(line)
        except EntryError:
            continue
    return (
        report.outcome,
        report.why[:80].rstrip("0123456789"),
        report.blocks.bit_length(),
        *report.warnings[:3],
    )


def told(report: Report, data: bytes) -> None:
    """What a report says of the bytes is possible."""
    assert 0 <= report.size <= len(data) >= report.offset, (
        f"{report.size} and {report.offset} of {len(data)} bytes"
    )
    assert report.blocks <= report.entries or not report.blocks, "a block without entries"
    assert report.sealed <= report.entries, "more is sealed than there is"


LOG = Target(
    "log",
    check,
    (sound().data, *(path.read_bytes() for path in sorted(VECTORS.glob("*.log")) if path.stat().st_size < 4096)),
    ("capsule/audit/",),
    (b"run.started", b"run.ended", b"log.gap", b"log.recovered", b"policy", b"enforced",
     b'{"degraded":["x"]}', b"\\u0000",
     b'"run":null', b"\n", b'{"note":"', b'{"block":'),
    repaired,
)  # fmt: skip
