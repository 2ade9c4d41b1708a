from __future__ import annotations

import pytest

from capsem.errors import UsageError
from capsem.vm.quantities import machine_name, mebibytes


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", 512), ("512M", 512), ("2G", 2048), ("2g", 2048), ("1GiB", 1024), ("100MB", 100)],
)
def test_sizes(text: str, size: int) -> None:
    assert mebibytes(text, what="--memory", least=1, most=4096) == size


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5G", "1T", "G", "1 G 2", "99999999", "8192", "0x10"])
def test_what_is_no_size_or_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--memory"):
        mebibytes(text, what="--memory", least=1, most=4096)


@pytest.mark.parametrize("name", ["m-1a", "m-1a2b3c4d", "m-f"])
def test_what_could_be_an_id_is_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="looks like the id"):
        machine_name(name)


@pytest.mark.parametrize("name", ["a", "build-1", "a" * 63, "m", "m-work", "m-1a2b3c4d5", "me-1a"])
def test_names(name: str) -> None:
    assert machine_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "1a", "a-", "-a", "a.b", "a/b", "../x", "a" * 64, "a\n", "--json"])
def test_what_could_be_a_path_or_an_option_is_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="no name"):
        machine_name(name)
