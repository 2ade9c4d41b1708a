from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from capsem.errors import MachineError
from capsem.processes.monitor.template import make
from capsem.vm.plan import work_out
from capsem.vm.spec import MachineSpec
from tests.capsem.vm.test_plan import FACTS, IMAGE

pytestmark = pytest.mark.asyncio


@pytest.mark.needs("qemu", "userns", "landlock", "seccomp-notify")
async def test_an_image_that_does_not_boot_is_told(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.write_bytes(b"\0" * 4096)
    image = replace(IMAGE, kernel=str(tmp_path / "none"), initrd=str(tmp_path / "none"), root=str(root))
    with pytest.raises(MachineError, match="the image does not boot: QEMU ended with 1") as caught:
        await make(work_out(MachineSpec(memory_mib=128), image, FACTS), tmp_path)
    assert "capsem image verify" in caught.value.next_step
    assert not (tmp_path / "memory").exists()
