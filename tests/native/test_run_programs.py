"""`process.programs`: what a digest promises, and what the loader can still map."""

from __future__ import annotations

import json
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import blake3
import pytest

from tests.native.running import Capsule

pytestmark = [pytest.mark.needs("userns", "landlock", "seccomp-notify"), pytest.mark.timeout(120)]


@pytest.fixture
def capsule(capsule_binary: Path, workspace: Path, home: Path) -> Capsule:
    return Capsule(capsule_binary, workspace)


def pinned(path: Path) -> str:
    digest = blake3.blake3(path.read_bytes()).hexdigest()
    return f"process: {{programs: [{{path: {path}, digest: 'blake3:{digest}'}}]}}\n"


def test_a_pinned_program_runs_where_nobody_inside_can_replace_it(capsule: Capsule) -> None:
    ran = capsule.run("/usr/bin/true", options=capsule.policy(pinned(Path("/usr/bin/true"))))
    assert ran.code == 0, ran.exit


def test_a_pinned_program_in_a_writable_place_is_refused(capsule: Capsule) -> None:
    program = capsule.workspace / "tool"
    shutil.copy("/usr/bin/true", program)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    ran = capsule.run("./tool", options=capsule.policy(pinned(program)))
    assert (ran.code, ran.exit["cause"]) == (125, "refused")
    assert f"{program} lies where the command may write" in ran.exit["reason"]
    assert "move it" in ran.exit["reason"]
    assert ran.out == ""
    # The control: the same program, pinned where nothing inside can write, is run.
    elsewhere = capsule.policy(pinned(Path("/usr/bin/true")))
    assert capsule.run("/usr/bin/true", options=elsewhere).code == 0
    # And without a digest nothing is promised, so nothing is refused before the run.
    named = capsule.policy(f"process: {{programs: [{program}]}}\n")
    assert capsule.run("./tool", options=named).code == 0


@pytest.fixture
def loader() -> Path:
    found = next(Path("/").glob("lib64/ld-linux-*"), None) or next(Path("/lib").glob("ld-linux-*"), None)
    if found is None:
        pytest.skip("no loader of the GNU C library here")
    return found


def test_the_loader_maps_no_program_of_a_program_directory(capsule: Capsule, loader: Path) -> None:
    programs = f"process: {{programs: [/bin/sh, {loader}]}}\n"
    copied = capsule.workspace / "copied"
    shutil.copy("/usr/bin/id", copied)
    # The control: where every program may run, the loader starts the one it is given.
    control = capsule.run(str(loader), "/usr/bin/id", "-u")
    assert control.code == 0, control.err
    for name in ("/usr/bin/id", str(copied)):
        ran = capsule.run(str(loader), name, "-u", options=capsule.policy(programs))
        assert ran.code != 0
        assert ran.out == ""


