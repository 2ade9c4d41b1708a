"""One way to write each value: every other is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsule.audit.entry import MAX_INTEGER, EntryError, parse
from tests.audit.forge import entry
from tests.audit.forgeries import BAD_LINES

NAMES = st.from_regex(r"[A-Za-z0-9_.:/-]{1,20}", fullmatch=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


def depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def test_an_entry_is_read() -> None:
    found = parse(entry(7, "denied", "r-a_b", target="/etc/shadow"))
    assert (found.seq, found.kind, found.run, found.mono) == (7, "denied", "r-a_b", 7)
    assert found.fields["target"] == "/etc/shadow"
    assert parse(entry(0, "clock", None)).run is None


@pytest.mark.parametrize("name", [name for name in BAD_LINES if name != "other-seq"])
def test_every_other_way_of_writing_is_refused(name: str) -> None:
    with pytest.raises(EntryError):
        parse(BAD_LINES[name])


@given(VALUES)
def test_what_is_written_the_one_way_is_read_back(value: object) -> None:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True).replace("\x7f", "\\u007f")
    line = entry(1)[:-1] + b',"a":' + text.encode() + b"}"
    if depth(value) > 7:
        with pytest.raises(EntryError, match="deep"):
            parse(line)
    else:
        assert parse(line).fields["a"] == value


@given(st.binary(max_size=120), st.integers(0, 90))
def test_whatever_the_bytes_only_the_one_error_comes(junk: bytes, at: int) -> None:
    line = entry(1)
    for data in (junk, line[:at] + junk + line[at:]):
        try:
            found = parse(data)
        except EntryError:
            continue
        assert json.loads(data)["seq"] == found.seq
