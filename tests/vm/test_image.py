"""An image is built, compared, started and looked at from inside: minutes from nothing, then seconds."""

from __future__ import annotations

import asyncio
import os
import pwd
import time
from pathlib import Path

import pytest

from capsem.host import images, recipes
from capsem.host.build import BuildSpec, build
from capsem.host.channel import Channel
from capsem.host.images import Image
from capsem.host.progress import Silent
from capsem.vm.image import Flavour
from capsem.vm.kernel_config import parse, unmet
from tests.vm.machines import PORTS, Machine, flavours

pytestmark = [pytest.mark.needs("images", "qemu"), pytest.mark.timeout(1800), pytest.mark.slow]


def built(flavour: Flavour, home: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    """The smallest image, among the images of a home of its own; what it is made of stays in the user's cache."""
    monkeypatch.setenv("CAPSEM_HOME", str(home))
    # Tests have a HOME of their own; kernels and packages are not made again for each of them.
    monkeypatch.setenv("CAPSEM_CACHE", f"{pwd.getpwuid(os.getuid()).pw_dir}/.cache/capsem")
    return build(BuildSpec(recipe=recipes.load("minimal"), kernel=flavour), Silent())


async def asked(machine: Machine, *commands: list[str]) -> list[bytes]:
    """What commands in the machine write, by the agent, with no host name or clock before `identify`."""
    async with Channel({port: machine.sockets[port] for port in PORTS}) as channel:
        async with asyncio.timeout(60):
            await channel.hello()
            await channel.identify(os.urandom(64), "probe", time.time_ns())
        found = []
        for command in commands:
            async with asyncio.timeout(60):
                job = await channel.exec(command)
                found.append(await job.stdout.read_all(1 << 20))
                await job.wait()
        return found


@pytest.mark.parametrize("flavour", flavours())
def test_an_image_starts_and_is_what_its_manifest_says(
    flavour: Flavour, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    image = built(flavour, tmp_path / "home", monkeypatch)
    assert images.compare(image) == []
    assert build(BuildSpec(recipe=recipes.load("minimal"), kernel=flavour), Silent()).digest == image.digest
    look = [
        ["uname", "-r"],
        ["stat", "-c", "%a %u %g %Y", "/capsem/capsem-agent"],
        ["sha256sum", "/capsem/capsem-agent"],
        ["find", "/", "-xdev", "-perm", "/6000", "-type", "f"],
        ["dpkg-query", "-W", "-f", "${Package} ${Version}\n"],
        ["ls", "/sys/class/net"],
        ["zcat", "/proc/config.gz"] if flavour == "hardened" else ["true"],
        ["sh", "-c", "touch /usr/written && ls /usr/written; cat /proc/sys/kernel/hostname"],
    ]
    with Machine(image, tmp_path) as machine:
        kernel, agent, digest, privileged, installed, cards, config, written = asyncio.run(
            asked(machine, *look)
        )
    manifest = image.manifest
    assert kernel.decode().strip() == manifest.kernel.version
    assert agent.decode().split() == ["555", "0", "0", str(manifest.epoch)]
    assert digest.decode().split()[0] == manifest.agent_sha256
    assert privileged == b""
    assert installed.decode().splitlines() == [f"{one.name} {one.version}" for one in manifest.packages]
    assert set(cards.split()) <= {b"lo", b"dummy0"}
    if flavour == "hardened":
        assert unmet(parse(recipes.kernel_config()), parse(config.decode(), "config.gz")) == []
    assert written.decode().split() == ["/usr/written", "probe"]
    assert images.compare(image) == [], "what a machine writes is not written to its image"
