"""What every test gets: the ``needs`` marker, the native binary, directories that are never the user's own.

Refuses: an unknown capability name, a missing native binary (that is a failure, not a reason to skip).

Example::

    @pytest.mark.needs("userns", "git")
    def test_commit(capsule_binary: Path, workspace: Path) -> None: ...
"""

from __future__ import annotations

import os
import pwd
import re
import signal
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.capabilities import PROBES, absent
from tests.passes import alike

# How long an example takes depends on what else the machine does; `benchmarks` measures time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Whoever starts the tests in the background of a script has them ignore what a keyboard sends, and a shell that is born
# so cannot trap it (POSIX, trap). Programs under test begin as at a terminal.
for _number, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)

REPOSITORY = Path(__file__).resolve().parent.parent
_SKIPPED = re.compile(r"needs ([a-z0-9-]+): (.*)")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--second-pass",
        action="store_true",
        help="leave out what ran in a first pass and does the same whoever runs it (tests/passes.py)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A wrong capability name would skip or run a test silently: refuse the whole session.

    With `--no-loadscope-reorder`, files of machines come first: few tests that take long, which would else be begun
    last, and at the end one process would wait for the other.
    """
    if config.getoption("--second-pass"):
        again = [item for item in items if not alike(item.path)]
        config.hook.pytest_deselected(items=[item for item in items if alike(item.path)])
        items[:] = again
    if not config.getoption("loadscopereorder", default=True):
        items.sort(key=lambda item: not item.path.is_relative_to(REPOSITORY / "tests/vm"))
    for item in items:
        for mark in item.iter_markers("needs"):
            unknown = set(mark.args) - PROBES.keys()
            if unknown or not mark.args:
                raise pytest.UsageError(
                    f"{item.nodeid}: needs({', '.join(map(repr, unknown))}): see tests/capabilities.py"
                )


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for capability in mark.args:
            reason = absent(capability)
            if reason is not None:
                pytest.skip(f"needs {capability}: {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name and count what this host could not test."""
    missing: Counter[tuple[str, str]] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        found = _SKIPPED.search(str(report.longrepr))
        if found:
            missing[found[1], found[2].rstrip("')")] += 1
    if missing:
        terminalreporter.section("not tested here")
        for (capability, reason), count in sorted(missing.items()):
            terminalreporter.line(f"{count:4} need {capability} ({reason})")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def capsule_binary() -> Path:
    """The native binary: the one CAPSULE_BINARY names, else the one installed beside this interpreter."""
    named = os.environ.get("CAPSULE_BINARY")
    path = Path(named) if named else Path(sysconfig.get_path("scripts")) / "capsule"
    if not os.access(path, os.X_OK):
        pytest.fail(f"no native binary at {path}: run `make setup`")
    return path


@pytest.fixture(autouse=True)
def _own_directories(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, remembered heads, caches and configuration of the user who runs the tests are never touched."""
    xdg = tmp_path_factory.mktemp("xdg", numbered=True)
    for name in ("DATA", "STATE", "CACHE", "CONFIG"):
        directory = xdg / name.lower()
        directory.mkdir(mode=0o700)
        monkeypatch.setenv(f"XDG_{name}_HOME", str(directory))
    for name in [name for name in os.environ if name.startswith("CAPSULE_") and name != "CAPSULE_BINARY"]:
        monkeypatch.delenv(name)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, which is also the working directory."""
    directory = tmp_path / "workspace"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with decoy secrets, which is also $HOME."""
    directory = tmp_path / "home"
    for name, text in {
        ".ssh/id_ed25519": "DECOY-PRIVATE-KEY",
        ".aws/credentials": "DECOY-CREDENTIALS",
    }.items():
        path = directory / name
        path.parent.mkdir(parents=True, mode=0o700)
        path.write_text(text + "\n")
        path.chmod(0o600)
    monkeypatch.setenv("HOME", str(directory))
    return directory


@pytest.fixture(scope="session")
def ordinary_user() -> Iterator[pwd.struct_passwd]:
    """An unprivileged account: ourselves, or when root the one that CAPSULE_TEST_USER names, or `nobody`."""
    if os.geteuid() != 0:
        yield pwd.getpwuid(os.geteuid())
        return
    yield pwd.getpwnam(os.environ.get("CAPSULE_TEST_USER", "nobody"))
