"""Debian's packages by mmdebstrap: a root file system as a tar archive, or single packages as files.

mmdebstrap verifies what it fetches against Debian's keys. As root it works in a directory, as an ordinary user
in a user namespace. Refuses nothing of its own: what apt refuses comes back in apt's words.

    bootstrap(recipe, room / "root.tar", Silent())
"""

from __future__ import annotations

import contextlib
import os
import shlex
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from capsem.errors import ImageError
from capsem.host import commands, npm, rooms
from capsem.host.progress import Progress
from capsem.vm.image import Package
from capsem.vm.recipe import Recipe

# Manuals and translations: nobody reads them in a machine.
_LEFT_OUT = (
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/share/lintian/*",
    "/usr/share/bug/*",
)
_ROOM = "capsem-build-"
PINS = "etc/apt/preferences.d/capsem"
# In the tree while pip runs; what is below /tmp does not go into an image.
_AUTHORITIES = "/tmp/capsem-authorities"  # noqa: S108 - of the tree


def bootstrap(recipe: Recipe, target: Path, progress: Progress, lock: tuple[Package, ...] = ()) -> None:
    """Write the recipe's packages as one tar archive.

    Args:
        recipe: what goes in.
        progress: is told each of mmdebstrap's steps.
        target: where the archive goes, with the owners of the guest.
        lock: versions that apt must take.

    Raises:
        ImageError: it cannot be built; the message has apt's words.
    """
    progress.step("root: fetching and installing packages")
    arguments = [
        "mmdebstrap",
        f"--mode={_mode()}",
        f"--variant={recipe.base}",
        "--format=tar",
        "--components=main",
        "--architectures=amd64",
        '--aptopt=Acquire::Retries "3"',
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
    ]
    if recipe.packages:
        arguments.append("--include=" + ",".join(recipe.packages))
    if pinned := [one for one in lock if one.kind == "deb"]:
        pins = target.with_name("pins")
        pins.write_text(
            "".join(
                f"Package: {one.name}\nPin: version {one.version}\nPin-Priority: 1001\n\n" for one in pinned
            )
        )
        arguments.append(f"--setup-hook=copy-in {shlex.quote(str(pins))} /{PINS.rpartition('/')[0]}")
        arguments.append(f'--setup-hook=mv "$1/{PINS.rpartition("/")[0]}/pins" "$1/{PINS}"')
    if recipe.npm:
        archive = npm.install(recipe, target.parent, progress)
        progress.step("root: fetching and installing packages")
        arguments.append(f"--customize-hook=tar-in {shlex.quote(str(archive))} /")
    arguments += [f"--customize-hook={line}" for line in _installs(recipe)]

    def seen(line: str) -> None:
        if line.startswith("I: ") and not line.startswith(("I: using", "I: finding", "I: chroot")):
            progress.step(f"root: {line.removeprefix('I: ').rstrip('.')}")

    with _room() as room:
        commands.run(
            [*arguments, recipe.suite, target],
            what="building the root file system",
            environment={"SOURCE_DATE_EPOCH": str(recipe.epoch), "TMPDIR": str(room)},
            seen=seen,
        )


def download(names: list[str], suite: str, room: Path, follow: str | None = None) -> list[Path]:
    """Fetch packages as files, verified by apt.

    Args:
        names: of packages.
        suite: Debian's release.
        room: an empty directory; the files are below it afterwards.
        follow: when given, take instead what the package depends on and whose name begins so.

    Raises:
        ImageError: one cannot be fetched.
    """
    fetched = room / "packages"
    fetched.mkdir()
    wanted = " ".join(names)
    if follow is not None:
        pattern = shlex.quote(f"s/^ *Depends: \\({follow}[^ ]*\\)$/\\1/p")
        wanted = f"$(apt-cache depends {wanted} | sed -n {pattern})"
    hook = (
        'mkdir "$1/fetched" && cd "$1/fetched" && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" && '
        f"apt-get download {wanted}"
    )
    with _room() as temporary:
        commands.run(
            [
                "mmdebstrap",
                f"--mode={_mode()}",
                "--variant=custom",
                "--format=null",
                "--components=main",
                "--architectures=amd64",
                f"--customize-hook={hook}",
                f"--customize-hook=sync-out /fetched {shlex.quote(str(fetched))}",
                suite,
                "/dev/null",
            ],
            what=f"fetching {', '.join(names)}",
            environment={"TMPDIR": str(temporary)},
        )
    found = sorted(fetched.glob("*.deb"))
    if len(found) != len(names):
        raise ImageError(
            f"apt fetched {len(found)} packages for {', '.join(names)}",
            next_step="check that the suite has them: apt-cache policy NAME",
        )
    return found


@contextlib.contextmanager
def _room() -> Iterator[Path]:
    """Where mmdebstrap works: not the cache, into which the users of its namespace may not look.

    What a build that was killed left there goes first.
    """
    above = Path(tempfile.gettempdir())
    for left in rooms.abandoned(above, (_ROOM,)):
        with contextlib.suppress(FileNotFoundError):
            if left.lstat().st_uid == os.geteuid():
                _emptied(left)
                rooms.clear(left)
    with rooms.room(above, _ROOM) as place:
        place.chmod(0o755)
        try:
            yield place
        finally:
            _emptied(place)


def _emptied(room: Path) -> None:
    """Remove what users of a namespace own there, which ours may not: mmdebstrap that was killed leaves its tree."""
    trees = list(room.iterdir())
    if not trees or os.geteuid() == 0:
        return
    # Each one's own directory is ours to remove, once nothing is in it.
    subprocess.run(
        ["mmdebstrap", "--unshare-helper", "rm", "-rf", "--", *trees],
        cwd="/",
        capture_output=True,
        check=False,
    )
    for tree in trees:
        with contextlib.suppress(OSError):
            tree.rmdir()


def _mode() -> str:
    if os.geteuid() == 0:
        return "root"
    commands.need("newuidmap")
    return "unshare"


def _installs(recipe: Recipe) -> list[str]:
    """What is installed by pip, inside the tree, without running the packages' own install scripts.

    pip trusts there whom it trusts on this host, as apt and npm do.
    """
    if not recipe.pypi:
        return []
    lines, trust = [], ""
    if (authorities := _authorities()) is not None:
        lines.append(f"upload {shlex.quote(str(authorities))} {_AUTHORITIES}")
        # The host's own variables go before PIP_CERT (requests), and name files of the host.
        trust = f"PIP_CERT={_AUTHORITIES} REQUESTS_CA_BUNDLE={_AUTHORITIES} SSL_CERT_FILE={_AUTHORITIES} "
    wanted = " ".join(shlex.quote(f"{name}=={version}") for name, version in sorted(recipe.pypi.items()))
    lines.append(
        # No --prefix: Debian's pip installs below /usr/local by itself, and below PREFIX/local with one.
        f'chroot "$1" env HOME=/root {trust}PYTHONDONTWRITEBYTECODE=1 python3 -m pip install --no-cache-dir '
        f"--no-compile --break-system-packages --root-user-action=ignore --only-binary=:all: {wanted}"
    )
    return lines


def _authorities() -> Path | None:
    """The file of certificates by which pip trusts on this host; None where it has its own."""
    named = (os.environ.get(name) for name in ("PIP_CERT", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"))
    place = next(filter(None, named), None) or ssl.get_default_verify_paths().cafile
    if place is None:
        return None
    if not Path(place).is_file():
        raise ImageError(
            f"{place}, by which pip is to trust, is no file",
            next_step="correct PIP_CERT, REQUESTS_CA_BUNDLE or SSL_CERT_FILE",
        )
    return Path(place).resolve()
