"""Until when usage still comes on its invoice, by what Stripe says of subscriptions and invoices. Pure.

An hour belongs to the subscription period in which it begins: a report's timestamp is the start of its hour.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from orchestration.billing.invoicing import InvoiceLine, SubscriptionPeriod


def in_order(periods: Iterable[SubscriptionPeriod]) -> list[SubscriptionPeriod]:
    """Each item's periods one after the other. One ends where the next begins, at the latest: so it is when the anchor
    was reset; and where its subscription ends.
    """
    of_item: defaultdict[str, list[SubscriptionPeriod]] = defaultdict(list)
    for period in periods:
        of_item[period.subscription_item_id].append(period)
    ordered = []
    for item in of_item.values():
        item.sort(key=lambda each: each.period_start)
        ends = [item[-1].ends_at] if item[-1].ends_at else []
        for each, following in zip(item, [*item[1:], None], strict=True):
            end = min([each.period_end, *ends, *([following.period_start] if following else [])])
            if end > each.period_start:
                ordered.append(replace(each, period_end=end))
    return sorted(ordered, key=lambda each: (each.stripe_customer_id, each.period_start, each.subscription_item_id))


def lines_of(period: SubscriptionPeriod, lines: Iterable[InvoiceLine]) -> list[InvoiceLine]:
    """What was invoiced of the period's item within it: by the invoice at its end, and by those before it that an
    amount triggered.
    """
    return [
        line
        for line in lines
        if line.subscription_item_id == period.subscription_item_id
        if period.period_start <= line.period_start < period.period_end
    ]


def closing_lines(period: SubscriptionPeriod, lines: Iterable[InvoiceLine]) -> list[InvoiceLine]:
    """Lines of the invoice at the period's end, which has all that was not invoiced before. Not those of a void one."""
    return [line for line in lines_of(period, lines) if line.period_end >= period.period_end and not line.is_void]


def final_at(period: SubscriptionPeriod, lines: Iterable[InvoiceLine], grace: timedelta) -> datetime | None:
    """From when on the period's invoice cannot change. None: it is a draft that people finalize."""
    found = closing_lines(period, lines)
    if any(line.is_draft and line.finalizes_at is None for line in found):
        return None
    moments = [(line.finalizes_at if line.is_draft else line.finalized_at) or line.seen_at for line in found]
    return max(moments, default=period.period_end + grace)


def by_item(lines: Iterable[InvoiceLine]) -> dict[str, list[InvoiceLine]]:
    found: defaultdict[str, list[InvoiceLine]] = defaultdict(list)
    for line in lines:
        found[line.subscription_item_id].append(line)
    return dict(found)


def open_since(
    periods: Sequence[SubscriptionPeriod], lines: Iterable[InvoiceLine], now: datetime, grace: timedelta
) -> dict[str, datetime]:
    """By customer, the moment from which on usage can still come on an invoice: where the first of its subscription
    periods begins whose invoice is not final; where all of them are, the end of the last one.
    """
    of_item, still, ended = by_item(lines), dict[str, datetime](), dict[str, datetime]()
    for period in periods:
        customer = period.stripe_customer_id
        at = final_at(period, of_item.get(period.subscription_item_id, ()), grace)
        if at is None or at > now:
            still[customer] = min(still.get(customer, period.period_start), period.period_start)
        ended[customer] = max(ended.get(customer, period.period_end), period.period_end)
    return {**ended, **still}


def closing(
    periods: Sequence[SubscriptionPeriod], lines: Iterable[InvoiceLine], now: datetime, grace: timedelta
) -> dict[str, datetime]:
    """By customer, the end of the last period that is over and whose invoice can still change."""
    of_item, ends = by_item(lines), dict[str, datetime]()
    for period in periods:
        at = final_at(period, of_item.get(period.subscription_item_id, ()), grace)
        if period.period_end <= now and (at is None or now < at):
            customer = period.stripe_customer_id
            ends[customer] = max(ends.get(customer, period.period_end), period.period_end)
    return ends
