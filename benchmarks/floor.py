"""What the kernel alone takes: the same walls around a command, without policy, decisions or log.

The example `walls` of the crate puts up what `capsule run` puts up under the preset `workspace` and answers each
question of the filter without a look. Nothing built on these walls and these questions can take less. It refuses to
guess: where the example cannot be built there is no floor.

    floor = Floor.build(where, top / "walls.txt")
    floor.around(["/usr/bin/true"])             # the walls, questions answered unseen
    floor.around(["/usr/bin/true"], "unasked")  # the walls, and a filter that asks nothing
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import NotWorkingError

NATIVE = Path(__file__).resolve().parents[1] / "capsule" / "native"
ASKED = "the walls, asks answered unseen"
UNASKED = "the walls, nothing asked"


@dataclass(frozen=True, slots=True)
class Floor:
    """The built example, and the walls that it noted."""

    program: Path
    note: Path

    @classmethod
    def build(cls, where: str, note: Path) -> Floor:
        """Build the example as the binary is built, and note the walls that hold in `where`.

        Raises:
            NotWorkingError: it cannot be built, or this host does not give every layer.
        """
        argv = ["cargo", "build", "--release", "--example", "walls", "--message-format=json"]
        try:
            done = subprocess.run(argv, cwd=NATIVE, capture_output=True, text=True, check=True)
            built = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
            program = next(Path(row["executable"]) for row in built if row.get("executable"))
            subprocess.run([program, "note", note], cwd=where, capture_output=True, text=True, check=True)
        except (OSError, StopIteration, subprocess.CalledProcessError) as error:
            told = getattr(error, "stderr", None) or error
            raise NotWorkingError(f"the example walls: {str(told)[-200:]}") from error
        return cls(program, note)

    def around(self, job: Sequence[str], how: str = "asked") -> list[str]:
        """The command line of a job within the walls."""
        return [str(self.program), "run", str(self.note), how, "--", *job]

    def asks(self, job: Sequence[str], where: str) -> int:
        """How many system calls of a job the filter of `audit: writes` asks about."""
        done = subprocess.run(
            self.around(job, "counted"), cwd=where, capture_output=True, text=True, check=True
        )
        return int(done.stderr.rsplit("asks ", 1)[1])
