"""Which kernel modules a stock kernel needs before it has a root file system, and in which order they go in.

A module says in its own `.modinfo` section what it depends on. Refuses a module that is wanted and not there,
and one that depends on itself.

    order(WANTED, {"virtio_blk": …})
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from capsem.errors import ImageError

# What Debian's cloud kernel has as modules and a machine cannot start without; it has no 9p.
WANTED = ("virtio_mmio", "virtio_pci", "virtio_blk", "virtio_console", "virtio_rng", "squashfs", "overlay")
# What the network inside and a live share need, taken when it is there.
WELCOME = (
    "fuse",
    "dummy",
    "nf_tables",
    "nf_nat",
    "nft_chain_nat",
    "nft_ct",
    "nft_nat",
    "nft_redir",
    "nft_reject_ipv4",
)

_DEPENDS = re.compile(rb"\0depends=([A-Za-z0-9_,-]*)\0")


def module_name(path: str) -> str:
    """The kernel's name of a module file: `virtio-rng.ko` is `virtio_rng`."""
    return path.rpartition("/")[2].removesuffix(".ko").replace("-", "_")


def depends(untrusted_module: bytes) -> tuple[str, ...]:
    """What the module says it depends on; nothing when it is not said."""
    match = _DEPENDS.search(untrusted_module)
    names = match[1].decode("ascii").split(",") if match else []
    return tuple(name.replace("-", "_") for name in names if name)


def order(wanted: Sequence[str], modules: Mapping[str, bytes]) -> list[str]:
    """The wanted modules and what they depend on, each after what it needs.

    Raises:
        ImageError: one is missing, or they need each other.
    """
    done: list[str] = []
    for name in wanted:
        _place(name, modules, done, ())
    return done


def _place(name: str, modules: Mapping[str, bytes], done: list[str], above: tuple[str, ...]) -> None:
    if name in done:
        return
    if name in above:
        raise ImageError(
            f"kernel modules need each other: {' → '.join((*above, name))}", next_step="use --kernel hardened"
        )
    if name not in modules:
        needed = f", which {above[-1]} needs" if above else ""
        raise ImageError(f"this kernel has no module {name}{needed}", next_step="use --kernel hardened")
    for other in depends(modules[name]):
        _place(other, modules, done, (*above, name))
    done.append(name)
