from __future__ import annotations

import struct

import pytest

from capsem.vm.syscall_filter import program
from capsule.sandbox.syscalls import groups, numbers

X86, ARM = 0xC000003E, 0xC00000B7
ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026


def verdict(code: bytes, number: int, architecture: int) -> int:
    """What the kernel would come to: classic BPF over nr and arch of struct seccomp_data."""
    instructions = list(struct.iter_unpack("=HBBI", code))
    data = {0: number, 4: architecture}
    place = held = 0
    while True:
        operation, so, not_so, value = instructions[place]
        place += 1
        match operation:
            case 0x20:
                held = data[value]
            case 0x15:
                place += so if held == value else not_so
            case 0x35:
                place += so if held >= value else not_so
            case 0x06:
                return int(value)
            case _:
                raise AssertionError(operation)


@pytest.mark.parametrize(("machine", "column", "architecture"), [("x86_64", 0, X86), ("aarch64", 1, ARM)])
def test_every_call_of_the_groups_and_no_other_is_refused(
    machine: str, column: int, architecture: int
) -> None:
    refused = ("io-uring", "keys")
    code = program(refused, machine)
    for group in groups().values():
        for member in group.members:
            number = numbers()[member][column]
            if number is None:
                continue
            expected = ALLOW
            if group.name in refused:
                expected = ENOSYS if group.errno == "ENOSYS" else EPERM
            assert verdict(code, number, architecture) == expected, member


def test_another_architecture_s_numbers_are_refused() -> None:
    code = program(("keys",), "x86_64")
    getpid = numbers()["getpid"][0]
    assert getpid is not None
    assert verdict(code, getpid, X86) == ALLOW
    assert verdict(code, getpid, 0x40000003) == EPERM, "32 bits"
    assert verdict(code, getpid | 0x40000000, X86) == ENOSYS, "x32"
    with pytest.raises(KeyError):
        program(("keys",), "sparc")
    with pytest.raises(KeyError):
        program(("nothing",), "x86_64")
