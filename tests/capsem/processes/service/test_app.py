"""The HTTP interface as it describes itself, and what it refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
import pytest_asyncio

from capsem.host import places
from capsem.processes.service.app import build
from capsem.processes.service.registry import Registry
from capsem.vm.record import Record
from capsem.vm.spec import MachineSpec

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


@pytest_asyncio.fixture
async def client() -> httpx.AsyncClient:
    places.prepare()
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=build(Registry())), base_url="http://capsem")


async def test_it_describes_itself(client: httpx.AsyncClient) -> None:
    described = (await client.get("/openapi.json")).json()
    assert set(described["paths"]) == {
        "/version", "/host", "/machines", "/machines/{name}", "/machines/{name}/start", "/machines/{name}/stop",
        "/machines/{name}/delete", "/machines/{name}/restart", "/machines/{name}/suspend", "/machines/{name}/resume",
        "/machines/{name}/persist", "/machines/{name}/fork", "/machines/{name}/branch", "/machines/{name}/history",
        "/machines/{name}/record", "/machines/{name}/secrets",
        "/purge", "/clean",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "body", "code", "kind"),
    [
        ("GET", "/machines/none", None, 404, "NotFoundError"),
        ("POST", "/machines", {"image": "none"}, 404, "NotFoundError"),
        ("POST", "/machines", {"cpus": 99}, 422, "UsageError"),
        ("POST", "/machines", {"cpus": "many"}, 422, "UsageError"),
        ("POST", "/machines", {"surprise": 1}, 422, "UsageError"),
        ("POST", "/machines/none/stop", {"force": False}, 404, "NotFoundError"),
        ("POST", "/machines/none/delete", {}, 404, "NotFoundError"),
        ("POST", "/machines/none/start", None, 404, "NotFoundError"),
        ("POST", "/machines/none/restart", {}, 404, "NotFoundError"),
        ("POST", "/machines/none/suspend", None, 404, "NotFoundError"),
        ("POST", "/machines/none/resume", None, 404, "NotFoundError"),
        ("POST", "/machines/none/persist", {"name": "x"}, 404, "NotFoundError"),
        ("POST", "/machines/none/persist", {}, 422, "UsageError"),
        ("POST", "/machines/none/fork", {"name": "x"}, 404, "NotFoundError"),
        ("GET", "/machines/none/history", None, 404, "NotFoundError"),
        ("GET", "/machines/none/secrets", None, 404, "NotFoundError"),
        ("GET", "/machines/m-00000000/record", None, 404, "NotFoundError"),
        ("GET", "/machines/m-00000000/history", None, 404, "NotFoundError"),
        ("POST", "/machines/none/branch", {"count": 2}, 404, "NotFoundError"),
        ("POST", "/machines/none/branch", {"count": "many"}, 422, "UsageError"),
        ("GET", "/nothing/here", None, 404, "UsageError"),
        ("PUT", "/machines", {}, 405, "UsageError"),
    ],
)
async def test_what_goes_wrong_has_a_kind_and_a_next_step(
    client: httpx.AsyncClient, method: str, path: str, body: object, code: int, kind: str
) -> None:
    answer = await client.request(method, path, json=body)
    assert answer.status_code == code
    error = answer.json()["error"]
    assert error["kind"] == kind
    assert error["message"]
    assert error["next_step"]


async def test_nothing_to_purge(client: httpx.AsyncClient) -> None:
    assert (await client.post("/purge", json={"all": True})).json() == {"deleted": [], "logs": []}
    assert (await client.get("/version")).json()["capsem"]


async def test_what_is_malformed_is_told_without_our_insides(client: httpx.AsyncClient) -> None:
    answer = await client.post("/machines", content=b"{bad", headers={"content-type": "application/json"})
    told = answer.json()["error"]
    assert (answer.status_code, told["kind"]) == (422, "UsageError")
    assert ".py" not in told["message"]
    assert "\n" not in told["message"]


async def test_a_machine_whose_asker_went_away_before_it_was_told_is_removed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places.prepare()
    registry, gone = Registry(), []
    record = Record(id="m-00000001", spec=MachineSpec(), digest="d", created="2026-01-01T00:00:00Z")

    async def create(_: MachineSpec, *, leased: bool) -> Record:
        assert not leased
        return record

    async def delete(which: Record, *, force: bool) -> None:
        gone.append((which.id, force))

    monkeypatch.setattr(registry, "create", create)
    monkeypatch.setattr(registry, "delete", delete)
    body: dict[str, object] = {"type": "http.request", "body": b"{}", "more_body": False}
    left: dict[str, object] = {"type": "http.disconnect"}

    async def ask(*, leaves: bool) -> list[int]:
        come = [body, left] if leaves else [body]
        codes: list[int] = []

        async def receive() -> dict[str, object]:
            if come:
                return come.pop(0)
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                codes.append(message["status"])

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": "/machines",
            "raw_path": b"/machines", "query_string": b"", "scheme": "http", "server": None, "client": None,
            "root_path": "", "headers": [(b"content-type", b"application/json"), (b"content-length", b"2")],
        }  # fmt: skip
        await build(registry)(scope, receive, send)
        return codes

    assert await ask(leaves=False) == [201]
    assert gone == []
    await ask(leaves=True)
    assert gone == [("m-00000001", True)]
