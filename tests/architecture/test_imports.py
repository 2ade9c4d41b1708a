"""Who may import whom: cli | sdk → runner | profile → sandbox | egress | audit → rules | policy → errors."""

from __future__ import annotations

import sys
import tomllib

import pytest

from tests.architecture.sources import ROOT, Module, modules

# A package may import only what stands on a lower level; packages of one level do not know each other.
LEVELS = {
    "capsule.errors": -1,
    "capsule.places": -1,
    "capsule.regular": -1,
    "capsule.unprintable": -1,
    "capsule.temporary": 0,
    "capsule.policy": 0,
    "capsule.rules": 1,
    "capsule.sandbox": 2,
    "capsule.egress": 2,
    "capsule.audit": 2,
    "capsule.attack": 3,
    "capsule.doctor": 3,
    "capsule.overlay": 3,
    "capsule.profile": 3,
    "capsule.sessions": 3,
    "capsule.cli.files": 3,  # where policy files are opened, for the verbs and for the tools
    "capsule.sdk.asked": 2,
    "capsule.sdk.result": 2,
    "capsule.sdk.runner": 3,
    "capsule.sdk": 4,
    "capsule.cli": 4,
    "capsule": 5,
}
# Capsem's own: processes and the command line → host → wire → vm → what capsule offers, which stands below all of it.
CAPSEM_LEVELS = {
    "capsem.errors": -1,
    "capsem.process": -1,
    "capsem.vm": 0,
    "capsem.wire": 1,
    "capsem.workspace": 1,
    "capsem.host": 2,
    "capsem.processes": 3,
    "capsem.sdk": 3,
    "capsem.cli": 4,
    "capsem": 5,
}
# What capsem may take from capsule.
OFFERED = {
    "capsule", "capsule.cli.asks", "capsule.cli.files", "capsule.cli.lazy", "capsule.errors", "capsule.overlay.apply",
    "capsule.overlay.change", "capsule.overlay.journal", "capsule.overlay.layer", "capsule.overlay.manifest",
    "capsule.places", "capsule.policy.addresses", "capsule.policy.document", "capsule.policy.glob",
    "capsule.policy.grants", "capsule.policy.model", "capsule.policy.quantities", "capsule.policy.reader",
    "capsule.regular", "capsule.rules.deciders", "capsule.rules.engine", "capsule.rules.entry", "capsule.rules.rule",
    "capsule.sandbox.compiler", "capsule.sandbox.launcher", "capsule.sandbox.syscalls",
    # The session database over a machine's log, and how it is told.
    "capsule.cli.sessions.query", "capsule.cli.sessions.show", "capsule.cli.sessions.story",
    "capsule.cli.sessions.timeline", "capsule.sessions.database", "capsule.sessions.ingest", "capsule.sessions.query",
    "capsule.sessions.schema", "capsule.sessions.timeline", "capsule.unprintable",
    # The egress of a run, which a machine's proxy is made of.
    "capsule.egress.caller", "capsule.egress.certificates", "capsule.egress.dialer", "capsule.egress.encryption",
    "capsule.egress.frames", "capsule.egress.judgement", "capsule.egress.lean", "capsule.egress.mcp_call",
    "capsule.egress.mcp_message", "capsule.egress.model.sse", "capsule.egress.pool", "capsule.egress.recording",
    "capsule.egress.secrets", "capsule.egress.session", "capsule.egress.story", "capsule.egress.verdict",
    "capsule.egress.watching",
}  # fmt: skip

CAPSEM_DEPENDENCIES = {
    "blake3",
    "pydantic",
    "capsem",
    "capsule",
    "click",
    "cryptography",
    "fastapi",
    "msgspec",
    "qemu",
    "rich",
    "starlette",
    "uvicorn",
}


def place(name: str) -> str:
    """The longest row of LEVELS or CAPSEM_LEVELS that the module belongs to."""
    rows = [row for row in LEVELS | CAPSEM_LEVELS if name == row or name.startswith(row + ".")]
    return max(rows, key=len)


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_imports_go_down(module: Module) -> None:
    own, package = place(module.name), module.name.split(".")[0]
    levels = CAPSEM_LEVELS if package == "capsem" else LEVELS
    wrong = []
    for target in module.imports:
        if target.split(".")[0] != package:
            continue
        other = place(target)
        if target == package or (other == package and target.rpartition(".")[0] == package):
            continue  # `from capsule import x`: the name x is looked at as capsule.x
        if other != own and levels[other] >= levels[own]:
            wrong.append(f"{module.name} ({own}) imports {target} ({other})")
    assert not wrong, "\n".join(wrong)


def test_every_top_level_module_has_a_level() -> None:
    tops = {".".join(module.name.split(".")[:2]) for module in modules()}
    unplaced = {name for name in tops if name not in LEVELS | CAPSEM_LEVELS and name != "capsule.__main__"}
    assert not unplaced, f"give these a level in LEVELS and a row in ARCHITECTURE.md: {sorted(unplaced)}"


def test_capsule_never_imports_capsem() -> None:
    capsule = [module for module in modules() if module.name.split(".")[0] == "capsule"]
    wrong = [m.name for m in capsule if any(name.split(".")[0] == "capsem" for name in m.imports)]
    assert capsule
    assert not wrong


def test_capsem_takes_from_capsule_only_what_is_offered() -> None:
    wrong = {
        f"{module.name}: {name}"
        for module in modules()
        if module.name.split(".")[0] == "capsem"
        for name in module.imports
        if name.split(".")[0] == "capsule" and name not in OFFERED and name.rpartition(".")[0] not in OFFERED
    }
    assert not wrong, "decide whether these are offered, and add them to OFFERED"


def test_one_process_never_imports_another() -> None:
    wrong = set()
    for module in modules():
        parts = module.name.split(".")
        if parts[:2] != ["capsem", "processes"] or len(parts) < 3:
            continue
        for name in module.imports:
            other = name.split(".")
            if other[:2] == ["capsem", "processes"] and len(other) > 2 and other[2] != parts[2]:
                wrong.add(f"{module.name}: {name}")
    assert not wrong


def test_only_declared_dependencies_are_imported() -> None:
    allowed = set(sys.stdlib_module_names) | {"capsule"}
    allowed |= {"blake3", "click", "cryptography", "msgspec", "rich", "ruamel"}
    # The extra `egress`, and what mitmproxy's layers are made of.
    allowed |= {"OpenSSL", "dns", "genai_prices", "h11", "h2", "hyperframe", "keyring", "mitmproxy"}
    # The same extra, for rules.
    allowed |= {"cel_expr_python", "re2"}
    # The extra `detection`.
    allowed |= {"sigma"}
    own = {"capsule": allowed, "capsem": set(sys.stdlib_module_names) | CAPSEM_DEPENDENCIES}
    wrong = {
        f"{module.name}: {name}"
        for module in modules()
        for name in module.imports
        if name.split(".")[0] not in own[module.name.split(".")[0]]
    }
    assert not wrong


def test_what_capsem_needs_is_in_the_lock_where_its_python_is() -> None:
    """The two lists that must agree: the distribution's, and the group that requirements.lock is made from."""
    own = tomllib.loads((ROOT / "capsem/pyproject.toml").read_text())
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    capsule = tomllib.loads((ROOT / "capsule/pyproject.toml").read_text())["project"]["dependencies"]
    wanted = set(own["project"]["dependencies"] + own["build-system"]["requires"]) - {"capsule", *capsule}
    assert {f"{line}; python_version >= '3.12'" for line in wanted} == set(groups["capsem"])