def c_library() -> Path:
    """The C library this process maps: an executable that lies in a library directory."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    return next(Path(line.split()[-1]) for line in maps.splitlines() if line.endswith("/libc.so.6"))


def test_a_named_loader_starts_what_lies_in_a_library_directory(capsule: Capsule, loader: Path) -> None:
    """What SECURITY.md says is not held off, so that it says no less than is so."""
    library = str(c_library())
    script = f"for words in {library} '{loader} {library}'; do $words || echo refused $?; done"

    def answers(*options: str) -> list[str]:
        ran = capsule.run("/bin/sh", "-c", script, options=options)
        assert ran.code == 0, ran.err
        return re.findall(r"^(?:refused 126|GNU C Library)", ran.out, re.MULTILINE)

    # The control: where every program may run, it starts by itself and through the loader.
    assert answers() == ["GNU C Library", "GNU C Library"]
    named = capsule.policy(f"process: {{programs: [/bin/sh, {loader}]}}\n")
    assert answers(*named) == ["refused 126", "GNU C Library"]
    # A loader that is not named starts nothing, though the shell itself needs it to start.
    unnamed = capsule.policy("process: {programs: [/bin/sh]}\n")
    assert answers(*unnamed) == ["refused 126", "refused 126"]


MAPPING = """
import json, mmap, os, sys
answers = {}
for name in sys.argv[1:]:
    descriptor = os.open(name, os.O_RDONLY)
    try:
        mmap.mmap(descriptor, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
        answers[name] = "mapped"
    except PermissionError:
        answers[name] = "refused"
print(json.dumps(answers))
"""


def test_a_named_interpreter_maps_libraries_and_no_programs(capsule: Capsule) -> None:
    python = Path("/usr/bin/python3").resolve()
    copied = capsule.workspace / "copied.so"
    shutil.copy(c_library(), copied)
    names = [str(c_library()), "/usr/bin/id", str(copied)]

    def mapped(*options: str) -> Any:
        ran = capsule.run(str(python), "-c", MAPPING, *names, options=options)
        assert ran.code == 0, ran.err
        return json.loads(ran.out)

    assert mapped() == dict.fromkeys(names, "mapped")
    listed = capsule.policy(f"process: {{programs: [{python}]}}\n")
    assert mapped(*listed) == dict(zip(names, ["mapped", "refused", "refused"], strict=True))


class TestUnlisted:
    """What the list of programs keeps out is a refusal as every other, whoever tries it."""

    def test_the_command_itself(self, capsule: Capsule) -> None:
        options = capsule.policy("process: {programs: [/usr/bin/true, /bin/sh]}\n")
        ran = capsule.run("id", options=options)
        assert (ran.code, ran.exit["cause"]) == (126, "not_executable")
        (denial,) = ran.report["denials"]
        real = str(Path("/usr/bin/id").resolve())
        assert (denial["operation"], denial["target"], denial["layer"]) == ("execute", real, "landlock")
        assert denial["rule"]["text"] == 'programs: ["/usr/bin/true", "/bin/sh"]'
        assert (denial["rule"]["file"], denial["rule"]["line"]) == (str(capsule.workspace / "policy.yaml"), 4)
        assert denial["allow"] == f'process: programs: ["{real}"]'
        log = (capsule.workspace / "capsule.log").read_text()
        entries = [json.loads(line) for line in log.splitlines() if '"type":"denied"' in line]
        assert [entry["target"] for entry in entries] == [real]
        said = capsule.tell(capsule.command("id", options=options)).stderr
        assert "to allow: process: programs:" in said
        # The control: the line that is named lets it run.
        allowed = capsule.policy(f"process: {{programs: [/usr/bin/true, {real}]}}\n")
        assert capsule.run("id", "-u", options=allowed).code == 0

    def test_a_child(self, capsule: Capsule) -> None:
        ran = capsule.run("sh", "-c", "id", options=capsule.policy("process: {programs: [/bin/sh]}\n"))
        assert ran.code == 126
        (denial,) = ran.report["denials"]
        assert denial["rule"]["text"] == 'programs: ["/bin/sh"]'
        assert denial["rule"]["line"] == 4

    def test_a_listed_link_is_no_refusal(self, capsule: Capsule) -> None:
        (capsule.workspace / "link").symlink_to("/usr/bin/true")
        ran = capsule.run("./link", options=capsule.policy("process: {programs: [/usr/bin/true]}\n"))
        assert (ran.code, ran.report["denials"]) == (0, [])


def test_an_interpreter_that_is_not_executable_is_named(capsule: Capsule) -> None:
    script, inner = capsule.workspace / "tool", capsule.workspace / "inner"
    script.write_text(f"#!{inner}\n")
    script.chmod(0o755)
    shutil.copy("/usr/bin/true", inner)
    inner.chmod(0o644)
    ran = capsule.run("./tool")
    assert ran.code == 126
    assert f"interpreter {inner} is there and is not executable" in ran.exit["reason"]
    inner.chmod(0o755)
    assert capsule.run("./tool").code == 0
