"""FakeSlack as all fakes of channels are: an address, the variables of a route, faults, and what people see."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from orchestration.channels.slack.rich import message_text
from tests.fakes.faults import Fault
from tests.fakes.slack import FakeSlack, refused


class RoutedSlack(FakeSlack):
    name = "slack"
    to = "C0DIGEST"
    other_to = "C0OTHER"
    options: Mapping[str, str] = MappingProxyType({})

    def __init__(self) -> None:
        super().__init__()
        self.channels[self.other_to] = {}

    def environment(self, route: str) -> dict[str, str]:
        prefix = f"HEADROOM_ROUTE_{route.upper().replace('-', '_')}"
        return {f"{prefix}_TOKEN": self.token, f"{prefix}_API_URL": self.url}

    def fail_next(self, *faults: Fault) -> None:
        """The next posts meet these; a refusal is worded as Slack's."""
        self.then(*(refused("not_in_channel") if fault.status == 403 else fault for fault in faults))

    @property
    def arrived(self) -> list[dict[str, Any]]:
        """Messages and replies, oldest first."""
        shown = [*self.messages, *(reply for replies in self.threads.values() for reply in replies)]
        return [{"mark": _mark(message), "text": message_text(message)} for message in shown]


def _mark(message: dict[str, Any]) -> str:
    return str(message.get("metadata", {}).get("event_payload", {}).get("key", ""))
