"""When a customer's subscription bills its usage, as far as that is other than its accounts say. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from orchestration.billing.subscriptions import LIVE, Subscription
from orchestration.usage.findings import Finding
from orchestration.usage.formatting import counted


def term_findings(
    event_name: str,
    accounts: Mapping[str, Sequence[Mapping[str, Any]]],
    subscriptions: Iterable[Subscription],
    now: datetime,
) -> list[Finding]:
    """Periods that differ, trials and ends, of customers whose usage a live subscription bills; and thresholds, in one.

    Rows of `accounts` have period_start and period_end, where their billing period is known.
    """
    findings, thresholds = [], 0
    for each in subscriptions:
        if each.status not in LIVE or each.customer not in accounts or event_name not in [p.meter for p in each.prices]:
            continue
        thresholds += each.has_threshold
        owners = accounts[each.customer]
        subject = f"customer {each.customer} ({', '.join(owner['account_id'] for owner in owners)})"
        findings += [Finding(subject, words, is_needed=False) for words in _terms(each, owners, now)]
    if thresholds:
        words = f"{counted(thresholds, 'subscription')} with a billing threshold"
        findings.append(Finding(f"{words}: an invoice within a period is compared together with the one at its end"))
    return findings


def _terms(subscription: Subscription, owners: Sequence[Mapping[str, Any]], now: datetime) -> Iterator[str]:
    number = subscription.id
    if subscription.trial_end and _moment(subscription.trial_end) > now:
        until = f"{_moment(subscription.trial_end):%Y-%m-%d %H:%M} UTC"
        yield f"{number} is in a trial until {until}: Stripe bills none of its usage before then"
    if subscription.ends_at:
        ends = f"{_moment(subscription.ends_at):%Y-%m-%d %H:%M} UTC"
        yield f"{number} ends at {ends}, and Stripe bills no later usage: create another subscription that starts then"
    if subscription.period is None:
        return
    start, end = (_moment(each) for each in subscription.period)
    others = {
        (owner["period_start"], owner["period_end"])
        for owner in owners
        if owner.get("period_start") and (owner["period_start"], owner["period_end"]) != (start, end)
    }
    for first, last in sorted(others):
        yield (
            f"the account's billing period is {_span(first, last)}, and that of {number} {_span(start, end)}. The"
            " quota follows the account's period, the invoice the subscription's. To use one period for both, let"
            " the account's billing period follow the subscription"
        )


def _span(start: datetime, end: datetime) -> str:
    return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC"


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
