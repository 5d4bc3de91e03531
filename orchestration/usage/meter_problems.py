"""A sentence for each mistake in the seed meters, as `dbt_project/seeds/meters.yml` explains its columns. Pure."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from orchestration.usage.events import API_CALL_REFUSED, EVENTS_DROPPED, LIMIT_REACHED, QUOTA_FIELDS, QUOTA_SET
from orchestration.usage.meters import AGGREGATIONS, PATH, Meter

QUOTA_POLICIES = ("carry", "prorate", "reset")
WEIGHTS = "endpoint_weights"
MAX_DECIMALS = 6

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_OTHER_EVENTS = (API_CALL_REFUSED, QUOTA_SET, LIMIT_REACHED, EVENTS_DROPPED)
_QUOTAS = tuple(field.removeprefix("properties.") for field in QUOTA_FIELDS)


def problems(meters: Sequence[Meter]) -> list[str]:
    """A sentence for each mistake in the meters, in their order."""
    found = [f"{meter.name or 'A meter without a name'}: {said}." for meter in meters for said in _wrong(meter)]
    mains = [meter.name for meter in meters if meter.is_main]
    if len(mains) != 1:
        said = f"{', '.join(mains)} are" if mains else "No row is"
        found.append(f"{said} main. Set is_main to true in exactly one row.")
    for column, cells in (
        ("meter", [meter.name for meter in meters]),
        ("quota_property", [meter.quota_property for meter in meters]),
        ("stripe_meter", [meter.stripe_meter for meter in meters]),
    ):
        found += [
            f"{column} is {cell!r} in {count} rows. Name it in one."
            for cell, count in Counter(filter(None, cells)).items()
            if count > 1
        ]
    return found


def _wrong(meter: Meter) -> Iterator[str]:
    """Each mistake as the end of a sentence."""
    yield from meter.misread
    if not _NAME.fullmatch(meter.name):
        yield "write its name in small letters, with - between words"
    if meter.aggregation not in AGGREGATIONS:
        yield f"aggregation is {meter.aggregation!r}. Write one of {', '.join(AGGREGATIONS)}"
    elif meter.is_main and not meter.is_additive:
        yield f"aggregation is {meter.aggregation}. The main meter must count or sum"
    elif not meter.event_names and meter.aggregation != "latest":
        yield "event_names is empty. Only a latest meter may have none"
    is_valued = meter.aggregation in ("sum", "unique", "max") or (meter.aggregation == "latest" and meter.event_names)
    if is_valued and not meter.value:
        yield f"value is empty. Name the property that {meter.aggregation} reads"
    if meter.value and meter.aggregation == "count":
        yield f"value is {meter.value!r}, but count reads none. Leave it empty"
    for column, names in (("event_names", meter.event_names), ("group_by", meter.group_by)):
        if any(name != name.strip() or not name for name in names):
            yield f"{column} is {'|'.join(names)!r}, with an empty name or a blank around one. Write a|b"
    for name in meter.event_names:
        if name in _OTHER_EVENTS:
            yield f"event_names has {name}, which Headroom reads for itself. Remove it"
    for column, path in (("value", meter.value), *(("group_by", path) for path in meter.group_by)):
        if path and not PATH.fullmatch(path):
            yield f"{column} has {path!r}, which is not a property such as usage.total_tokens"
    if meter.quota_property and not PATH.fullmatch(meter.quota_property):
        yield f"quota_property is {meter.quota_property!r}, which is not a property such as token_quota"
    if meter.quota_property in _QUOTAS and not meter.is_main:
        yield f"quota_property {meter.quota_property} sets the main meter's quota. Name another property"
    try:
        _ = meter.conditions
    except ValueError as error:
        yield f"filter {meter.filter!r} {error}. Write it as model=large|huge;region=eu"
    if meter.decimals > MAX_DECIMALS:
        yield f"decimals is {meter.decimals}. Write a number from 0 to {MAX_DECIMALS}"
    elif meter.decimals and meter.aggregation in ("count", "unique"):
        yield f"decimals is {meter.decimals}, but {meter.aggregation} has whole figures. Write 0"
    if meter.quota_policy not in QUOTA_POLICIES:
        yield f"quota_policy is {meter.quota_policy!r}. Write one of {', '.join(QUOTA_POLICIES)}"
    elif meter.quota_policy == "reset" and not (meter.is_main and meter.is_additive):
        yield "quota_policy is reset. Only a main meter that counts or sums can reset"
    if not meter.is_additive:
        for column, is_there in (
            ("is_forecast", meter.is_forecast),
            ("group_by", meter.group_by),
            ("weights", meter.weights),
        ):
            if is_there:
                yield f"{column} is set, but {meter.aggregation} does not add up. Leave it empty"
    if meter.weights not in ("", WEIGHTS):
        yield f"weights is {meter.weights!r}. Write {WEIGHTS}, or nothing"
    for column, text in (("unit", meter.unit), ("unit_singular", meter.unit_singular)):
        if not text:
            yield f"{column} is empty. Name what it counts, for people"
    if meter.is_main and meter.stripe_meter:
        yield "stripe_meter is set, but HEADROOM_STRIPE_METER names the main one. Leave it empty"
    elif meter.is_billed and not meter.is_main and not meter.stripe_meter:
        yield "is_billed is true. Name its meter at Stripe in stripe_meter"
    elif meter.stripe_meter and not meter.is_billed:
        yield "stripe_meter is set, but is_billed is not true. Set both or neither"
