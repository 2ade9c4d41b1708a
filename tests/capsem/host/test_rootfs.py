from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from capsem.errors import ImageError
from capsem.host.progress import Silent
from capsem.host.rootfs import append_agent, assemble
from capsem.vm.image import Package
from capsem.vm.recipe import parse

RECIPE = parse(
    """version = 1
name = "x"
suite = "bookworm"
epoch = 2025-11-01T00:00:00Z
users = [{ name = "agent", uid = 1000 }]
files = [{ path = "/etc/motd", text = "hello" }]
""",
    "x",
)
FILES: dict[str, bytes] = {
    "etc/passwd": b"root:x:0:0:root:/root:/bin/bash\n",
    "etc/group": b"root:x:0:\n",
    "var/lib/dpkg/status": b"Package: bash\nStatus: install ok installed\nVersion: 5.2\n",
    "usr/bin/su": b"program",
    "usr/bin/b": b"content",
    "var/log/dpkg.log": b"2025-11-25 22:00:00",
    "usr/local/lib/python3.11/dist-packages/rich-1.dist-info/METADATA": b"Name: rich\nVersion: 1\n",
}


def packed(path: Path, *, order: int = 1, time: int = 5, more: tuple[tarfile.TarInfo, ...] = ()) -> Path:
    with tarfile.open(path, "w") as out:
        folders = {"/".join(name.split("/")[:n]) for name in FILES for n in range(1, name.count("/") + 1)}
        for name in sorted(folders, key=len):
            info = tarfile.TarInfo(f"./{name}")
            info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, time
            out.addfile(info)
        for name in sorted(FILES)[::order]:
            info = tarfile.TarInfo(f"./{name}")
            info.size, info.mtime, info.mode = (
                len(FILES[name]),
                time,
                0o4755 if name == "usr/bin/su" else 0o644,
            )
            out.addfile(info, io.BytesIO(FILES[name]))
        link = tarfile.TarInfo("./usr/bin/a")
        link.type, link.linkname = tarfile.LNKTYPE, "./usr/bin/b"
        out.addfile(link)
        for info in more:
            out.addfile(info)
    return path


@pytest.mark.needs("squashfs-tools")
def test_the_same_tree_gives_the_same_bytes(tmp_path: Path) -> None:
    one = packed(tmp_path / "1.tar")
    other = packed(tmp_path / "2.tar", order=-1, time=900)
    assert one.read_bytes() != other.read_bytes()
    images = []
    for number, archive in enumerate((one, other)):
        base, whole = tmp_path / f"{number}.base", tmp_path / f"{number}.whole"
        inside = assemble(archive, RECIPE, base, Silent())
        assert inside.packages == (
            Package(kind="deb", name="bash", version="5.2"), Package(kind="pypi", name="rich", version="1"),
        )  # fmt: skip
        room = tmp_path / f"room{number}"
        room.mkdir()
        append_agent(base, Path("/bin/true"), whole, RECIPE.epoch, room)
        images.append(whole.read_bytes())
    assert images[0] == images[1]


@pytest.mark.needs("squashfs-tools")
def test_what_is_in_the_tree(tmp_path: Path) -> None:
    device = tarfile.TarInfo("./dev/null")
    device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
    base = tmp_path / "base"
    assemble(packed(tmp_path / "x.tar", more=(device,)), RECIPE, base, Silent())
    whole = tmp_path / "whole"
    append_agent(base, Path("/bin/true"), whole, RECIPE.epoch, tmp_path)
    listing = subprocess.run(["unsquashfs", "-lln", whole], capture_output=True, text=True, check=True).stdout
    rows = {}
    for line in listing.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("squashfs-root"):
            rows[fields[5].removeprefix("squashfs-root").lstrip("/")] = (fields[0], fields[1], fields[3])
    assert rows[""] == ("drwxr-xr-x", "0/0", "2025-11-01")
    assert rows["capsem/capsem-agent"] == ("-r-xr-xr-x", "0/0", "2025-11-01")
    assert rows["usr/bin/su"][0] == "-rwxr-xr-x", "no setuid"
    assert rows["home/agent"][1] == "1000/1000"
    assert "var/log" in rows
    assert "var/log/dpkg.log" not in rows
    assert "dev/null" not in rows
    assert {fields[2] for fields in rows.values()} == {"2025-11-01"}
    for name, content in (("usr/bin/a", b"content"), ("usr/bin/b", b"content"), ("etc/motd", b"hello")):
        done = subprocess.run(["unsquashfs", "-cat", whole, name], capture_output=True, check=True)
        assert done.stdout == content


@pytest.mark.parametrize("name", ["./../x", "/etc/x", "./a/../../x"])
def test_names_that_leave_the_tree_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError, match="has the name"):
        assemble(
            packed(tmp_path / "x.tar", more=(tarfile.TarInfo(name),)), RECIPE, tmp_path / "out", Silent()
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.needs("squashfs-tools")
def test_a_hard_link_to_nothing_is_refused(tmp_path: Path) -> None:
    link = tarfile.TarInfo("./usr/bin/c")
    link.type, link.linkname = tarfile.LNKTYPE, "./none"
    with pytest.raises(ImageError, match="not in it"):
        assemble(packed(tmp_path / "x.tar", more=(link,)), RECIPE, tmp_path / "out", Silent())
