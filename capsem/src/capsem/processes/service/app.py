"""The service's HTTP interface, with its OpenAPI description at /openapi.json.

Refuses unknown fields; answers what went wrong as `{"error": {kind, message, next_step}}`, as a
monitor does.

    app = build(Registry())
"""

from __future__ import annotations

import asyncio
import json
import os
from importlib import metadata
from typing import Any, Literal

import msgspec
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from capsem.errors import CapsemError, ConflictError, NotFoundError, ServiceError, UsageError
from capsem.host import keeping, paths, places, shortage
from capsem.processes.service import copies
from capsem.processes.service.cleaning import clean
from capsem.processes.service.faults import answer
from capsem.processes.service.kept import shown
from capsem.processes.service.registry import Registry
from capsem.vm.bounds import DEFAULT_DISK
from capsem.vm.mcp import McpServer
from capsem.vm.network import NetworkSpec, TextFile
from capsem.vm.spec import MachineSpec, RuleText
from capsem.wire.versions import WIRE
from capsule.errors import CapsuleError

_CODES: dict[type[CapsuleError], int] = {NotFoundError: 404, ConflictError: 409, UsageError: 422}


class Rules(BaseModel):
    """A file of rules, as text."""

    model_config = ConfigDict(extra="forbid")
    file: str
    text: str


class Text(BaseModel):
    """A file that a policy names, as text."""

    model_config = ConfigDict(extra="forbid")
    path: str
    text: str


class Networked(BaseModel):
    """The network's part of a policy, compiled."""

    model_config = ConfigDict(extra="forbid")
    policy: str
    digest: str
    egress: dict[str, Any]
    sources: list[Text] = []


class Served(BaseModel):
    """An MCP server that the machine may use."""

    model_config = ConfigDict(extra="forbid")
    name: str
    command: list[str]
    policy: str
    directory: str
    file: str
    line: int
    changes: Literal["refuse", "pass"] = "refuse"
    url: str = Field(default="", description="Where it is reached over HTTP; then there is no command.")
    headers: dict[str, str] = {}
    transport: Literal["http", "sse"] = "http"


class Asked(BaseModel):
    """A machine to be made."""

    model_config = ConfigDict(extra="forbid")
    image: str = "default"
    name: str | None = None
    cpus: int = 1
    memory_mib: int = 512
    disk_mib: int | None = DEFAULT_DISK
    env: dict[str, str] = {}
    rules: list[Rules] = []
    workspace: str | None = None
    network: Networked | None = None
    share: Literal["copy", "live"] = "copy"
    leased: bool = Field(default=False, description="It ends with the client that holds its lease.")
    mcp: list[Served] = []


class Force(BaseModel):
    """How an end is meant."""

    model_config = ConfigDict(extra="forbid")
    force: bool = False


class Restart(Force):
    """How an end is meant, and whose the machine is afterwards."""

    leased: bool = Field(default=False, description="It ends with the client that holds its lease.")


class Resume(BaseModel):
    """Whose a machine is that goes on."""

    model_config = ConfigDict(extra="forbid")
    leased: bool = Field(default=False, description="It ends with the client that holds its lease.")


class Name(BaseModel):
    """What a machine is to be called."""

    model_config = ConfigDict(extra="forbid")
    name: str


class Branches(BaseModel):
    """How many machines are to go on from one, and what they are called."""

    model_config = ConfigDict(extra="forbid")
    count: int = 1
    names: list[str] = []
    leased: bool = Field(
        default=False, description="Those without a name end with the client of their leases."
    )


class Clean(BaseModel):
    """Whether it is only to be told what would go."""

    model_config = ConfigDict(extra="forbid")
    dry_run: bool = False


class Purge(BaseModel):
    """What is to be removed: what stands; with `all` what runs, too; logs of machines that are gone, by their age."""

    model_config = ConfigDict(extra="forbid")
    all: bool = False
    logs_older_than_days: int | None = None


