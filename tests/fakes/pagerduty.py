"""PagerDuty's Events API v2 on loopback, by its pages "Events API v2 Overview" and "Send an Alert Event"."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.fakes.faults import Fault
from tests.fakes.loopback import Loopback

MAX_SUMMARY_CHARACTERS = 1_024
MAX_DEDUP_KEY_CHARACTERS = 255
MAX_BYTES = 512_000
SEVERITIES = ("critical", "error", "warning", "info")


class FakePagerDuty(Loopback):
    """One service: its alerts, of which those with the same dedup_key are one as long as it is open."""

    name = "pagerduty"

    def __init__(self) -> None:
        super().__init__()
        self.routing_key = "0123456789abcdef0123456789abcdef"
        self.alerts: list[dict[str, Any]] = []
        """Oldest first: event, is_open, and how many triggers it has."""

    def environment(self, route: str) -> dict[str, str]:
        prefix = f"HEADROOM_ROUTE_{route.upper().replace('-', '_')}"
        return {f"{prefix}_ROUTING_KEY": self.routing_key, f"{prefix}_API_URL": self.url}

    @property
    def arrived(self) -> list[dict[str, Any]]:
        """The alerts that were opened, as people see them."""
        events = [alert["event"] for alert in self.alerts]
        return [{"mark": event["dedup_key"], "text": json.dumps(event, ensure_ascii=False)} for event in events]

    def resolve(self) -> None:
        """Somebody has mended all of it."""
        for alert in self.alerts:
            alert["is_open"] = False

    def is_sending(self, method: str, path: str) -> bool:
        return True

    def worded(self, fault: Fault) -> Fault:
        if fault.status == 403:
            return replace(fault, status=400, body=json.dumps(_invalid("'routing_key' is invalid")))
        return replace(fault, body="", headers=None) if fault.status == 429 else fault  # it documents no Retry-After

    def apply(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> tuple[int, Any]:
        if (method, path) != ("POST", "/v2/enqueue"):
            return 404, {}
        if len(json.dumps(body, ensure_ascii=False).encode()) > MAX_BYTES:
            return 413, {}
        if problems := _problems(body):
            return 400, _invalid(*problems)
        # An unknown key of the right length is accepted: the API processes events later, and drops it then.
        if body["routing_key"] == self.routing_key:
            self._trigger(body)
        return 202, {"status": "success", "message": "Event processed", "dedup_key": body["dedup_key"]}

    def _trigger(self, event: dict[str, Any]) -> None:
        for alert in self.alerts:
            if alert["is_open"] and alert["event"]["dedup_key"] == event["dedup_key"]:
                alert["triggers"] += 1
                return
        self.alerts.append({"event": event, "is_open": True, "triggers": 1})


def _invalid(*errors: str) -> dict[str, Any]:
    return {"status": "invalid event", "message": "Event object is invalid", "errors": list(errors)}


def _problems(event: dict[str, Any]) -> list[str]:
    payload = event.get("payload") or {}
    wrong = {
        "Length of 'routing_key' is incorrect (should be 32 characters)": len(event.get("routing_key", "")) != 32,
        "'event_action' is invalid": event.get("event_action") not in ("trigger", "acknowledge", "resolve"),
        "'dedup_key' is too long": len(event.get("dedup_key") or "") > MAX_DEDUP_KEY_CHARACTERS,
        "'payload.summary' is missing or blank": not str(payload.get("summary", "")).strip(),
        "'payload.summary' is too long": len(payload.get("summary", "")) > MAX_SUMMARY_CHARACTERS,
        "'payload.severity' is invalid (must be one of ...)": payload.get("severity") not in SEVERITIES,
        "'payload.source' is missing or blank": not str(payload.get("source", "")).strip(),
        "'payload.custom_details' is not an object": not isinstance(payload.get("custom_details", {}), dict),
        "'links' is invalid": not all(str(link.get("href", "")).startswith("http") for link in event.get("links", ())),
    }
    return [problem for problem, is_true in wrong.items() if is_true]
