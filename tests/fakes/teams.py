"""A workflow of Microsoft Teams on loopback: its trigger accepts, and the workflow posts the card afterwards, or fails.

By the pages "Microsoft Teams" of the connectors and "Format cards in Teams". Sizes count as in msteams-docs#11274.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.faults import Fault
from tests.fakes.loopback import Loopback

MAX_BYTES = 28_672
CARD = "application/vnd.microsoft.card.adaptive"
VERSIONS = ("1.2", "1.3", "1.4", "1.5")
ELEMENTS = ("TextBlock", "RichTextBlock")


class FakeTeams(Loopback):
    """One workflow that posts to one channel."""

    name = "teams"

    def __init__(self) -> None:
        super().__init__()
        self.signature = "sEcReT-signature_0123"
        self.people = {"ana@example.com"}
        """Principal names of the organization."""
        self.cards: list[dict[str, Any]] = []
        self.failed_runs: list[str] = []
        """Why a run failed after its trigger had answered 202."""

    @property
    def workflow(self) -> str:
        path = "/workflows/5f0a/triggers/manual/paths/invoke?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun"
        return f"{self.url}{path}&sv=1.0&sig={self.signature}"

    def environment(self, route: str) -> dict[str, str]:
        return {f"HEADROOM_ROUTE_{route.upper().replace('-', '_')}_URL": self.workflow}

    @property
    def arrived(self) -> list[dict[str, Any]]:
        return [{"text": "\n".join(map(_words, card["body"])), "pings": _mentioned(card)} for card in self.cards]

    def is_sending(self, method: str, path: str) -> bool:
        return method == "POST"

    def worded(self, fault: Fault) -> Fault:
        if fault.status == 403:
            return replace(fault, body=json.dumps(_error("DirectApiAuthorizationRequired", "not authorized")))
        return fault

    def apply(self, method: str, path: str, headers: Mapping[str, str], body: Any) -> tuple[int, Any]:
        address = urlsplit(path)
        if not address.path.startswith("/workflows/5f0a/"):
            return 404, _error("WorkflowNotFound", "The workflow could not be found.")
        if parse_qs(address.query).get("sig") != [self.signature]:
            return 401, _error("AuthorizationFailed", "The authentication credentials are not valid.")
        if body.get("type") != "message" or not body.get("attachments"):
            return 400, _error("TriggerInputSchemaMismatch", "The input body does not match the schema.")
        [attachment] = body["attachments"]
        card = attachment["content"]
        if attachment["contentType"] == CARD:
            self.post(card)
        else:
            self.failed_runs.append("no card")
        return 202, None

    def post(self, card: dict[str, Any]) -> None:
        """What the workflow does after its trigger has answered."""
        if problem := self._problem(card):
            self.failed_runs.append(problem)
        else:
            self.cards.append(card)

    def _problem(self, card: Mapping[str, Any]) -> str:
        if card.get("type") != "AdaptiveCard" or card.get("version") not in VERSIONS:
            return "Property 'type' must be 'AdaptiveCard'"
        if len(json.dumps(json.dumps(card))) > MAX_BYTES:
            return "MessageSizeExceeded"
        if not card["body"] or not all(map(_is_valid, card["body"])):
            return "AdaptiveSerializationException"
        if unknown := [address for address in _mentioned(card) if address not in self.people]:
            return f"failed to resolve {len(unknown)} mentions"
        return ""


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def _is_valid(element: Mapping[str, Any]) -> bool:
    texts = element["inlines"] if element["type"] == "RichTextBlock" else [element]
    return element["type"] in ELEMENTS and bool(texts) and all(text["text"] for text in texts)


def _words(element: Mapping[str, Any]) -> str:
    return "".join(each["text"] for each in element.get("inlines", [element]))


def _mentioned(card: Mapping[str, Any]) -> list[str]:
    """Addresses of the mentions whose text is in a TextBlock, as Teams needs it."""
    texts = " ".join(each["text"] for each in card["body"] if each["type"] == "TextBlock")
    entities = card.get("msteams", {}).get("entities", [])
    return [entity["mentioned"]["id"] for entity in entities if entity["text"] in texts]
