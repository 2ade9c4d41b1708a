"""Cleaning by rule: when the service has started, every hour from then on, and when somebody asks.

Refuses to take a template away while a machine starts from it. What goes is on record before (`capsem.host.keeping`).

    await clean(registry.templates, dry=True)        # what would go, and what stays and why
"""

from __future__ import annotations

import asyncio
import sys
import time

from capsem.errors import CapsemError
from capsem.host import keeping
from capsem.host.settings import load
from capsem.processes.service.templates import Templates
from capsem.vm.keeping import Judged, What, judged

EVERY_SECONDS = 3600.0


async def clean(templates: Templates, *, dry: bool) -> list[Judged]:
    """Remove what goes; returns what went, or would go, and what stays.

    Raises:
        CapsemError: the settings or the images' names cannot be read: then nothing goes.
        OSError: it cannot be put on record: then the rest stays.
    """
    settings = await asyncio.to_thread(load)
    found = judged(await asyncio.to_thread(keeping.items), settings, time.time())
    if dry:
        return found
    done = []
    for one in found:
        if not one.goes:
            done.append(one)
        elif one.item.what is What.TEMPLATE:
            async with templates.left_alone(one.item.name):
                if await asyncio.to_thread(keeping.remove, one):
                    templates.forget(one.item.name)
                    done.append(one)
        elif await asyncio.to_thread(keeping.remove, one):
            done.append(one)
    return done


async def clean_now_and_then(templates: Templates) -> None:
    """Until it is cancelled. Nobody asked, so what goes wrong is on the service's log."""
    while True:
        # What was forgotten an hour ago: no machine is still about to start from it.
        templates.release()
        try:
            await clean(templates, dry=False)
        except (CapsemError, OSError) as error:
            sys.stderr.write(f"capsem-service: nothing was cleaned: {error}\n")
            sys.stderr.flush()
        await asyncio.sleep(EVERY_SECONDS)
