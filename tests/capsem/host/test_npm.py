"""npm itself, against a registry on loopback that may lie."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from capsem.errors import ImageError
from capsem.host import npm
from capsem.host.progress import Silent
from capsem.vm.packages import npm as listed
from capsem.vm.recipe import Recipe

pytestmark = pytest.mark.needs("npm")
SCRIPT = "touch RAN"


def package(content: bytes) -> bytes:
    """A package `tool` of version 1.0.0, with a program and a script that nobody may run."""
    described = {
        "name": "tool", "version": "1.0.0", "bin": {"tool": "bin/tool.js"}, "scripts": {"install": SCRIPT},
    }  # fmt: skip
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, data, mode in (
            ("package/package.json", json.dumps(described).encode(), 0o600),
            ("package/bin/tool.js", content, 0o777),
        ):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), mode
            archive.addfile(info, io.BytesIO(data))
    return made.getvalue()


GOOD = package(b"#!/usr/bin/env node\n")
INTEGRITY = "sha512-" + base64.b64encode(hashlib.sha512(GOOD).digest()).decode()


class Registry(ThreadingHTTPServer):
    """Has `tool`; what it sends for it is `served`."""

    served = GOOD

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        if self.path.endswith(".tgz"):
            body = self.server.served
        else:
            # As it lies about the content, it lies about its hash.
            digest = base64.b64encode(hashlib.sha512(self.server.served).digest()).decode()
            there = {
                "tarball": f"{self.server.address}/tool/-/tool-1.0.0.tgz",
                "integrity": f"sha512-{digest}",
            }
            version = {"name": "tool", "version": "1.0.0", "dist": there}
            body = json.dumps(
                {"name": "tool", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
            ).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in http.server
        """Quiet."""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    server = Registry(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    monkeypatch.setenv("npm_config_registry", server.address)
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    yield server
    server.shutdown()
    server.server_close()


def recipe() -> Recipe:
    rows = {
        "": {"name": "recipe", "version": "1.0.0", "dependencies": {"tool": "1.0.0"}},
        "node_modules/tool": {
            "version": "1.0.0", "integrity": INTEGRITY, "hasInstallScript": True, "bin": {"tool": "bin/tool.js"},
        },
    }  # fmt: skip
    lock = {"name": "recipe", "version": "1.0.0", "lockfileVersion": 3, "requires": True, "packages": rows}
    return Recipe(
        version=1,
        name="x",
        suite="bookworm",
        epoch=1_000_000_000,
        npm={"tool": "1.0.0"},
        npm_lock=json.dumps(lock),
    )


def test_the_archive_is_the_same_every_time(registry: Registry, tmp_path: Path) -> None:
    rooms = [tmp_path / name for name in ("one", "two")]
    for room in rooms:
        room.mkdir()
    one, two = (npm.install(recipe(), room, Silent()) for room in rooms)
    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(one) as archive:
        found = {member.name: member for member in archive}
        assert found["usr/local/bin/tool"].linkname == "../lib/node_modules/tool/bin/tool.js"
        modules = "usr/local/lib/node_modules"
        assert {name for name in found if name.startswith(f"{modules}/")} == {
            f"{modules}/{name}"
            for name in (".package-lock.json", "tool", "tool/bin", "tool/bin/tool.js", "tool/package.json")
        }, "no script of a package was run"
        assert {(member.uid, member.gid, member.mtime) for member in found.values()} == {
            (0, 0, 1_000_000_000)
        }
        assert oct(found[f"{modules}/tool/package.json"].mode) == "0o644"
        assert oct(found[f"{modules}/tool/bin/tool.js"].mode) == "0o755"
        listing = archive.extractfile(f"{modules}/.package-lock.json")
        assert listing is not None
        assert [(one.name, one.version) for one in listed(listing.read().decode())] == [("tool", "1.0.0")]


def test_a_registry_that_sends_something_else_is_refused(registry: Registry, tmp_path: Path) -> None:
    registry.served = package(b"#!/bin/sh\necho evil\n")
    with pytest.raises(ImageError, match="EINTEGRITY"):
        npm.install(recipe(), tmp_path, Silent())
    assert not (tmp_path / "npm.tar").exists()


def test_without_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ImageError, match="npm") as raised:
        npm.install(recipe(), tmp_path, Silent())
    assert "install" in raised.value.next_step
