#!/usr/bin/env python3
"""Write the presets' plans that are compiled into the binary, and the table that names them.

Run it with the interpreter capsule is installed in after a change of a preset or of the compiler:

    .venv/bin/python scripts/preset_plans.py

It writes `capsule/native/src/plan/presets/*.json` and refuses a preset that does not compile.
"""

from pathlib import Path

from blake3 import blake3

from capsule.cli.files import load_policy
from capsule.policy.presets import NAMES
from capsule.sandbox.compiler import compile_policy
from capsule.sandbox.plan import encode_plan

HERE = Path(__file__).resolve().parent.parent / "capsule/native/src/plan/presets"


def main() -> None:
    """Write all of them."""
    HERE.mkdir(exist_ok=True)
    wanted = {f"{name}.json" for name in NAMES}
    for old in HERE.glob("*.json"):
        if old.name not in wanted:
            old.unlink()
    together = blake3(derive_key_context="capsule presets v1")
    rows = []
    for name in sorted(NAMES):
        plan = compile_policy(load_policy(name))
        text = encode_plan(plan)
        (HERE / f"{name}.json").write_bytes(text)
        for part in (name.encode(), text):
            together.update(len(part).to_bytes(8, "little") + part)
        source = next(s.digest for s in plan.policy.sources if s.path == f"preset:{name}")
        rows.append(
            "    Preset {\n"
            f'        name: "{name}",\n'
            f'        source: "{source}",\n'
            f'        digest: "blake3:{blake3(text).hexdigest()}",\n'
            f'        plan: include_str!("{name}.json"),\n'
            "    },\n"
        )
    (HERE / "table.rs").write_text(
        "// Written by scripts/preset_plans.py.\n"
        "/// A hash over the names and plans: what another build cached is not looked at.\n"
        f'pub const DIGEST: &str =\n    "{together.hexdigest()}";\n'
        "/// All presets, by name.\n"
        "pub const ALL: &[Preset] = &[\n" + "".join(rows) + "];\n"
    )


if __name__ == "__main__":
    main()
