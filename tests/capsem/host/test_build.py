from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from capsem.errors import ImageError, UsageError
from capsem.host import build as subject
from capsem.host import debian, images, kernel, paths, rootfs
from capsem.host.kernel import BuiltKernel
from capsem.host.progress import Progress, Silent
from capsem.vm import packages, sbom
from capsem.vm.image import Package
from capsem.vm.recipe import Recipe, parse
from tests.capsem.host.test_rootfs import packed

RECIPE = parse('version = 1\nname = "tiny"\nsuite = "bookworm"\nepoch = 2025-11-01T00:00:00Z\n', "tiny")

pytestmark = pytest.mark.needs("squashfs-tools")


@pytest.fixture(autouse=True)
def inputs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """What comes from the network stands here; everything that is made of it is made."""
    monkeypatch.setenv("CAPSEM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CAPSEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CAPSEM_AGENT", "/bin/true")
    (tmp_path / "bzImage").write_bytes(b"kernel")
    (tmp_path / "virtio.ko").write_bytes(b"module")
    fetched: list[str] = []

    def stock(suite: str, _: Progress) -> BuiltKernel:
        return BuiltKernel(tmp_path / "bzImage", "6.1.0", "stock", "0" * 64, (tmp_path / "virtio.ko",))

    def bootstrap(recipe: Recipe, target: Path, _: Progress, lock: tuple[Package, ...] = ()) -> None:
        fetched.append(recipe.name)
        packed(target, time=len(fetched))

    monkeypatch.setattr(kernel, "stock", stock)
    monkeypatch.setattr(debian, "bootstrap", bootstrap)
    yield fetched
    left = [path.name for path in paths.images().glob(".*")] if paths.images().exists() else []
    assert left in ([], [".lock"]), "nothing half-done stays"


def spec(**changes: object) -> subject.BuildSpec:
    return subject.BuildSpec(**({"recipe": RECIPE, "kernel": "stock"} | changes))  # type: ignore[arg-type]


def test_an_image_is_what_its_manifest_says_and_again_the_same(inputs: list[str]) -> None:
    one = subject.build(spec(), Silent())
    assert images.compare(one) == []
    assert images.open_image("tiny") == one
    assert one.manifest.packages[0] == Package(kind="deb", name="bash", version="5.2")
    assert subject.build(spec(), Silent()).digest == one.digest
    assert inputs == ["tiny"], "the second time the root file system comes from the cache"
    assert subject.build(spec(fresh=True, name="again"), Silent()).digest == one.digest
    assert inputs == ["tiny", "tiny"], "made anew from archives of another time, and the same"
    assert set(images.names()) == {"tiny", "again"}


@pytest.mark.needs("cpio")
def test_the_parts_of_an_image(inputs: list[str], tmp_path: Path) -> None:
    image = subject.build(spec(), Silent())
    manifest = image.manifest
    assert image.kernel.read_bytes() == b"kernel"
    assert (image.directory / "sbom.cdx.json").read_bytes() == sbom.document(
        name="tiny",
        epoch=RECIPE.epoch,
        packages=manifest.packages,
        kernel=("stock", "6.1.0"),
        suite="bookworm",
    )
    names = subprocess.run(
        ["cpio", "-t", "--quiet"], input=image.initrd.read_bytes(), capture_output=True, check=True
    )
    assert names.stdout.split() == [
        b"dev", b"dev/console", b"dev/null", b"init", b"modules", b"modules/order", b"modules/virtio.ko", b"proc",
        b"root", b"sys",
    ]  # fmt: skip
    assert b"virtio.ko\n" in image.initrd.read_bytes()


def test_another_agent_is_another_image_of_the_same_root(inputs: list[str], tmp_path: Path) -> None:
    one = subject.build(spec(), Silent())
    other = subject.build(spec(agent=Path("/bin/false")), Silent())
    assert one.digest != other.digest
    assert inputs == ["tiny"]


def test_a_lock_holds(inputs: list[str]) -> None:
    found = subject.build(spec(), Silent()).manifest.packages
    locked = subject.build(spec(lock=packages.read_lock(packages.lock_text(found), "x")), Silent())
    assert locked.manifest.packages == found
    with pytest.raises(ImageError, match=r"bash: locked 5\.3, found 5\.2"):
        subject.build(spec(lock=(Package(kind="deb", name="bash", version="5.3"), *found[1:])), Silent())


def test_a_root_that_was_changed_in_the_cache_is_refused_once(inputs: list[str]) -> None:
    one = subject.build(spec(), Silent())
    [kept] = paths.cache().glob("roots/*/base.squashfs")
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    with pytest.raises(ImageError, match="was changed"):
        subject.build(spec(), Silent())
    assert subject.build(spec(), Silent()).digest == one.digest
    assert len(inputs) == 2


def test_a_full_disk_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rootfs, "append_agent", full)
    with pytest.raises(ImageError, match="No space left"):
        subject.build(spec(), Silent())
    assert images.everything() == []


def test_an_interruption_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rootfs, "append_agent", interrupted)
    with pytest.raises(KeyboardInterrupt):
        subject.build(spec(), Silent())
    assert images.everything() == []


def test_the_cache_is_bounded_and_what_is_in_use_stays(tmp_path: Path) -> None:
    roots = tmp_path / "roots"
    for number, name in enumerate(("held", "old", "new")):
        place = roots / name
        place.mkdir(parents=True)
        (place / "base.squashfs").write_bytes(bytes(1000))
        (place / "sha256").write_text("")
        os.utime(place, (number, number))
    held = os.open(roots / "held", os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        subject.bound(roots, 3000)
        assert len(list(roots.glob("*/sha256"))) == 3
        subject.bound(roots, 2500)
    finally:
        os.close(held)
    assert {path.parent.name for path in roots.glob("*/sha256")} == {"held", "new"}
    assert list((roots / "old").iterdir()) == []


def test_a_name_that_none_can_have_is_refused_before_the_work(inputs: list[str]) -> None:
    with pytest.raises(UsageError, match="cannot name an image"):
        subject.build(spec(name="a b"), Silent())
    assert inputs == []


def test_what_a_killed_build_left_in_the_cache_goes_with_the_next(inputs: list[str]) -> None:
    subject.build(spec(), Silent())
    [proof] = paths.cache().glob("roots/*/sha256")
    left = proof.parent / "building-killed/root.tar"
    left.parent.mkdir()
    left.write_bytes(b"half of it")
    other = paths.cache() / "roots/of-another-recipe/building-killed/root.tar"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"half of it")
    proof.unlink()
    subject.build(spec(), Silent())
    assert not other.parent.exists()
    assert sorted(path.name for path in proof.parent.iterdir()) == ["base.squashfs", "packages", "sha256"]


def test_a_package_of_pypi_that_no_program_would_find_is_no_image(inputs: list[str]) -> None:
    recipe = msgspec.structs.replace(RECIPE, pypi={"cowsay": "6.1"})
    with pytest.raises(ImageError, match="no program finds them: cowsay"):
        subject.build(spec(recipe=recipe), Silent())
    assert images.names() == {}
