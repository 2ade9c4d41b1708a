"""Where a block ends, and the one form of its header."""

from __future__ import annotations

from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from capsule.audit.chain import Block, Header, Malformed, More, Torn, digest, parse_header, split

HEADER = Header(block=3, prev=bytes([9]) * 32, first=12, count=2, size=6)
BLOCK = HEADER.render() + b"{a}\n \n"
NOTED = BLOCK + b'{"note":"x"}\n'


def test_a_link_is_not_a_plain_digest() -> None:
    assert digest(b"x") != blake3(b"x").digest()
    assert digest(b"x") == blake3(b"x", derive_key_context="capsule audit-log v1 block").digest()


def test_a_header_has_one_form() -> None:
    line = HEADER.render().rstrip()
    assert parse_header(line) == HEADER
    for old, new in [
        (b'"block":3', b'"block":03'),
        (b'{"block"', b'{ "block"'),
        (b'"count":2', b'"count":0'),
        (b'"bytes":6', b'"bytes":65537'),
        (b"0909", b"0A09"),
        (b'"first":12', b'"first":9007199254740992'),
        (b"}", b"} "),
    ]:
        assert parse_header(line.replace(old, new, 1)) is None


def test_a_block_is_found_or_cut() -> None:
    assert split(BLOCK + HEADER.render(), end=False) == Block(HEADER, len(HEADER.render()), 0)
    for cut in range(1, len(BLOCK)):
        assert split(BLOCK[:cut], end=True) == Torn()
        assert split(BLOCK[:cut], end=False) == More()
    assert split(BLOCK, end=False) == More()
    assert isinstance(split(BLOCK, end=True), Block)
    assert isinstance(split(b"garbage", end=True), Malformed)


def test_a_torn_checkpoint_leaves_its_block_whole() -> None:
    found = split(NOTED, end=True)
    assert isinstance(found, Block)
    assert (found.note, found.checkpoint(NOTED)) == (13, b'{"note":"x"}')
    cut = split(NOTED[:-1], end=True)
    assert isinstance(cut, Block)
    assert cut.note == 0
    assert split(NOTED[cut.length : -1], end=True) == Torn()
    assert split(NOTED[:-1], end=False) == More()


@given(st.binary(max_size=400), st.booleans(), st.integers(0, 200))
def test_splitting_never_fails_and_never_finds_too_much(junk: bytes, end: bool, at: int) -> None:
    for data in (junk, NOTED[:at] + junk + NOTED[at:]):
        found = split(data, end=end)
        if isinstance(found, Block):
            assert found.length <= len(data)
