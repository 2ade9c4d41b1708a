"""What a request is besides HTTP, as the rules see it before it goes out: a call of a model, a WebSocket.

Of a model call only what is asked is known; of one whose body could not be understood (too long, coded, no JSON,
a key twice) only who and how, so that a rule that blocks and reads more holds. Refuses nothing.

    kinds_of(story, rules, "POST", "/v1/messages")      # [{"event": {"type": "model", …}, "model": {…}}]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from capsule.egress.metering import wants_body
from capsule.egress.model.call import dialect_of

if TYPE_CHECKING:
    from capsule.egress.story import Story
    from capsule.rules.engine import RuleSet


def kinds_of(story: Story, rules: RuleSet, method: str, path: str) -> list[dict[str, Any]]:
    """The events that rules are on."""
    found = []
    http = story.event["http"]
    if rules.asks_about("model") and wants_body(method, path):
        dialect = dialect_of(path)
        unknown = {"provider": "compatible", "api": dialect.api if dialect is not None else ""}
        asked = story.model.asked() if story.model is not None else unknown
        found.append(_event(story, "model", {**asked, "http_id": story.id}))
    if rules.asks_about("websocket") and http.get("websocket"):
        found.append(_event(story, "websocket", {"http_id": story.id, "host": http["host"]}))
    return found


def _event(story: Story, kind: str, section: dict[str, Any]) -> dict[str, Any]:
    # An ask shows the request too; rules on this kind see their own section alone.
    return {**story.event, "event": {**story.event["event"], "type": kind}, kind: section}