def specified(asked: Asked) -> MachineSpec:
    """What was asked for, as a spec."""
    fields = asked.model_dump(exclude={"rules", "network", "leased", "mcp"})
    rules = tuple(RuleText(rule.file, rule.text) for rule in asked.rules)
    servers = tuple(
        McpServer(
            **{**one.model_dump(), "command": tuple(one.command), "headers": tuple(one.headers.items())}
        )
        for one in asked.mcp
    )
    return MachineSpec(**fields, rules=rules, network=_networked(asked.network), mcp=servers)


def _networked(asked: Networked | None) -> NetworkSpec | None:
    if asked is None:
        return None
    sources = tuple(TextFile(one.path, one.text) for one in asked.sources)
    return NetworkSpec(asked.policy, asked.digest, json.dumps(asked.egress), sources)


def _say_faults(app: FastAPI) -> None:
    """What went wrong, as the error that it is."""

    @app.exception_handler(CapsuleError)
    async def fault(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, CapsuleError)
        said = (
            error if isinstance(error, CapsemError) else CapsemError(error.message, next_step=error.next_step)
        )
        return answer(said, _CODES.get(type(error), 500))

    @app.exception_handler(OSError)
    async def no_room(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, OSError)
        where = paths.home() if error.filename is None else None
        fault = ServiceError(
            f"it could not be done: {shortage.why(error, where)}",
            next_step=shortage.step(error, otherwise=f"see {places.run() / 'service.log'}"),
        )
        return answer(fault, 500)

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        wrong = "; ".join(
            f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()[:5]
        )
        said = UsageError(
            f"the request is not of the documented form: {wrong}", next_step="see /openapi.json"
        )
        return answer(said, 422)

    @app.exception_handler(HTTPException)
    async def unknown(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        said = UsageError(f"no such request: {error.detail}", next_step="see /openapi.json")
        return answer(said, error.status_code)


def _tell(app: FastAPI, registry: Registry) -> None:
    """What is asked and changes nothing."""

    @app.get("/version")
    async def version() -> dict[str, Any]:
        """Versions of both distributions and of the form that client and service talk in; the service's process."""
        told = {"capsem": metadata.version("capsem"), "capsule": metadata.version("capsule")}
        return {**told, "wire": WIRE, "pid": os.getpid()}

    @app.get("/host")
    async def host() -> dict[str, Any]:
        """What machines are run with here: the accelerator and why it was chosen, the QEMU, the clock."""
        facts = await registry.facts()
        return {
            "accelerator": facts.accelerator,
            "why": facts.why,
            "qemu": facts.qemu,
            "tsc_khz": facts.tsc_khz,
        }

    @app.get("/machines")
    async def listed() -> list[dict[str, Any]]:
        """Every machine."""
        return [shown(*one) for one in await registry.list()]

    @app.get("/machines/{name}")
    async def info(name: str) -> dict[str, Any]:
        """One machine, by id or name."""
        return shown(*await registry.seen(registry.find(name)))

    @app.get("/machines/{name}/record")
    async def recorded(name: str) -> dict[str, Any]:
        """Where the log of a machine lies, of one that is gone, too."""
        machine, record = registry.recorded(name)
        there = None if record is None else shown(*await registry.seen(record))
        return {"id": machine, "log": str(places.log(machine)), "machine": there}

    @app.get("/machines/{name}/secrets")
    async def sources(name: str) -> dict[str, Any]:
        """Which secrets the machine's policy names, and where a client is to get their values; never a value."""
        network = registry.find(name).spec.network
        named = [] if network is None else network.plan["secrets"]
        return {"secrets": [{"name": one["name"], "from": one["from"]} for one in named]}

    @app.get("/machines/{name}/history")
    async def history(name: str) -> list[dict[str, Any]]:
        """What happened to a machine, from its log."""
        return [msgspec.to_builtins(one) for one in await asyncio.to_thread(registry.history, name)]


def _begin_and_end(app: FastAPI, registry: Registry) -> None:
    """From a machine's making to its end."""

    @app.post("/machines", status_code=201)
    async def create(asked: Asked, request: Request) -> dict[str, Any]:
        """Make a machine and start it; answers when it is ready for commands."""
        record = await registry.create(specified(asked), leased=asked.leased)
        if await request.is_disconnected():
            # Nobody was told of it, and nobody would end it.
            await registry.delete(record, force=True)
        return shown(record, None)

    @app.post("/machines/{name}/start")
    async def start(name: str) -> dict[str, Any]:
        """Start a machine that was stopped."""
        return shown(await registry.start(registry.find(name)), None)

    @app.post("/machines/{name}/stop")
    async def stop(name: str, how: Force) -> dict[str, Any]:
        """Stop a machine; a temporary one is deleted."""
        record = registry.find(name)
        stopped = await registry.stop(record, force=how.force)
        return {"id": record.id, "state": "deleted" if stopped is None else stopped.state}

    @app.post("/machines/{name}/restart")
    async def restart(name: str, how: Restart) -> dict[str, Any]:
        """Stop a machine and start it from its disk."""
        record = registry.find(name)
        return shown(await registry.restart(record, force=how.force, leased=how.leased), None)

    @app.post("/machines/{name}/suspend")
    async def suspend(name: str) -> dict[str, Any]:
        """Keep a machine's memory and devices on the disk, and end it."""
        return shown(await registry.suspend(registry.find(name)), None)

    @app.post("/machines/{name}/resume")
    async def resume(name: str, how: Resume = Resume()) -> dict[str, Any]:  # noqa: B008 - nothing changes it
        """Go on with a machine that was suspended."""
        return shown(await registry.resume(registry.find(name), leased=how.leased), None)

    @app.post("/machines/{name}/delete")
    async def delete(name: str, how: Force) -> dict[str, Any]:
        """Remove a machine and its disk; its log stays."""
        record = registry.find(name)
        await registry.delete(record, force=how.force)
        return {"id": record.id, "state": "deleted"}


def _copy_and_keep(app: FastAPI, registry: Registry) -> None:
    """Images and machines of a machine, and its name."""

    @app.post("/machines/{name}/fork", status_code=201)
    async def fork(name: str, what: Name) -> dict[str, Any]:
        """Make an image of a machine."""
        image = await copies.fork(registry, registry.find(name), what.name)
        return {
            "digest": image.digest, "name": what.name, "base": image.manifest.base, "bytes": image.size,
        }  # fmt: skip

    @app.post("/machines/{name}/branch", status_code=201)
    async def branch(name: str, what: Branches) -> dict[str, Any]:
        """Make machines that go on from where a running one is now."""
        made = await copies.branch(registry, registry.find(name), what.count, what.names, leased=what.leased)
        return {
            "paused_ms": made.paused_ms, "answered_ms": made.answered_ms,
            "machines": [shown(child, None) for child in made.children],
        }  # fmt: skip

    @app.post("/machines/{name}/persist")
    async def persist(name: str, what: Name) -> dict[str, Any]:
        """Give a temporary machine a name, so that it stays."""
        record = registry.find(name)
        return shown(*await registry.seen(await registry.persist(record, what.name)))


def _clear_away(app: FastAPI, registry: Registry) -> None:
    """Of more than one machine."""

    @app.post("/purge")
    async def purge(what: Purge) -> dict[str, Any]:
        """Remove every machine that stands, and logs of that age."""
        gone = []
        for record, status in await registry.list():
            if status is None or what.all:
                await registry.delete(record, force=True)
                gone.append(record.id)
        logs: list[str] = []
        if what.logs_older_than_days is not None:
            logs = await asyncio.to_thread(registry.forget_logs, what.logs_older_than_days)
        return {"deleted": gone, "logs": logs}

    @app.post("/clean")
    async def cleaned(how: Clean) -> dict[str, Any]:
        """Remove what is old by the rules of the settings."""
        found = await clean(registry.templates, dry=how.dry_run)
        told_of = [(one.goes, keeping.shown(one)) for one in found]
        return {
            "dry_run": how.dry_run,
            "goes": [one for goes, one in told_of if goes], "stays": [one for goes, one in told_of if not goes],
        }  # fmt: skip


def build(registry: Registry) -> FastAPI:
    """The application over one registry."""
    app = FastAPI(title="capsem-service", version=metadata.version("capsem"), docs_url=None, redoc_url=None)
    _say_faults(app)
    for part in (_tell, _begin_and_end, _copy_and_keep, _clear_away):
        part(app, registry)
    return app
