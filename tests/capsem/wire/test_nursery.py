from __future__ import annotations

import pytest

from capsem.errors import WireError
from capsem.wire.nursery import Begin, decode, encode


@pytest.mark.parametrize("said", [Begin(session="/s"), Begin(session="/s", clone=True), Begin(template="/t")])
def test_what_is_said_is_understood(said: Begin) -> None:
    assert decode(encode(said), said.descriptors) == said


@pytest.mark.parametrize(
    "untrusted",
    [b"", b"{}", b"[]", b'{"session":"/s","template":"/t"}', b'{"template":"/t","clone":true}', b'{"session":1}',
     b'{"session":"/s","more":1}', b"\xff", b"[" * 5000],
)  # fmt: skip
def test_what_is_not_of_the_form_is_refused(untrusted: bytes) -> None:
    for descriptors in (2, 4):
        with pytest.raises(WireError):
            decode(untrusted, descriptors)


@pytest.mark.parametrize(("clone", "descriptors"), [(False, 0), (False, 3), (True, 2), (True, 5)])
def test_its_descriptors_have_to_come_with_it(clone: bool, descriptors: int) -> None:
    with pytest.raises(WireError, match=f"{descriptors} descriptors came"):
        decode(encode(Begin(session="/s", clone=clone)), descriptors)
