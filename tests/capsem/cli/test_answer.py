"""A request that a rule asks about, from a guest's port to a server, through the program that a person uses."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from capsem.cli.main import main
from capsem.vm.network import NOTHING, NetworkSpec, TextFile
from capsem.wire.frame import Data, End
from tests.capsem.cli.served import capsem, served
from tests.capsem.processes.monitor.guestend import GuestEnd

pytestmark = [pytest.mark.usefixtures("capsem_home"), pytest.mark.timeout(180)]
RULES = """version: 1
rules:
  - {id: ask-first, on: http, when: http.method == "POST", action: ask, reason: it orders something}
"""


def spec(port: int, **plan: object) -> NetworkSpec:
    upstreams = [{"host": name, "address": f"127.0.0.1:{port}"} for name in ("a.example", "new.example")]
    egress = {**NOTHING, "upstreams": upstreams, **plan}
    return NetworkSpec("p", "d", json.dumps(egress), (TextFile("/r.yaml", RULES),))


async def asked() -> str:
    """The id of what waits."""
    done = await capsem("asks", "--wait", "60", "--json")
    [ask] = json.loads(done.stdout)["asks"]
    return str(ask["id"])


@pytest.mark.asyncio
@pytest.mark.needs("userns", "landlock", "seccomp-notify")
async def test_what_a_person_allows_goes_out_and_what_they_deny_does_not(tmp_path: Path) -> None:
    came: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(await reader.read(4096))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ndone")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    near, far = socket.socketpair()
    mcp_near, mcp_far = socket.socketpair()
    guest = GuestEnd(near)
    network = spec(port, unlisted="ask", rules=[])
    async with server, served(tmp_path, network=network) as machine:
        machine.network.attach(far, mcp_far)
        assert await guest.resolve("new.example", 1) == 0
        await guest.request(80, 2, b"POST /x HTTP/1.1\r\nHost: new.example\r\nContent-Length: 2\r\n\r\nhi")
        number = await asked()
        assert came == []
        shown = await capsem("asks")
        assert b"POST http://new.example/x" in shown.stdout
        assert b"capsem answer" in shown.stdout
        done = await capsem("answer", number, "allow")
        assert done.returncode == 0, done.stderr
        answer = await guest.frame()
        assert isinstance(answer, Data)
        assert answer.content.endswith(b"done")
        assert came[0].startswith(b"POST /x")
        assert await guest.frame() == End(2)
        assert await guest.resolve("new.example", 3) == 0
        await guest.request(80, 4, b"GET /y HTTP/1.1\r\nHost: new.example\r\n\r\n")
        number = await asked()
        assert (await capsem("answer", number, "deny")).returncode == 0
        while not isinstance(answer := await guest.frame(), Data) or b"403" not in answer.content:
            pass
        assert len(came) == 1
        gone = await capsem("answer", number, "allow")
        assert gone.returncode == 1
    for sock in (near, far, mcp_near, mcp_far):
        sock.close()


@pytest.mark.parametrize("wrong", ["", "10", "0m", "1d", "-1s", "1.5h"])
def test_a_time_is_written_as_in_a_policy(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["answer", "x", "allow", "--scope", "host", "--for"]
    with pytest.raises(SystemExit) as ended:
        main([*words, wrong])
    assert ended.value.code == 2
    assert "write a duration such as 500ms, 60s, 10m or 2h" in capsys.readouterr().err
    for right in ("500ms", "90s", "2h", "none"):
        with pytest.raises(SystemExit) as ended:
            main([*words, right])
        assert ended.value.code == 1, "the ask is what is not there"
