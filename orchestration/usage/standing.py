"""How far what was counted is at Stripe, in customer-hours: the counts that a footer and a command put into words."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Standing:
    """Of each customer and hour its newest report counts. One that is in none of these is confirmed as counted."""

    periods: int = 0
    """Billing periods of customers that are not invoiced as they were counted."""
    misbilled: int = 0
    """Stripe bills them otherwise than they were counted, or refused them."""
    for_approval: int = 0
    """They wait for people to approve them."""
    for_approval_since: datetime | None = None
    unsent: int = 0
    """They wait for the next run to send them."""
    unsent_since: datetime | None = None
    unconfirmed: int = 0
    """They were sent, and Stripe was not seen to show them yet."""
    unconfirmed_since: datetime | None = None
    """When the first of these was sent."""
