from __future__ import annotations

import pytest

from capsem.errors import ImageError
from capsem.vm.modules import depends, module_name, order


def module(*needs: str) -> bytes:
    return b"\x7fELF..license=GPL\0depends=" + ",".join(needs).encode() + b"\0name=x\0"


def test_the_name_of_a_file() -> None:
    assert module_name("kernel/drivers/char/hw_random/virtio-rng.ko") == "virtio_rng"


def test_what_a_module_needs() -> None:
    assert depends(module("virtio", "virtio-ring")) == ("virtio", "virtio_ring")
    assert depends(module()) == ()
    assert depends(b"no such thing") == ()


def test_each_comes_after_what_it_needs() -> None:
    all_of_them = {
        "virtio_blk": module("virtio", "virtio_ring"),
        "virtio": module("virtio_ring"),
        "virtio_ring": module(),
        "other": module(),
        "squashfs": module(),
    }
    assert order(["virtio_blk", "squashfs"], all_of_them) == [
        "virtio_ring",
        "virtio",
        "virtio_blk",
        "squashfs",
    ]


def test_what_is_missing_is_named_with_who_needs_it() -> None:
    with pytest.raises(ImageError, match="no module b, which a needs"):
        order(["a"], {"a": module("b")})


def test_a_circle_ends() -> None:
    with pytest.raises(ImageError, match="a → b → a"):
        order(["a"], {"a": module("b"), "b": module("a")})
