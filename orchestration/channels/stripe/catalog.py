"""Stripe's side of the catalogue: what stands there, and making what is missing.

Nothing there is ever changed, archived or deleted. A run that was killed is finished by the next one, which looks
first: a meter is known by its event name, a product by an id of ours, a price by its lookup key, and Stripe has each
of them once.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import stripe

from orchestration.billing.catalog_rules import (
    Action,
    Catalog,
    CatalogMeter,
    CatalogState,
    Price,
    PriceTier,
    Product,
    Step,
    compare,
)
from orchestration.channels.stripe.client import explained
from orchestration.ledger.outbox import RefusedError
from orchestration.usage.formatting import counted

PAGE = 100
LOOKUP_KEYS = 10
"""So many lookup keys Stripe takes in one request."""
REPLAYS = 10
"""Failures of one request that Stripe may remember; it does so for a day."""
_DOUBT = "what is made stays; run `headroom stripe bootstrap --apply` again, which makes only what is missing"
NOTHING_CHANGED = "nothing was changed; run again"


def catalog_state(client: stripe.StripeClient, wanted: Catalog) -> CatalogState:
    """What stands at Stripe of the catalogue.

    :raises RefusedError: Stripe did not say; the message says what to do.
    """
    name = wanted.meter.event_name
    with explained("the meters", NOTHING_CHANGED, RefusedError):
        meters = meters_by_id(client)
        named = [_meter(meter) for meter in meters.values() if (meter.event_name, meter.status) == (name, "active")]
    products, prices = {}, {}
    with explained("the products", NOTHING_CHANGED, RefusedError):
        ids = [product.id for product in wanted.products.values()]
        for some in _parts(ids, PAGE):
            for product in client.v1.products.list({"ids": some, "limit": PAGE}).auto_paging_iter():
                products[product.id] = Product(product.id, product.name, product.active)
    with explained("the prices", NOTHING_CHANGED, RefusedError):
        keys = [price.lookup_key for price in wanted.prices]
        for some in _parts(keys, LOOKUP_KEYS):
            params: Any = {"lookup_keys": some, "expand": ["data.tiers"], "limit": PAGE}
            for each in client.v1.prices.list(params).auto_paging_iter():
                price = as_price(each, meters)
                prices[price.lookup_key] = price
    return CatalogState(named[0] if named else None, products, prices)


def meters_by_id(client: stripe.StripeClient) -> dict[str, stripe.billing.Meter]:
    """All of them, inactive ones included."""
    return {meter.id: meter for meter in client.v1.billing.meters.list({"limit": PAGE}).auto_paging_iter()}


def apply(client: stripe.StripeClient, wanted: Catalog) -> Iterator[Step]:
    """Makes what is missing, one step after the other, each told when it is done.

    :raises RefusedError: a step was refused, or a meter of that name counts in another way; those before it stay.
    :raises InDoubtError: a step may have been done or not; the next call finds out.
    """
    found = catalog_state(client, wanted)
    steps = compare(wanted, found)
    for step in steps:
        if isinstance(step.part, CatalogMeter) and step.action is Action.BY_HAND:
            raise RefusedError(f"{step.subject}: {step.words}")
    meter_id = found.meter.id if found.meter else ""
    for step in steps:
        if step.action not in (Action.MAKE, Action.REPLACE):
            continue
        with explained(f"the {step.subject}", _DOUBT):
            if isinstance(step.part, CatalogMeter):
                meter_id = _create(client.v1.billing.meters.create, _meter_params(step.part)).id
            elif isinstance(step.part, Product):
                _create(client.v1.products.create, {"id": step.part.id, "name": step.part.name})
            elif isinstance(step.part, Price):
                _create(client.v1.prices.create, _price_params(step.part, meter_id, step.replaces), step.replaces)
        yield step


def _create(create: Callable[[Any, Any], Any], params: Mapping[str, Any], replaces: str = "") -> Any:
    """Makes it once, however many try at the same time: the Idempotency-Key is made of what is asked, and of what was
    there before. A failure that Stripe remembers from before is not the answer to this try: the next key is used.
    """
    content = json.dumps([params, replaces], sort_keys=True).encode()
    key = f"headroom-{hashlib.sha256(content).hexdigest()[:40]}"
    for number in range(REPLAYS):
        try:
            return create(params, {"idempotency_key": f"{key}-{number}"})
        except stripe.APIError as error:
            is_replayed = (error.headers or {}).get("Idempotent-Replayed") == "true"
            if not is_replayed or number == REPLAYS - 1:
                raise
    raise AssertionError


def _meter(meter: stripe.billing.Meter) -> CatalogMeter:
    return CatalogMeter(
        event_name=meter.event_name,
        event_time_window=meter.event_time_window,
        formula=meter.default_aggregation.formula,
        customer_key=meter.customer_mapping.event_payload_key,
        value_key=meter.value_settings.event_payload_key,
        id=meter.id,
    )


def _meter_params(meter: CatalogMeter) -> dict[str, Any]:
    return {
        "display_name": meter.event_name,
        "event_name": meter.event_name,
        "event_time_window": meter.event_time_window,
        "default_aggregation": {"formula": meter.formula},
        "customer_mapping": {"type": "by_id", "event_payload_key": meter.customer_key},
        "value_settings": {"event_payload_key": meter.value_key},
    }


def as_price(price: stripe.Price, meters: Mapping[str, stripe.billing.Meter]) -> Price:
    """The price in our words; its meter by event name, or by id where it is not active."""
    recurring, package = price.recurring, price.transform_quantity
    meter = recurring.meter if recurring else None
    if meter and meter in meters and meters[meter].status == "active":
        meter = meters[meter].event_name
    package_units = package.divide_by if package else 1
    if package and package.round != "up":
        package_units = -package_units  # rounded down, which no plan of ours is
    return Price(
        lookup_key=price.lookup_key or "",
        product=id_of(price.product),
        currency=price.currency,
        meter=meter,
        unit_amount=price.unit_amount_decimal,
        package_units=package_units,
        tiers_mode=price.tiers_mode,
        tiers=tuple(
            PriceTier(tier.up_to, tier.unit_amount_decimal or Decimal(0), tier.flat_amount_decimal or Decimal(0))
            for tier in getattr(price, "tiers", None) or ()
        ),
        interval=counted(recurring.interval_count, recurring.interval) if recurring else "once",
        is_active=price.active,
        id=price.id,
    )


def _price_params(price: Price, meter_id: str, replaces: str) -> dict[str, Any]:
    count, interval = price.interval.removesuffix("s").split()
    recurring: dict[str, Any] = {"interval": interval, "interval_count": int(count), "usage_type": "licensed"}
    if price.meter:
        recurring |= {"usage_type": "metered", "meter": meter_id}
    params: dict[str, Any] = {
        "product": price.product,
        "currency": price.currency,
        "lookup_key": price.lookup_key,
        "recurring": recurring,
    }
    if replaces:
        params["transfer_lookup_key"] = True
    if price.tiers:
        params |= {"billing_scheme": "tiered", "tiers_mode": price.tiers_mode, "tiers": _tier_params(price.tiers)}
    else:
        params["unit_amount_decimal"] = f"{price.unit_amount:f}"
    if price.package_units > 1:
        params["transform_quantity"] = {"divide_by": price.package_units, "round": "up"}
    return params


def _tier_params(tiers: Sequence[PriceTier]) -> list[dict[str, Any]]:
    return [
        {
            "up_to": tier.up_to or "inf",
            "unit_amount_decimal": f"{tier.unit_amount:f}",
            **({"flat_amount_decimal": f"{tier.flat_amount:f}"} if tier.flat_amount else {}),
        }
        for tier in tiers
    ]


def id_of(value: Any) -> str:
    """Of an object, or of what an id was expanded to."""
    return value if isinstance(value, str) else str(value.id)


def _parts(values: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(values), size):
        yield list(values[start : start + size])
