"""A run that waits for an answer: a real egress where the verbs look for it, and a program inside that asks.

with waiting(tmp_path) as run:
    run.put("/x")                   # the ask is there when this returns
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from capsule.cli.seam import Seam
from tests.egress.supervisor import Daemon, Done, Run, Stage, host, plan, wait_until
from tests.egress.upstream import Upstream

RULES = """version: 1
rules:
  - {id: publish, on: http, when: 'http.method == "PUT"', action: ask, ask_timeout: 60s, reason: it publishes}
"""


@dataclass
class Waiting:
    """The run; `seam` is the client of its egress."""

    stage: Stage
    seam: Seam
    numbers: list[int] = field(default_factory=list)

    def put(self, path: str, *more: str) -> str:
        """Begins a request that is asked about; the id of its ask."""
        before = {ask["id"] for ask in self.seam.get("/asks")["asks"]}
        url = f"http://a.example{path}"
        self.numbers.append(
            self.stage.start(
                "curl", "-sS", "-m", "25", "-X", "PUT", "-d", "body", "-w", " %{http_code}", *more, url
            )
        )
        fresh: list[str] = []

        def came() -> bool:
            fresh[:] = [ask["id"] for ask in self.seam.get("/asks")["asks"] if ask["id"] not in before]
            return bool(fresh)

        wait_until(came)
        return fresh[0]

    def finish(self) -> Done:
        """What became of the first request that is not finished."""
        return self.stage.finish(self.numbers.pop(0))


@contextlib.contextmanager
def waiting(state: Path) -> Iterator[Waiting]:
    """Under `state` as XDG_STATE_HOME."""
    folder = state / "capsule" / "egress"
    folder.mkdir(parents=True)
    upstream = Upstream(None)
    stage = Stage(80)
    daemon = Daemon(folder)
    sent = {"host": "a.example", "address": f"127.0.0.1:{upstream.port}", "origin": None}
    egress = plan(host("a.example", 80), upstreams=[sent], rules=[{"path": "/w/rules.yaml", "origin": None}])
    run = Run(daemon, stage, egress, sources=[{"path": "/w/rules.yaml", "text": RULES}], name="run-of-tests")
    try:
        run.open()
        yield Waiting(stage, Seam(daemon.path))
    finally:
        run.close()
        daemon.close()
        stage.close()
        upstream.close()
