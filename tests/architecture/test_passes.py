"""What the second pass leaves out: only tests to which it can make no difference who runs them."""

from __future__ import annotations

import re

import pytest

from tests.architecture.sources import ROOT, relative, tracked
from tests.passes import OF_GUESTS, alike, told_by

TESTS = [path for path in tracked() if path.is_relative_to(ROOT / "tests") and path.name.startswith("test_")]
# Their subjects are users, processes, files and machines: nothing of them is ever left out.
BOTH = (
    "architecture", "attack", "attacks", "compatibility", "doctor", "native", "presets", "scripts", "sdk", "vm",
    "capsem/host", "capsem/processes", "capsem/sdk",
)  # fmt: skip
OF_USERS = {
    "getuid", "geteuid", "getgid", "setuid", "seteuid", "chmod", "chown", "ordinary", "ordinary_user", "runuser",
    "sudo", "unshare", "confined", "capabilities",
}  # fmt: skip
SEES_ITS_USER = {
    "a module": "import os\n",
    "a module of this house": "from capsule.sandbox.launcher import launch\n",
    "a module of this house, by its package": "from capsule.audit import store\n",
    "a package of others": "import mitmproxy\n",
    "a network": "import urllib.request\n",
    "by another test's file": "from tests.native.cgroups import Subtree\n",
    "a fixture": "def test_it(capsule_binary): ...\n",
    "a fixture that is asked for": "def test_it(request): request.getfixturevalue('x')\n",
    "a fixture that is only used": "import pytest\npytestmark = pytest.mark.usefixtures('home')\n",
    "a capability": "import pytest\npytestmark = pytest.mark.needs('root')\n",
    "a mode": "def test_it(tmp_path): tmp_path.chmod(0)\n",
    "an owner": "def test_it(tmp_path): assert tmp_path.owner() == 'a'\n",
    "a name that is made": "def test_it(): __import__('o' + 's')\n",
}
SEES_NONE = {
    "nothing": "",
    "what computes": "import json\nfrom urllib.parse import quote\nfrom pathlib import Path\n",
    "a pure module": "from capsule.policy.glob import Pattern\nimport capsule.rules.engine\n",
    "another pure test's file": "from tests.policy.documents import TOP\n",
    "this tree": "def test_it(repository): ...\n",
}


@pytest.mark.parametrize("text", SEES_ITS_USER.values(), ids=SEES_ITS_USER)
def test_each_way_to_who_runs_it_is_found(text: str) -> None:
    assert told_by(text, ROOT / "tests/policy/test_new.py") is not None


@pytest.mark.parametrize("text", SEES_NONE.values(), ids=SEES_NONE)
def test_what_computes_is_let_be(text: str) -> None:
    assert told_by(text, ROOT / "tests/policy/test_new.py") is None


def test_what_is_about_users_and_processes_runs_in_both() -> None:
    left_out = [relative(path) for path in TESTS if alike(path)]
    assert left_out, "the positive control"
    wrong = [name for name in left_out if any(name.startswith(f"tests/{one}/") for one in BOTH)]
    assert set(wrong) == set(OF_GUESTS)


def test_what_is_of_guests_alone_speaks_of_no_user() -> None:
    for name in OF_GUESTS:
        text = (ROOT / name).read_text(encoding="utf-8")
        words = set(re.findall(r"[a-z_]+", text.replace("pwd.getpwuid(os.getuid()).pw_dir", "the cache")))
        assert not words & OF_USERS, name
    both = (
        ROOT / "tests/vm/test_confined.py",
        ROOT / "tests/vm/test_lives.py",
        ROOT / "tests/vm/test_crashes.py",
    )
    assert not any(map(alike, both)), "the positive control"
