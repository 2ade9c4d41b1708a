"""Who may import whom: cli | sdk → runner | profile → sandbox | egress | audit → rules | policy → errors."""

from __future__ import annotations

import sys

import pytest

from tests.architecture.sources import Module, modules

# A package may import only what stands on a lower level; packages of one level do not know each other.
LEVELS = {
    "capsule.errors": -1,
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
    "capsule.sdk.result": 2,
    "capsule.sdk.runner": 3,
    "capsule.sdk": 4,
    "capsule.cli": 4,
    "capsule": 5,
}


def place(name: str) -> str:
    """The longest row of LEVELS that the module belongs to."""
    rows = [row for row in LEVELS if name == row or name.startswith(row + ".")]
    return max(rows, key=len)


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.name)
def test_imports_go_down(module: Module) -> None:
    own = place(module.name)
    wrong = []
    for target in module.imports:
        if not (target == "capsule" or target.startswith("capsule.")):
            continue
        other = place(target)
        if target == "capsule" or (other == "capsule" and target.rpartition(".")[0] == "capsule"):
            continue  # `from capsule import x`: the name x is looked at as capsule.x
        if other != own and LEVELS[other] >= LEVELS[own]:
            wrong.append(f"{module.name} ({own}) imports {target} ({other})")
    assert not wrong, "\n".join(wrong)


def test_every_top_level_module_has_a_level() -> None:
    tops = {".".join(module.name.split(".")[:2]) for module in modules()}
    unplaced = {name for name in tops if name not in LEVELS and name != "capsule.__main__"}
    assert not unplaced, f"give these a level in LEVELS and a row in ARCHITECTURE.md: {sorted(unplaced)}"


def test_capsule_never_imports_capsem() -> None:
    wrong = [m.name for m in modules() if any(name.split(".")[0] == "capsem" for name in m.imports)]
    assert not wrong


def test_only_declared_dependencies_are_imported() -> None:
    allowed = set(sys.stdlib_module_names) | {"capsule"}
    allowed |= {"blake3", "click", "cryptography", "msgspec", "rich", "ruamel"}
    # The extra `egress`, and what mitmproxy's layers are made of.
    allowed |= {"OpenSSL", "dns", "genai_prices", "h11", "h2", "keyring", "mitmproxy"}
    # The same extra, for rules.
    allowed |= {"cel_expr_python", "re2"}
    # The extra `detection`.
    allowed |= {"sigma"}
    wrong = {
        f"{module.name}: {name}"
        for module in modules()
        for name in module.imports
        if name.split(".")[0] not in allowed
    }
    assert not wrong
