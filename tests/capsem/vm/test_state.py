"""States as QEMU writes them, made small: a mark, a version, sections with a footer. Real ones are in tests/vm."""

from __future__ import annotations

import pytest

from capsem.errors import MachineError
from capsem.vm.state import put_together

HEAD = b"QEVM\0\0\0\3"
NAME = b"\5timer" + bytes(7) + b"\2"


def section(number: int, content: bytes) -> bytes:
    identity = number.to_bytes(4, "big")
    return b"\x04" + identity + NAME + content + b"\x7e" + identity


MEMORY = b"\x03\0\0\0\2firmware\x04\0\0\0\0\x05time" + b"\x7e\0\0\0\2"


def test_memory_is_of_the_beginning_and_devices_are_of_now() -> None:
    began = HEAD + MEMORY + section(0, b"then") + b"\0" + b"\x06\0\0\0\3{1}"
    devices = HEAD + section(0, b"now!") + section(1, b"another") + b"\0"
    whole = put_together(began, devices)
    assert whole == HEAD + MEMORY + devices[8:] + b"\x06\0\0\0\2{}"
    assert put_together(whole, devices) == whole, "a machine that went on from it goes on the same way"


@pytest.mark.parametrize(
    "devices",
    [b"", HEAD, b"QEVM\0\0\0\4" + section(0, b"x"), HEAD + section(1, b"x"), HEAD + b"\x01" + section(0, b"x")[1:],
     HEAD + section(0, b"x").replace(b"timer", b"other")],
)  # fmt: skip
def test_what_does_not_fit_is_refused(devices: bytes) -> None:
    with pytest.raises(MachineError, match="another form"):
        put_together(HEAD + MEMORY + section(0, b"then") + b"\0", devices)


def test_devices_begin_after_a_whole_section() -> None:
    with pytest.raises(MachineError):
        put_together(HEAD + b"\x03\0\0\0\2" + section(0, b"in firmware"), HEAD + section(0, b"now"))
