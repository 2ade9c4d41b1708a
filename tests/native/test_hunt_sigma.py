"""SigmaHQ's rules for Linux over a recorded session: an attacker's afternoon of commands, really run and recorded.

What each rule asks for is done once, by the machine's own program or by one under its name; the rules are looked for
while it runs (`detect`) and afterwards (`capsule hunt`), and both have to find the same.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.native.egress_outside import Installation
from tests.native.running import Capsule

pytestmark = [
    pytest.mark.needs("userns", "landlock", "seccomp-notify", "egress", "sigma-rules", "curl", "git"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

INSIDE = Path(__file__).parent / "inside"
BESIDE = Path(__file__).resolve().parents[3] / "shared/data/sigma-linux"
RULES = Path(os.environ.get("CAPSULE_SIGMA_RULES") or BESIDE)
# They ask for the user, the logon and the working directory, which events do not have.
NEVER = {
    "proc_creation_lnx_omigod_scx_runasprovider_executescript.yml",
    "proc_creation_lnx_omigod_scx_runasprovider_executeshellcommand.yml",
}
SUDOERS = "file_event_lnx_persistence_sudoers_files.yml"
ORDINARY = "mkdir -p made; echo x > made/file; cp made/file made/other; sed s/x/y/ made/other; sort made/file"


def names(found: list[dict[str, Any]]) -> set[str]:
    """The files of the rules that were found."""
    return {rule["file"].rpartition("/")[2] for rule in found}


def test_an_afternoon_is_found_live_and_afterwards_and_ordinary_work_is_not(
    capsule_binary: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = Installation()
    monkeypatch.setenv("XDG_STATE_HOME", str(installation.state))
    try:
        capsule = Capsule(capsule_binary, workspace)
        shutil.copy(INSIDE / "afternoon.sh", workspace)
        policy = (INSIDE / "afternoon.yaml").read_text() + f"detect: [{RULES}]\n"
        (workspace / "afternoon.yaml").write_text(policy)
        ordinary = capsule.run("sh", "-c", ORDINARY, options=["--policy", "./afternoon.yaml"])
        ran = capsule.run("bash", "afternoon.sh", options=["--policy", "./afternoon.yaml"], timeout=200)
        assert (ordinary.code, ran.code) == (0, 0), ran.err
        log = (workspace / "capsule.log").read_text().splitlines()
    finally:
        installation.close()
    lines = [json.loads(line) for line in log]
    live = [entry for entry in lines if entry.get("type") == "egress.finding"]
    assert not [entry for entry in live if entry["run"] == ordinary.report["run"]]
    found = {
        run: json.loads(capsule.tell([*hunting, "--session", run], timeout=200).stdout)["found"]
        for hunting in ([str(capsule_binary), "hunt", str(RULES), "--log", "capsule.log", "--json"],)
        for run in (ordinary.report["run"], ran.report["run"])
    }
    assert found[ordinary.report["run"]] == []
    fired = names([each["rule"] for each in found[ran.report["run"]]])
    cannot = NEVER | (set() if Path("/etc/sudoers.d").is_dir() else {SUDOERS})
    every = {path.name for path in RULES.rglob("*.yml")}
    stood_in = [line.partition(" ")[2] for line in ran.out.splitlines() if line.startswith("stand-in ")]
    print(
        f"{len(fired)} of {len(every)} rules fire; programs stood in for: {' '.join(sorted(set(stood_in)))}"
    )
    assert every - fired == cannot
    assert names([entry["rule"] for entry in live]) == fired, (
        "what is found live and what is hunted is the same"
    )
