from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from capsem.errors import ConflictError, ImageError, NotFoundError
from capsem.host import images, paths
from tests.capsem.host.made import made_image, overwrite


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("CAPSEM_HOME", str(tmp_path))
    return tmp_path


def test_by_name_by_digest_and_by_its_beginning() -> None:
    image = made_image("one")
    for called in ("one", image.digest, image.digest[:4]):
        assert images.open_image(called) == image
    assert image.kernel.read_bytes() == b"kernel"
    assert image.size == 6 + 1 + 1 + 2


def test_none_of_that_name_says_which_there_are() -> None:
    made_image("one")
    with pytest.raises(NotFoundError) as raised:
        images.open_image("two")
    assert "images: one" in raised.value.next_step
    assert raised.value.next_step.endswith("capsem image build")
    with pytest.raises(NotFoundError) as raised:
        images.open_image("minimal")
    assert raised.value.next_step.endswith("capsem image build --recipe minimal"), (
        "a recipe of that name comes along"
    )
    with pytest.raises(NotFoundError):
        images.open_image("")


def test_two_names_of_equal_images_are_one_directory() -> None:
    assert made_image("one").digest == made_image("two").digest
    assert len(images.everything()) == 1
    assert images.names() == dict.fromkeys(("one", "two"), images.find("one").digest)


def test_a_name_moves_to_the_newer_image() -> None:
    older, newer = made_image("one"), made_image("one", b"other")
    assert images.find("one") == newer
    assert images.find(older.digest) == older
    assert {image.digest for image in images.everything()} == {older.digest, newer.digest}


def test_the_files_are_nobody_s_to_write() -> None:
    image = made_image()
    assert {path.stat().st_mode & 0o777 for path in image.directory.iterdir()} == {0o444}


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"kernfl", "has SHA-256"), (b"kernel and more", "has 15 bytes"), (b"", "has 0 bytes")],
)
def test_a_changed_part_is_found(data: bytes, words: str) -> None:
    image = made_image()
    images.open_image("default")
    overwrite(image.kernel, data)
    with pytest.raises(ImageError, match=f"vmlinuz: {words}"):
        images.open_image("default")
    assert [(one.path, words in one.what) for one in images.compare(image)] == [("vmlinuz", True)]


def test_a_change_that_hides_in_the_same_size_and_time_is_found() -> None:
    image = made_image()
    images.open_image("default")
    before = image.kernel.stat()
    overwrite(image.kernel, b"kernfl")
    image.kernel.chmod(before.st_mode)
    os.utime(image.kernel, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ImageError, match="has SHA-256"):
        images.open_image("default")


def test_what_is_missing_or_too_much_is_found() -> None:
    image = made_image()
    image.initrd.unlink()
    image.root.unlink()
    image.root.symlink_to("vmlinuz")
    (image.directory / "more").write_bytes(b"")
    assert [(one.path, one.what) for one in images.compare(image)] == [
        ("initrd", "is missing"), ("root.squashfs", "is no plain file"), ("more", "is not in the manifest"),
    ]  # fmt: skip
    with pytest.raises(ImageError):
        images.open_image("default")


def test_a_second_look_does_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made_image()
    images.open_image("default")

    def fails(_: Path) -> str:
        raise AssertionError("read again")

    monkeypatch.setattr(images, "sha256_of", fails)
    images.open_image("default")
    with pytest.raises(AssertionError, match="read again"):
        images.compare(images.find("default"))


def test_a_directory_under_another_digest_is_refused() -> None:
    image = made_image()
    other = image.directory.with_name("f" * 64)
    image.directory.rename(other)
    with pytest.raises(ImageError, match="holds the image"):
        images.find("f" * 64)


def test_a_damaged_image_takes_no_part_and_is_replaced() -> None:
    image = made_image()
    overwrite(image.directory / "manifest.json", b"{}")
    assert images.everything() == []
    with pytest.raises(ImageError):
        images.find("default")
    assert made_image() == image
    assert images.open_image("default") == image


@pytest.mark.parametrize("text", ["[]", '{"a": 1}', '{"a": "../../x"}', "{"])
def test_names_that_are_none_are_refused(home: Path, text: str) -> None:
    made_image()
    (home / "images/names.json").write_text(text)
    with pytest.raises(ImageError, match=r"names\.json"):
        images.open_image("default")


def machine(name: str, text: str) -> None:
    folder = paths.sessions() / name
    folder.mkdir(parents=True)
    (folder / "session.json").write_text(text)


def test_an_image_goes_with_its_names() -> None:
    image = made_image("one")
    made_image("two")
    images.remove(image.digest[:8])
    assert images.names() == {}
    assert images.everything() == []
    assert sorted(path.name for path in paths.images().iterdir()) == [".lock", "names.json"]
    with pytest.raises(NotFoundError):
        images.remove("one")


