from __future__ import annotations

import pytest

from capsem.errors import ImageError
from capsem.vm.recipe import parse
from capsem.vm.tree import accounts, additions, left_out

RECIPE = parse(
    """version = 1
name = "x"
suite = "bookworm"
epoch = 2025-11-01T00:00:00Z
environment = { LANG = "C.UTF-8", A = "1" }
users = [{ name = "agent", uid = 1000 }]
files = [{ path = "/opt/deep/x", text = "hello", mode = "0444", uid = 1000 }]
""",
    "x",
)
PASSWD = "root:x:0:0:root:/root:/bin/bash\n"
GROUP = "root:x:0:\n"


@pytest.mark.parametrize(
    "name",
    ["var/log/apt/term.log", "dev/null", "etc/machine-id", "usr/lib/python3/__pycache__/a.cpython-311.pyc",
     "root/.npm/_logs/x", "etc/apt/preferences.d/capsem", "capsem/capsem-agent"],
)  # fmt: skip
def test_what_differs_from_build_to_build_is_left_out(name: str) -> None:
    assert left_out(name)


@pytest.mark.parametrize("name", ["dev", "var/log", "usr/bin/python3", "etc/passwd", "var/lib/dpkg/status"])
def test_what_stays(name: str) -> None:
    assert not left_out(name)


def test_what_is_added() -> None:
    found = additions(RECIPE)
    assert found["etc/environment"].data == b"A=1\nLANG=C.UTF-8\n"
    assert (found["home/agent"].uid, found["workspace"].uid) == (1000, 1000)
    assert (found["opt/deep/x"].mode, found["opt/deep/x"].uid, found["opt/deep/x"].data) == (
        0o444,
        1000,
        b"hello",
    )
    assert found["opt/deep"].data is None
    assert found["opt"].keep
    assert not found["workspace"].keep
    assert found["usr/local/bin/capsem"].link == "/capsem/capsem-agent"
    assert not [name for name in found if name.startswith("capsem")], (
        "the agent is appended, and meets nothing"
    )


def test_users_have_no_password_and_neither_has_root() -> None:
    found = accounts(RECIPE, PASSWD, GROUP)
    assert found["etc/passwd"].endswith(b"agent:x:1000:1000::/home/agent:/bin/bash\n")
    assert found["etc/group"].endswith(b"agent:x:1000:\n")
    assert found["etc/shadow"] == b"root:!:20393:0:99999:7:::\nagent:!:20393:0:99999:7:::\n"


@pytest.mark.parametrize(
    ("passwd", "group"),
    [(PASSWD + "agent:x:5:5::/:/bin/sh\n", GROUP), (PASSWD + "b:x:1000:5::/:/bin/sh\n", GROUP),
     (PASSWD, GROUP + "agent:x:7:\n"), (PASSWD, GROUP + "b:x:1000:\n")],
)  # fmt: skip
def test_a_user_that_is_there_already(passwd: str, group: str) -> None:
    with pytest.raises(ImageError, match="agent"):
        accounts(RECIPE, passwd, group)
