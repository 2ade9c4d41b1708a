"""One run's beginning: its descriptors, its authorities, its upstreams; and what it cannot do is refused."""

from __future__ import annotations

import os
import socket
from typing import Any

import msgspec
import pytest

from capsule.egress import session as module
from capsule.egress.frames import FrameError
from capsule.egress.frames import Session as SessionFrame
from tests.egress.supervisor import host, wait_until
from tests.egress.test_frames import SESSION
from tests.egress.test_layers import to
from tests.egress.upstream import Upstream


def frame(**plan: Any) -> SessionFrame:
    egress = {**SESSION["egress"], "secrets": [], **plan}  # type: ignore[dict-item]
    return msgspec.convert({**SESSION, "secrets": {}, "egress": egress}, SessionFrame)


def test_descriptors_are_the_documented_sockets() -> None:
    """In order, of their kind, of their port; whatever is wrong, none stays open."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        open("/dev/null", "rb") as null,
    ):
        udp.bind(("127.0.0.1", 0))
        before = len(os.listdir("/proc/self/fd"))
        for numbers, ports in (
            ([], (443,)),
            ([udp.fileno(), tcp.fileno()], (443,)),
            ([tcp.fileno(), udp.fileno()], ()),
            ([udp.fileno(), tcp.fileno()], ()),
            ([null.fileno(), tcp.fileno()], ()),
        ):
            copies = [os.dup(number) for number in numbers]
            with pytest.raises(FrameError):
                module._sockets(copies, ports)
        assert len(os.listdir("/proc/self/fd")) == before


def test_authorities_are_read_by_the_supervisor() -> None:
    assert module._authorities(frame()) == []
    with pytest.raises(FrameError, match=r"/etc/ca\.pem is not among the sources"):
        module._authorities(frame(authorities=[{"path": "/etc/ca.pem", "optional": False, "origin": None}]))


@pytest.mark.needs("userns", "unshare", "curl")
def test_questions_are_counted(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain))
    inside.client("resolve", *["a.example"] * 50, "x.example", "localhost")
    wait_until(lambda: any("count" in entry["dns"] for entry in inside.run.records("egress.dns")))
    own = [entry for entry in inside.run.records("egress.dns") if entry["dns"]["name"] == "a.example"]
    assert sum(entry["dns"].get("count", 1) for entry in own) == 50
    assert len(own) < 10
    refused = inside.run.record("egress.dns", name="x.example")
    assert (refused["dns"]["rcode"], refused["decision"]["action"]) == ("NXDOMAIN", "block")


@pytest.mark.needs("userns", "unshare")
def test_a_question_is_recorded_with_who_asks_it(session: Any, plain: Upstream) -> None:
    """Also when the notice comes after it, and by the port alone of a socket that is not connected."""
    inside = session(host("a.example", 80), **to(plain))
    code = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
        "s.bind(('0.0.0.0', int(sys.argv[1]))); "
        "s.settimeout(20); q = bytes.fromhex(sys.argv[2]); s.sendto(q, ('198.18.0.1', 53)); s.recv(512)"
    )

    def notice(source: str, pid: int) -> None:
        program = f"/usr/bin/asker{pid}"
        inside.run.send(
            {
                "type": "flow",
                "source": source,
                "target": "198.18.0.1:53",
                "pid": pid,
                "program": program,
                "argv": [program, "x"],
            }
        )

    for number, source in ((1, "198.18.0.1:40001"), (2, "0.0.0.0:40002")):
        notice(source, number)
        question = (
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02e%d\x07example\x00\x00\x01\x00\x01" % number
        )
        done = inside.stage.run("python3", "-c", code, str(40000 + number), question.hex())
        assert done.code == 0, done.err
        entry = inside.run.record("egress.dns", name=f"e{number}.example")
        assert entry["decision"]["action"] == "block"
        name = f"asker{number}"
        path = f"/usr/bin/{name}"
        assert entry["program"] == {"path": path, "pid": number, "argv": [path, "x"], "name": name}
    question = question.replace(b"e2", b"e3")
    inside.stage.run("python3", "-c", code, "40003", question.hex())
    assert "program" not in inside.run.record("egress.dns", name="e3.example"), "nobody said who it is"


@pytest.mark.needs("userns", "unshare")
def test_dns_over_tcp(session: Any, plain: Upstream) -> None:
    inside = session(host("a.example", 80), **to(plain))
    question = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x00\x00\x01\x00\x01"
    code = (
        "import socket,sys; s=socket.create_connection(('198.18.0.1',53)); q=bytes.fromhex(sys.argv[1]); "
        "s.sendall(len(q).to_bytes(2,'big')+q); print(s.recv(512)[2:].hex())"
    )
    out = inside.stage.run("python3", "-c", code, question.hex()).out
    assert out.startswith("1234")
    assert out.strip().endswith("c6120002")
    assert inside.run.record("egress.dns", name="a.example")["dns"]["transport"] == "tcp"