def test_an_image_of_a_machine_stays() -> None:
    image, other = made_image(), made_image("other", b"x")
    machine("m-1", json.dumps({"base": {"layers": [image.digest]}}))
    machine("m-2", json.dumps({"image": other.digest}))
    with pytest.raises(ConflictError, match="m-1") as raised:
        images.remove("default")
    assert raised.value.next_step.endswith("capsem delete m-1")
    assert images.open_image("default") == image


def test_a_machine_that_cannot_be_read_holds_every_image() -> None:
    made_image()
    machine("m-1", "{")
    with pytest.raises(ConflictError, match="m-1"):
        images.remove("default")


def test_what_keeps_an_image_and_runs_is_deleted_by_force(home: Path) -> None:
    image = made_image("default")
    directory = home / "sessions/m-1"
    directory.mkdir(parents=True)
    (directory / "session.json").write_text(json.dumps({"digest": image.digest}))
    with pytest.raises(ConflictError) as caught:
        images.remove("default")
    assert "capsem delete m-1" in caught.value.next_step
    code = (
        "import sys; from pathlib import Path; from capsem.host import hold; hold.take(Path(sys.argv[1])); "
    )
    code += "print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as monitor:
        assert monitor.stdout is not None
        monitor.stdout.readline()
        with pytest.raises(ConflictError) as caught:
            images.remove("default")
        assert "capsem delete --force m-1" in caught.value.next_step
        monitor.kill()


def a_disk(path: Path, size: int = 4 << 20, marks: dict[int, bytes] | None = None) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for place, data in (marks or {70_000: b"changed"}).items():
            file.seek(place)
            file.write(data)
    return path


def test_where_a_disk_has_holes_does_not_change_its_digest(tmp_path: Path) -> None:
    sparse = a_disk(tmp_path / "sparse")
    full = tmp_path / "full"
    full.write_bytes(sparse.read_bytes())
    assert images.blocks_of(sparse) == images.blocks_of(full)
    assert images.blocks_of(sparse)[1] == 64 << 10
    others = {
        images.blocks_of(a_disk(tmp_path / "other", marks=marks))[0]
        for marks in ({70_001: b"changed"}, {70_000: b"changeD"}, {200_000: b"changed"}, {0: b"\0"})
    }
    assert len(others | {images.blocks_of(sparse)[0]}) == 5


def test_a_fork_has_its_base_s_parts_and_a_disk_of_its_own(tmp_path: Path, home: Path) -> None:
    base = made_image("base")
    first = images.fork(base, a_disk(home / "images/one"), "first")
    assert (first.kernel, first.root) == (base.kernel, base.root)
    assert first.manifest.base == base.digest
    assert first.disk is not None
    assert first.disk.read_bytes()[70_000:70_007] == b"changed"
    assert images.open_image("first").size == 64 << 10
    second = images.fork(first, a_disk(home / "images/two", marks={5: b"x"}), "second")
    assert second.manifest.base == base.digest, "however often, it needs the base alone"
    images.remove("first")
    assert images.compare(images.find("second")) == []
    with pytest.raises(ConflictError, match="there is an image named second"):
        images.fork(base, a_disk(home / "images/three"), "second")
    assert images.find("base").manifest.encode() == base.manifest.encode()
    assert b'"base"' not in base.manifest.encode(), "an image that is no fork has the digest it always had"


def test_a_base_in_use_stays_and_says_who_needs_it(home: Path) -> None:
    base = made_image("base")
    fork = images.fork(base, a_disk(home / "images/one"), "fork")
    session = home / "sessions/m-00000001/session.json"
    session.parent.mkdir(parents=True)
    session.write_text(json.dumps({"digest": base.digest}))
    with pytest.raises(ConflictError, match=f"needed by: m-00000001, image {fork.digest[:12]}") as caught:
        images.remove("base")
    assert f"capsem image rm {fork.digest[:12]}" in caught.value.next_step
    images.remove("fork")
    session.unlink()
    images.remove("base")
    assert images.everything() == []


def test_a_fork_whose_base_or_disk_was_changed_is_not_opened(home: Path) -> None:
    base = made_image("base")
    fork = images.fork(base, a_disk(home / "images/one"), "fork")
    images.open_image("fork")
    assert fork.disk is not None
    before = fork.disk.read_bytes()
    overwrite(fork.disk, before[:-1] + b"x")
    with pytest.raises(ImageError, match="disk: has SHA-256"):
        images.open_image("fork")
    overwrite(fork.disk, before)
    overwrite(base.kernel, b"kernfl")
    with pytest.raises(ImageError, match="vmlinuz"):
        images.open_image("fork")
    assert [one.path for one in images.compare(fork)] == ["base vmlinuz"]
