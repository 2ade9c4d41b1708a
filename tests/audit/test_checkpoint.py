"""Notes, keys and proofs: one form each, one key, strictly."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from capsule.audit.checkpoint import Verdict, VKey, number, parse_bundle, parse_line, parse_note, parse_vkey
from capsule.audit.merkle import leaf
from tests.audit.forge import LOG, OTHER_SEED, SEED, Signer, tree

SIGNER = Signer()
NOTE = SIGNER.note(12, bytes([3]) * 32, bytes([4]) * 32)
KEY = VKey(SIGNER.name, SIGNER.public[1:])


def accepted(text: str) -> bool:
    note = parse_note(text)
    return note is not None and note.verify(KEY) is Verdict.GOOD


def test_a_note_reads_back_and_verifies() -> None:
    note = parse_note(NOTE)
    assert note is not None
    assert (note.origin, note.size, note.root, note.chain) == (
        f"capsule.log/{LOG}",
        12,
        b"\3" * 32,
        b"\4" * 32,
    )
    assert note.verify(KEY) is Verdict.GOOD
    assert parse_vkey(KEY.render()) == KEY
    assert SIGNER.vkey == KEY.render()


def test_other_keys_are_unknown() -> None:
    note = parse_note(NOTE)
    assert note is not None
    for other in (Signer(OTHER_SEED), Signer(SEED, "ff" * 16)):
        key = parse_vkey(other.vkey)
        assert key is not None
        assert note.verify(key) is Verdict.UNKNOWN_KEY


# The eight points of small order, as RFC 8032 writes them, and two that are written in a second way.
WEAK = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("point", WEAK)
def test_weak_keys_are_refused(point: str) -> None:
    assert parse_vkey(VKey("n", bytes.fromhex(point)).render()) is None


@pytest.mark.parametrize("point", WEAK)
def test_commitments_of_small_order_are_refused(point: str) -> None:
    body, _, _ = NOTE.partition("\n\n")
    forged = base64.b64encode(SIGNER.hash + bytes.fromhex(point) + bytes(32)).decode()
    note = parse_note(f"{body}\n\n— {SIGNER.name} {forged}\n")
    assert note is not None
    assert note.verify(KEY) is Verdict.BAD_SIGNATURE


def test_other_algorithms_are_refused() -> None:
    key = b"\x02" + SIGNER.public[1:]
    hash_ = hashlib.sha256(SIGNER.name.encode() + b"\n" + key).digest()[:4].hex()
    assert parse_vkey(f"{SIGNER.name}+{hash_}+{base64.b64encode(key).decode()}") is None


@given(st.integers(0, len(NOTE.encode()) - 1), st.integers(0, 7))
def test_any_changed_byte_of_a_note_is_found(at: int, bit: int) -> None:
    data = bytearray(NOTE.encode())
    data[at] ^= 1 << bit
    assert not accepted(data.decode("utf-8", "replace"))


@given(st.text(max_size=200))
def test_whatever_the_text_reading_never_fails(text: str) -> None:
    for form in (text, text + NOTE, NOTE + text, NOTE.replace("\n\n", f"\n{text}\n\n")):
        assert not accepted(form) or form == NOTE
    assert parse_vkey(text) is None
    assert parse_bundle(text) is None
    assert parse_line(text.encode("utf-8", "replace")) is None


def test_numbers_have_one_form() -> None:
    assert (number("0"), number("9007199254740991")) == (0, 2**53 - 1)
    for text in ("", "00", "01", "+1", "-1", "1 ", "9007199254740992", "٣", "1_0"):
        assert number(text) is None


def test_a_bundle_shows_its_entry_only() -> None:
    leaves = [b"one", b"two"]
    note = SIGNER.note(2, tree(leaves), bytes(32))
    hash_ = base64.b64encode(leaf(b"one")).decode()
    text = f"c2sp.org/tlog-proof@v1\nextra {base64.b64encode(b'two').decode()}\nindex 1\n{hash_}\n\n{note}"
    bundle = parse_bundle(text)
    assert bundle is not None
    assert (bundle.index, bundle.entry, bundle.note.verify(KEY)) == (1, b"two", Verdict.GOOD)
    assert bundle.leads_from(b"two")
    assert not bundle.leads_from(b"one")
    for old, new in [
        ("@v1", "@v2"),
        ("index 1", "index 01"),
        ("extra ", "extra\t"),
        (hash_, hash_[:-4]),
        ("\n\n", "\n"),
    ]:
        assert parse_bundle(text.replace(old, new, 1)) is None


def test_a_key_of_another_length_is_no_key() -> None:
    private = Ed25519PrivateKey.from_private_bytes(SEED)
    short = VKey("n", private.public_key().public_bytes_raw()[:-1])
    assert parse_vkey(short.render()) is None
