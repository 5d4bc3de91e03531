"""What can happen to one request to a vendor. Each fake takes these by `fail_next`, and words refusals as its own."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """What happens to one request: whether it is applied, and what is answered."""

    applies: bool = False
    status: int = 200
    body: str | None = None
    """None: the connection is closed without an answer."""
    headers: Mapping[str, str] | None = None
    is_cut_off: bool = False
    """Closed in the middle of the body."""


LOST_BEFORE = Fault(applies=False)
LOST_AFTER = Fault(applies=True)
ERROR_BEFORE = Fault(applies=False, status=500, body="<html>Internal Server Error</html>")
ERROR_AFTER = Fault(applies=True, status=500, body="<html>Internal Server Error</html>")
CUT_OFF_AFTER = Fault(applies=True, body='{"ok":true,"channel":"C0', is_cut_off=True)
GARBLED_AFTER = Fault(applies=True, body='{"ok":true,"channel":"C0')
PORTAL_BEFORE = Fault(applies=False, body="<html>Please log in to the network</html>")


def rate_limited(retry_after: int) -> Fault:
    """Too many requests: try again after so many seconds."""
    return Fault(
        status=429, body='{"ok":false,"error":"ratelimited"}', headers={"Retry-After": str(retry_after)}, applies=False
    )


REFUSED = Fault(status=403, body="{}")
"""A clear no, for a reason that people can mend."""
