from __future__ import annotations

from pathlib import Path

import pytest

from capsem.errors import NoSuchCommandError
from capsem.host import places
from capsem.host.operation import Output
from capsem.sdk import command
from capsem.sdk.command import CommandExitError, Texts, start
from capsem.wire.monitor import Exec
from tests.capsem.processes.monitor.standing import ID, USER, standing

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("capsem_home")]


async def test_a_failure_is_a_result_unless_it_was_to_be_an_error(tmp_path: Path) -> None:
    async with standing(tmp_path):
        handle = await start(
            places.monitor_socket(ID), Exec(argv=("/bin/sh", "-c", "exit 5"), user=USER, cwd="/")
        )
        assert (await handle.wait()).exit_code == 5
        with pytest.raises(CommandExitError) as caught:
            await handle.wait(check=True)
        assert caught.value.result.exit_code == 5
        with pytest.raises(NoSuchCommandError):
            await start(places.monitor_socket(ID), Exec(argv=("no-such-program",), user=USER, cwd="/"))


async def test_output_that_is_too_much_is_told_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "OUTPUT_LIMIT", 1000)
    told: list[str] = []
    async with standing(tmp_path):
        asked = Exec(argv=("/bin/sh", "-c", "head -c 5000 /dev/zero | tr '\\0' x"), user=USER, cwd="/")
        handle = await start(places.monitor_socket(ID), asked, on_stdout=told.append)
        result = await handle.wait()
    assert result.stdout == "x" * 1000
    assert result.truncated
    assert sum(map(len, told)) == 5000


async def test_a_character_in_two_pieces_is_one() -> None:
    texts = Texts()
    first, second = "aé".encode()[:2], "aé".encode()[2:]
    assert (texts.of(Output(first)), texts.of(Output(b"e", errors=True)), texts.of(Output(second))) == (
        "a",
        "e",
        "é",
    )
    texts.of(Output(b"\xc3", errors=True))
    assert texts.rest() == ("", "\ufffd"), "what never became a character is told at the end"


async def test_a_callback_is_told_whole_characters(tmp_path: Path) -> None:
    told: list[str] = []
    script = "printf '\\303'; sleep 0.3; printf '\\251\\303'"
    async with standing(tmp_path):
        asked = Exec(argv=("/bin/sh", "-c", script), user=USER, cwd="/")
        handle = await start(places.monitor_socket(ID), asked, on_stdout=told.append)
        result = await handle.wait()
    assert "".join(told) == result.stdout == "é\ufffd"
