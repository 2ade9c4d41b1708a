from __future__ import annotations

from capsem.host.progress import Progress, Silent


def test_silence_is_a_progress() -> None:
    progress: Progress = Silent()
    progress.step("x")
    progress.at(0.5)
    progress.at(None)
