"""Stripe's price list: prices as checked as there.

What is not certain of Stripe is chosen here: the price of a tier has at most 12 decimal places, as documented, and a
price can be made on an archived product.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from tests.fakes.stripe import FakeStripe
from tests.fakes.stripe_store import Collection, Json, RefusedError, known, missing, required

MAX_PLACES = 12
EVERY = {"day": 1095, "week": 156, "month": 36, "year": 3}
LOOKUP_KEYS = 10
"""Of one request, at most."""


class CatalogStripe(FakeStripe):
    """Stripe with a price list."""

    def __init__(self) -> None:
        super().__init__()
        self.products = Products(self)
        self.prices = Prices(self)
        self.resources |= {
            "/v1/products": self.products,
            "/v1/prices": self.prices,
        }

    def price(self, lookup_key: str) -> Json:
        [price] = [price for price in self.prices.objects.values() if price["lookup_key"] == lookup_key]
        return price


class Products(Collection):
    def __init__(self, stripe: FakeStripe) -> None:
        super().__init__(stripe, "product", "prod", filters=["active"], defaults={"active": True})
        self.filters.add("ids")

    def create(self, params: Json) -> Json:
        known(params, ["id", "name", "active", "description", "metadata"])
        required(params, "name")
        return super().create(params)

    def matches(self, stored: Json, params: Json) -> bool:
        rest = {name: value for name, value in params.items() if name != "ids"}
        return stored["id"] in params.get("ids", [stored["id"]]) and super().matches(stored, rest)


class Prices(Collection):
    """Immutable but for a few fields. Amounts are decimals of the minor unit, as texts."""

    def __init__(self, stripe: FakeStripe) -> None:
        super().__init__(
            stripe,
            "price",
            "price",
            permission="plan",
            filters=["active", "currency", "lookup_keys", "product", "type"],
            hidden=["tiers"],
            defaults={
                "active": True,
                "billing_scheme": "per_unit",
                "lookup_key": None,
                "recurring": None,
                "tiers": None,
                "tiers_mode": None,
                "transform_quantity": None,
                "type": "recurring",
                "unit_amount": None,
                "unit_amount_decimal": None,
            },
        )

    def create(self, params: Json) -> Json:
        known(params, {*self.defaults, "currency", "product", "metadata", "transfer_lookup_key"} - {"type", "active"})
        required(params, "currency", "product")
        if params["product"] not in self.stripe.resources["/v1/products"].objects:  # type: ignore[attr-defined]
            raise missing("product", params["product"], "product", 400)
        if params["currency"] != params["currency"].lower():
            raise RefusedError("The currency must be in lowercase.", param="currency")
        if params.get("recurring"):
            params["recurring"] = self._recurring(params["recurring"])
        is_tiered = params.get("billing_scheme") == "tiered"
        if is_tiered != ("tiers" in params) or is_tiered != ("tiers_mode" in params):
            raise RefusedError("tiers and tiers_mode need billing_scheme=tiered.", param="tiers")
        if is_tiered and ("transform_quantity" in params or "unit_amount_decimal" in params):
            raise RefusedError("transform_quantity and unit_amount cannot be combined with tiers.", param="tiers")
        if is_tiered:
            params["tiers"] = _tiers(params["tiers"])
        else:
            params |= _amount(params, "unit_amount")
        return super().create(params)

    def matches(self, stored: Json, params: Json) -> bool:
        if len(params.get("lookup_keys", [])) > LOOKUP_KEYS:
            raise RefusedError(f"You can specify up to {LOOKUP_KEYS} lookup_keys.", param="lookup_keys")
        return super().matches(stored, params)

    def change(self, stored: Json, params: Json) -> None:
        known(params, ["active", "lookup_key", "metadata", "nickname", "transfer_lookup_key"])
        super().change(stored, params)

    def _recurring(self, recurring: Json) -> Json:
        required(recurring, "interval")
        known(recurring, ["interval", "interval_count", "meter", "usage_type"])
        usage, count = recurring.get("usage_type", "licensed"), int(recurring.get("interval_count", 1))
        meter = recurring.get("meter")
        if not 1 <= count <= EVERY.get(recurring["interval"], 0):
            raise RefusedError("Invalid interval.", param="recurring[interval]")
        if (usage == "metered") != (meter is not None):
            raise RefusedError("A metered price needs a meter, and only that.", param="recurring[meter]")
        if meter and self.stripe.meters.objects.get(meter, {}).get("status") != "active":
            raise RefusedError(f"No such active meter: '{meter}'", code="resource_missing", param="recurring[meter]")
        return {"interval": recurring["interval"], "interval_count": count, "meter": meter, "usage_type": usage}


def _amount(params: Json, name: str) -> Json:
    """As answered: the decimal as a text, and as an integer where it is one."""
    if name in params:
        raise RefusedError(f"These tests use {name}_decimal.", param=name)
    if f"{name}_decimal" not in params:
        raise RefusedError(f"Missing required param: {name}.", code="parameter_missing", param=name)
    text = str(params[f"{name}_decimal"])
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise RefusedError(f"Invalid decimal: {text}", param=f"{name}_decimal") from None
    if "e" in text.lower() or amount < 0 or -int(amount.as_tuple().exponent) > MAX_PLACES:
        raise RefusedError(f"Invalid decimal: {text}; at most {MAX_PLACES} places", param=f"{name}_decimal")
    whole = int(amount) if amount == int(amount) else None
    return {f"{name}_decimal": f"{amount.normalize():f}", name: whole}


def _tiers(tiers: list[Json]) -> list[Json]:
    """Ends ascend, and the last one has none."""
    shown, before = [], 0
    for place, tier in enumerate(tiers, 1):
        known(tier, ["up_to", "unit_amount_decimal", "flat_amount_decimal"])
        end = None if tier.get("up_to") == "inf" else tier.get("up_to")
        if (end is None) != (place == len(tiers)) or (end is not None and end <= before):
            raise RefusedError("Tiers must be in order, and the last one must end with inf.", param="tiers")
        before = end or before
        flat = {"flat_amount": None, "flat_amount_decimal": None}
        if "flat_amount_decimal" in tier:
            flat = _amount(tier, "flat_amount")
            if flat["flat_amount"] is None:
                raise RefusedError("flat_amount_decimal must be an integer.", param="tiers")
        shown.append({"up_to": end, **_amount(tier, "unit_amount"), **flat})
    return shown
