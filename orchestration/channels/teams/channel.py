"""Microsoft Teams: posting a card by the webhook of a workflow ("When a Teams webhook request is received").

The webhook answers 202 before the workflow posts anything. There is no key against repetitions, and nothing can be
looked up. So the route chooses. By default a card whose answer was lost is sent again and says so: a warning that is
missed costs more than one that is read twice. A workflow that fails later is only seen in its run history.

There is no library in between: pymsteams and Apprise answer yes or no, so that a lost answer would count as a refusal.
"""

import re
from typing import Any

from orchestration.channels import http
from orchestration.channels.teams.drawing import block, run
from orchestration.ledger.ledger import Delivery
from orchestration.ledger.outbox import InDoubtError, Promise, RefusedError
from orchestration.messages.outline import REPETITION

ADDRESS = "workflow"
"""Where it goes, in place of the URL, which is a secret."""
RUN_ID = "x-ms-workflow-run-id"
CONNECTOR_FAILED = "webhook message delivery failed"
"""What the webhook of an Office 365 connector says in an answer of status 200."""
_REMEDIES = {
    400: "Teams refuses the form of this card, or the workflow is switched off: check its run history",
    401: "the URL is not complete: copy all of it again from the workflow, with its signature",
    403: "let anyone trigger the workflow, in the settings of its trigger",
    404: "there is no such workflow any longer: make one, and set its URL",
    410: "there is no such workflow any longer: make one, and set its URL",
    413: "the card is too large: send it by hand from `headroom deliveries`, and update Headroom",
}


class TeamsChannel:
    """Posts to the channel or chat of the workflow with that `url`. With `has_mentions` owners are mentioned."""

    name = "Teams"
    is_preview = False

    def __init__(self, url: str, promise: Promise, *, has_mentions: bool = False) -> None:
        self._url, self.promise, self._has_mentions = url, promise, has_mentions

    def address(self, delivery: Delivery, parent: Delivery | None) -> str:
        if parent is not None:
            raise RefusedError("a webhook of Teams cannot reply")
        return ADDRESS

    def send(self, delivery: Delivery) -> str:
        """The receipt is the id of the workflow's run, by which its run history has it."""
        card = delivery.payload["card"]
        if delivery.may_be_repeated:
            card = {**card, "body": [*card["body"], block(run(REPETITION, isSubtle=True), spacing="Medium")]}
        attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
        message = {"type": "message", "attachments": [attachment]}
        answer = http.request("POST", self._url, vendor=self.name, what="the workflow", remedy=_remedy, json=message)
        if CONNECTOR_FAILED in answer.text[:1_000].lower():
            raise RefusedError("the webhook is that of an Office 365 connector, and it failed: make a workflow instead")
        if answer.status_code != 202 and answer.text.lstrip().startswith("<"):
            raise InDoubtError(f"no usable answer from {self.name} for the workflow: a web page")
        run_id = answer.headers.get(RUN_ID, "")
        return run_id if re.fullmatch(r"[\w-]{1,100}", run_id) else "accepted"

    def find(self, delivery: Delivery) -> str | None:
        """Nothing: a webhook cannot be asked."""
        return None

    def user_id(self, email: str) -> str | None:
        """The address itself, by which Teams knows people of the organization, where the route mentions them."""
        return email if self._has_mentions else None


def _remedy(status: int, body: Any) -> str:
    return _REMEDIES.get(status, "check the workflow's run history")
