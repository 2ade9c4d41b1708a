from __future__ import annotations

import os
from pathlib import Path

import pytest

from capsem.errors import UsageError
from capsem.host import places


def test_everything_is_for_its_owner_alone(capsem_home: Path) -> None:
    assert places.prepare() == capsem_home
    for directory in (places.run(), places.templates(), places.session("x").parent):
        assert directory.stat().st_mode & 0o777 == 0o700
    assert places.monitor_socket("m-1").parent == places.service_socket().parent == places.run()
    places.prepare()


def test_a_home_that_others_may_write_to_is_refused(capsem_home: Path) -> None:
    capsem_home.chmod(0o777)
    with pytest.raises(UsageError, match="written by others"):
        places.prepare()


def test_a_home_too_long_for_sockets_is_refused(capsem_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAPSEM_HOME", str(capsem_home / ("x" * 90)))
    with pytest.raises(UsageError, match="too long"):
        places.prepare()


def test_a_home_where_a_file_is_in_the_way_is_refused(
    capsem_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (capsem_home / "file").touch()
    monkeypatch.setenv("CAPSEM_HOME", str(capsem_home / "file/home"))
    with pytest.raises(UsageError, match="is no directory"):
        places.prepare()


@pytest.mark.needs("root")
def test_a_home_of_another_user_is_refused(capsem_home: Path) -> None:
    os.chown(capsem_home, 65534, 65534)
    with pytest.raises(UsageError, match="belongs to user 65534"):
        places.prepare()
