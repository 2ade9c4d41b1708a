"""Detection while a run goes on: every event of egress before the policy's packs; findings, never decisions.

Refuses rules that do not compile, by saying which (`problems`): then the session denies everything, as with rules.

    watch = Watch(plan.detect, sources)
    watch.problems or recorder.observers.append(watch.see)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from capsule.egress.frames import Source
from capsule.errors import CapsuleError
from capsule.rules.detection.detector import Detector
from capsule.rules.detection.packs import load_pack
from capsule.rules.detection.sigma import parse_sigma


class Watch:
    """The detection of one session.

    Attributes:
        problems: what does not compile; then nothing is watched.
    """

    def __init__(
        self, named: Iterable[Any], sources: Iterable[Source], found: Callable[[dict[str, Any]], None]
    ) -> None:
        self.problems: list[str] = []
        self._found = found
        texts: list[tuple[str, str]] = []
        known = tuple(sources)
        for one in named:
            pack, path = one.get("pack"), one.get("path")
            if pack is not None:
                files = load_pack(pack)
                if files is None:
                    self.problems.append(f"there is no pack {pack!r} of detection")
                texts += files or []
            else:
                below = [(s.path, s.text) for s in known if s.path == path or s.path.startswith(f"{path}/")]
                if not below:
                    self.problems.append(f"{path} was not read")
                texts += below
        parsed = []
        for file, text in texts:
            try:
                parsed.append(parse_sigma(text, file))
            except CapsuleError as error:
                self.problems.append(str(error))
        self._detector = Detector(() if self.problems else parsed)

    def see(self, entry: dict[str, Any]) -> None:
        """One entry as it was written; findings are written after it."""
        if "event" in entry:
            for finding in self._detector.observe(entry):
                self._found(finding.record())
