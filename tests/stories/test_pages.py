"""The pages a newcomer follows, followed: their files written, their commands run, their outputs compared.

A block without a language is commands; one that begins with `# name` is that file; `text` is what the commands
before it print, line for line, but for digests, times, counts and the home directory.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from capsule.sandbox.launcher import find_binary
from tests.architecture.sources import ROOT
from tests.stories.api import Api

BLOCK = re.compile(r"^```([a-z]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
MISUSED = "not understood: "
"""Before a command that ended with 2, as whatever does not know its arguments does."""
VARYING = re.compile(r"[0-9a-f]{12,}|\d+(\.\d+)?")


@dataclass
class Reader:
    """Somebody who does what a page says, in a home directory of their own."""

    home: Path
    where: Path = field(init=False)
    heard: list[str] = field(default_factory=list)
    more: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.where = self.home

    def environment(self) -> dict[str, str]:
        binary, python = find_binary().parent, Path(sys.executable).parent
        path = f"{binary}:{python}:/usr/local/bin:/usr/bin:/bin"
        return {"HOME": str(self.home), "PATH": path, "LC_ALL": "C", "USER": "u", **self.more}

    def write(self, name: str, text: str) -> None:
        (self.where / name).write_text(text, encoding="utf-8")

    def do(self, commands: str) -> None:
        """Run the lines in a shell that tells where it ends up."""
        script = f"trap '[ $? -ne 2 ] || echo \"{MISUSED}$BASH_COMMAND\"' ERR\n{commands}\npwd > {self.home}/.where\n"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.where, env=self.environment(), capture_output=True, text=True,
            timeout=120, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self.where = Path((self.home / ".where").read_text().strip())
        said = (done.stdout + done.stderr).replace(str(self.home), "/home/u").splitlines()
        misused = [line for line in said if line.startswith(MISUSED)]
        assert not misused, "\n".join([*misused, *said])
        self.heard += [shape(line) for line in said]

    def expect(self, text: str) -> None:
        """Each line was heard since the last time."""
        missing = [line for line in text.splitlines() if shape(line) not in self.heard]
        assert not missing, "\n".join(["not heard:", *missing, "but:", *self.heard])
        self.heard.clear()


def shape(line: str) -> str:
    """A line without what differs from one day to the next."""
    return VARYING.sub("#", line.rstrip())


def follow(page: Path | str, reader: Reader) -> None:
    """From the top to the bottom."""
    text = page if isinstance(page, str) else page.read_text(encoding="utf-8")
    for language, block in BLOCK.findall(text):
        named = re.match(r"# ([\w.]+)\n", block)
        if named:
            reader.write(named[1], block)
        elif language == "text":
            reader.expect(block)
        elif language == "":
            reader.do(block)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/id_ed25519").write_text("secret\n")
    return Reader(home)


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_the_first_policy(reader: Reader) -> None:
    page = (ROOT / "docs/tutorial/first-policy.md").read_text()
    assert page.count("```text") >= 5
    follow(ROOT / "docs/tutorial/first-policy.md", reader)
    assert (reader.home / "demo/hello.txt").read_text() == "hello\n"


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_let_it_write_then_decide(reader: Reader) -> None:
    reader.do("mkdir ~/work && cd ~/work && echo old > README.md")
    follow(ROOT / "docs/tutorial/overlay.md", reader)
    assert (reader.where / "new.txt").read_text() == "hello\n"
    assert not (reader.where / "README.md").exists()


@pytest.mark.needs("userns", "landlock", "seccomp-notify", "git")
def test_let_a_command_show_what_it_needs(reader: Reader) -> None:
    reader.do("git init -q ~/work && cd ~/work && echo 'git status' > commands.txt")
    reader.do("printf 'version: 1\nextends: [workspace]\n' > capsule.yaml")
    follow(ROOT / "docs/tutorial/profile.md", reader)
    assert (reader.where / "sysprofile/capsule.yaml").read_text().startswith("# Suggested from")


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_keep_evidence(reader: Reader) -> None:
    reader.do("mkdir ~/work && cd ~/work && for i in 1 2 3 4 5 6 7 8; do capsule run -- true; done")
    follow(ROOT / "docs/tutorial/evidence.md", reader)
    assert "capsule.log/" in (reader.where / "checkpoint.txt").read_text()
    assert any("verified" in line for line in reader.heard)


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_the_decorator(reader: Reader) -> None:
    reader.do("mkdir ~/work && cd ~/work && for i in $(seq 812); do echo w; done > notes.txt")
    follow(ROOT / "docs/tutorial/decorator.md", reader)
    reader.do("PYTHONDONTWRITEBYTECODE=1 python3 main.py")
    assert reader.heard[:3] == ["#", "['capsule.log', 'main.py', 'notes.txt', 'tools.py']", "# ()"]
    assert "id_ed#" in reader.heard[3]


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_from_python(reader: Reader) -> None:
    section = (
        (ROOT / "README.md").read_text(encoding="utf-8").partition("## From Python")[2].partition("\n## ")[0]
    )
    reader.do("mkdir ~/work && cd ~/work && for i in $(seq 812); do echo w; done > notes.txt")
    follow(section.partition("\n\nIn a container")[0], reader)
    reader.do("PYTHONDONTWRITEBYTECODE=1 python3 count.py")
    assert reader.heard == ["#", "()"]


def test_name_the_hosts(reader: Reader) -> None:
    follow(ROOT / "docs/tutorial/network.md", reader)
    assert (reader.where / "wider.yaml").exists()


@pytest.mark.needs("userns", "landlock", "seccomp-notify")
def test_the_first_screen(reader: Reader) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    wanted = re.search(r"```text\ncat: /home/u/.ssh.*?```", readme, re.DOTALL)
    policy = re.search(r"```yaml\n(# capsule.yaml\n.*?)```", readme, re.DOTALL)
    assert wanted
    assert policy
    reader.do("mkdir -p ~/work ~/datasets && cd ~/work && capsule run -- cat ~/.ssh/id_ed25519")
    reader.expect(wanted[0].removeprefix("```text\n").removesuffix("```"))
    reader.write("capsule.yaml", policy[1])
    accepted = re.search(r"```text\nmy-project: good .*?```", readme, re.DOTALL)
    assert accepted
    reader.do("capsule policy check && capsule policy accept")
    reader.expect(accepted[0].removeprefix("```text\n").removesuffix("```"))
    reader.do("capsule policy explain --path ~/.ssh/id_ed25519; capsule run -- echo it ran")
    assert "it ran" in reader.heard
    reader.do("capsule log --denied && capsule verify")
    assert "verified  capsule.log" in reader.heard


@pytest.mark.needs("userns", "landlock", "seccomp-notify", "egress", "curl")
def test_a_network_and_a_secret_that_stays_outside(reader: Reader, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## A network, and a secret")[2].partition("\n## ")[0]
    assert section.count("```text") == 4
    reader.more = {"API_TOKEN": "my-real-token", "CAPSULE_EGRESS_IDLE": "2"}
    # A socket's path is short (unix(7)), a test's directory is not.
    with (
        tempfile.TemporaryDirectory(prefix="c-", ignore_cleanup_errors=True) as state,
        Api(tmp_path, "my-real-token") as api,
    ):
        # The one word that nobody can know beforehand.
        waiting = "$(capsule asks | head -n 1 | cut -c 1-12)"
        section = re.sub(r"(?<=^capsule answer )[0-9a-f]{12}", lambda _: waiting, section, flags=re.MULTILINE)
        reader.more["XDG_STATE_HOME"] = state
        follow(api.policy(section), reader)
    # An answer to one request, the next without the value where the order was placed, and nothing of /admin.
    assert api.heard == [("GET", "/v1/me", "Bearer my-real-token"), ("POST", "/v1/jobs", "")]
    assert b"my-real-token" not in (reader.where / "capsule.log").read_bytes()


def test_decide_during_the_run(reader: Reader) -> None:
    reader.do("mkdir ~/work && cd ~/work")
    page = (ROOT / "docs/tutorial/rules.md").read_text()
    assert page.count("```text") == 4
    follow(ROOT / "docs/tutorial/rules.md", reader)
    assert "detect: [agents]" in (reader.where / "capsule.yaml").read_text()
