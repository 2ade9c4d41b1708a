from __future__ import annotations

from pathlib import Path

import pytest

from capsem.errors import ImageError
from capsem.host import kernel
from capsem.host.images import sha256_of
from capsem.host.progress import Silent
from capsem.vm.image import canonical


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("CAPSEM_CACHE", str(tmp_path))
    return tmp_path


def kept(place: Path) -> Path:
    (place / "modules").mkdir(parents=True)
    (place / "bzImage").write_bytes(b"kernel")
    (place / "config").write_bytes(b"CONFIG_A=y\n")
    facts = {"version": "6.1.0-cloud", "sha256": sha256_of(place / "bzImage"), "modules": ["virtio"]}
    (place / "kernel.json").write_bytes(canonical(facts))
    return place


def test_a_kernel_of_the_cache_is_not_built_again(cache: Path) -> None:
    place = kept(cache / "kernels" / kernel.stock_key("bookworm"))
    built = kernel.stock("bookworm", Silent())
    assert (built.version, built.flavour) == ("6.1.0-cloud", "stock")
    assert built.path == place / "bzImage"
    assert built.modules == (place / "modules/virtio.ko",)
    assert built.config_sha256 == sha256_of(place / "config")


def test_a_kernel_that_was_changed_in_the_cache_is_refused(cache: Path) -> None:
    place = kept(cache / "kernels" / kernel.stock_key("bookworm"))
    (place / "bzImage").write_bytes(b"other")
    with pytest.raises(ImageError, match="was changed"):
        kernel.stock("bookworm", Silent())


def test_a_configuration_that_is_none_is_refused_before_anything_is_fetched() -> None:
    with pytest.raises(ImageError, match="no option"):
        kernel.hardened("CONFIG", "bookworm", Silent())


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match="not on this machine"):
        kernel.hardened("CONFIG_A=y", "bookworm", Silent())
