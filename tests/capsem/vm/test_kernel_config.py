from __future__ import annotations

import re

import pytest

from capsem.errors import ImageError
from capsem.vm.kernel_config import made_by_us, parse, unmet
from tests.architecture.sources import ROOT

OURS = parse((ROOT / "capsem/guest/kernel.config").read_text(encoding="utf-8"))


def test_options_and_their_absence() -> None:
    found = parse('# words\n\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=n\nCONFIG_D="x y"\nCONFIG_E=-1\n')
    assert found == {"CONFIG_A": "y", "CONFIG_B": "n", "CONFIG_C": "n", "CONFIG_D": '"x y"', "CONFIG_E": "-1"}


@pytest.mark.parametrize("line", ["CONFIG_A", "A=y", "CONFIG_A=maybe", "CONFIG_A=y # why", "include x"])
def test_what_is_no_option(line: str) -> None:
    with pytest.raises(ImageError, match=r"kernel\.config:1"):
        parse(line)


def test_an_option_has_one_value() -> None:
    with pytest.raises(ImageError, match="twice"):
        parse("CONFIG_A=y\nCONFIG_A=n\n")


def test_what_the_kernel_dropped_is_said() -> None:
    asked = {"CONFIG_A": "y", "CONFIG_B": "n", "CONFIG_C": "n", "CONFIG_D": "y"}
    assert unmet(asked, {"CONFIG_A": "y", "CONFIG_C": "y"}) == [
        "CONFIG_C: asked n, is y",
        "CONFIG_D: asked y, is n",
    ]


def test_a_build_depends_on_sources_configuration_and_compiler() -> None:
    assert (
        len(
            {made_by_us(*row) for row in (("a", "b", "c"), ("x", "b", "c"), ("a", "x", "c"), ("a", "b", "x"))}
        )
        == 4
    )


@pytest.mark.parametrize(
    "option",
    ["MODULES", "DEBUG_FS", "IPV6", "SWAP", "KEXEC", "KEXEC_FILE", "IO_URING", "BPF_SYSCALL", "IA32_EMULATION",
     "X86_X32_ABI", "DEVMEM", "USERFAULTFD", "VIRTIO_NET", "ETHERNET", "PACKET", "HIBERNATION", "KALLSYMS"],
)  # fmt: skip
def test_the_guest_s_kernel_is_without(option: str) -> None:
    assert OURS[f"CONFIG_{option}"] == "n"


def test_every_option_is_explained_and_nothing_else_is() -> None:
    page = (ROOT / "docs/concepts/guest-kernel.md").read_text(encoding="utf-8")
    explained = {f"CONFIG_{name}" for name in re.findall(r"`([A-Z0-9_]+)`", page)}
    assert set(OURS) - explained == set()
    assert explained - set(OURS) == set()
