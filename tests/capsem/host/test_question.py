"""A question that is sent before its client has loaded what waits for the answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from capsem.errors import NotFoundError
from capsem.host import places
from capsem.host.question import ahead, said
from capsem.host.service import call
from capsem.wire.versions import OURS

BODY = {"image": "no-such-image"}


@contextlib.contextmanager
def listening(home: Path) -> Iterator[socket.socket]:
    """Somebody where the service listens, who answers nothing."""
    (home / "run").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(places.service_socket()))
        listener.listen()
        yield listener


def test_what_is_said_is_a_whole_question_of_http() -> None:
    head, _, content = said("POST", "/machines", b"{}").partition(b"\r\n\r\n")
    assert content == b"{}"
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /machines HTTP/1.1"
    assert {"Content-Length: 2", *(f"{name}: {text}" for name, text in OURS.fields.items())} <= set(lines)


def test_nothing_is_asked_where_nobody_listens(capsem_home: Path) -> None:
    assert ahead("POST", "/machines", BODY) is None
    assert list(capsem_home.iterdir()) == [], "no service was started for it"


def test_what_is_no_text_of_a_question_is_not_sent(capsem_home: Path) -> None:
    with listening(capsem_home) as listener:
        assert ahead("POST", "/machines", {"image": "\udcff"}) is None
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
        sent = ahead("POST", "/machines", BODY)
        assert sent is not None, "the positive control"
        there, _ = listener.accept()
        assert b"no-such-image" in there.recv(65536)
        there.close()
        sent.close()


def test_a_stranger_is_told_nothing(capsem_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(capsem_home) as listener:
        monkeypatch.setattr("capsem.host.question.is_ours", lambda _: False)
        assert ahead("POST", "/machines", BODY) is None
        there, _ = listener.accept()
        assert there.recv(65536) == b""
        there.close()


@pytest.mark.usefixtures("capsem_home")
def test_the_answer_to_it_is_the_answer_and_it_is_asked_once() -> None:
    assert asyncio.run(call("GET", "/machines")) == []
    sent = ahead("POST", "/machines", BODY)
    assert sent is not None
    with pytest.raises(NotFoundError):
        asyncio.run(call("POST", "/another/path", BODY, sent=sent))
