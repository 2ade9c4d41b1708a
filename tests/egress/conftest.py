"""What the tests of egress share: a daemon, a namespace that stands for a sandbox, servers on loopback."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.capabilities import absent

if sys.version_info < (3, 12):
    collect_ignore_glob = ["test_[!f]*.py"]
else:
    from tests.egress.certificates import Pair, make
    from tests.egress.supervisor import Daemon, Done, Run, Stage, plan
    from tests.egress.upstream import Upstream

    HERE = Path(__file__).parent
    _NUMBERS = itertools.count()

    @pytest.fixture(scope="module")
    def stage() -> Iterator[Stage]:
        """A namespace with listeners on 80, 443 and 5432."""
        if (reason := absent("userns")) is not None:
            pytest.skip(f"needs userns: {reason}")
        found = Stage(443, 80, 5432)
        yield found
        found.close()

    @pytest.fixture(scope="module")
    def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
        found = Daemon(tmp_path_factory.mktemp("egress"))
        yield found
        found.close()

    @pytest.fixture(scope="session")
    def outside() -> Pair:
        """The authority of the servers outside."""
        return make("the internet")

    @pytest.fixture(scope="module")
    def upstream(outside: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
        """`a.example` and `b.example` over TLS, HTTP/2 and HTTP/1.1."""
        names = ("a.example", "b.example", "*.w.example")
        pair = make("a.example", outside, names=names)
        found = Upstream(pair.write(tmp_path_factory.mktemp("upstream"), "leaf"))
        yield found
        found.close()

    @pytest.fixture(scope="module")
    def plain() -> Iterator[Upstream]:
        """The same without TLS."""
        found = Upstream(None)
        yield found
        found.close()

    class Inside:
        """Runs programs inside, under one session."""

        def __init__(self, run: Run, stage: Stage, ca: Path) -> None:
            self.run = run
            self.stage = stage
            self.ca = ca

        def curl(self, *arguments: str, given: str = "", timeout: float = 30) -> Done:
            return self.stage.run(
                "curl", "-sS", "-m", "25", "--cacert", str(self.ca), *arguments, given=given, timeout=timeout
            )

        def client(self, *arguments: str, given: str = "", timeout: float = 40) -> Done:
            environment = {"CA": str(self.ca), "PYTHONPATH": os.pathsep.join(sys.path)}
            argv = [sys.executable, str(HERE / "clients.py"), *arguments]
            return self.stage.run(*argv, given=given, timeout=timeout, env=environment)

    Open = Callable[..., Inside]

    @pytest.fixture
    def session(daemon: Daemon, stage: Stage, outside: Pair) -> Iterator[Open]:
        """Opens sessions; the policy's further authority is that of the servers outside."""
        runs: list[Run] = []

        def start(*hosts: dict[str, Any], **fields: Any) -> Inside:
            options = {name: fields.pop(name) for name in ("secrets", "interactive") if name in fields}
            sources = [{"path": "/outside.pem", "text": outside.pem.decode()}, *fields.pop("sources", [])]
            if "plan_secrets" in fields:
                fields["secrets"] = fields.pop("plan_secrets")
            fields.setdefault("authorities", [{"path": "/outside.pem"}])
            run = Run(
                daemon,
                stage,
                plan(*hosts, **fields),
                sources=sources,
                name=f"run-{next(_NUMBERS)}",
                **options,
            )
            runs.append(run.open())
            return Inside(run, stage, daemon.directory / "authority.pem")

        yield start
        for run in runs:
            run.close()
        if daemon.process.poll() is not None:
            raise AssertionError(f"the daemon died:\n{daemon.log.read_text()}")
