"""Which of our meters are reported to Stripe: the main one, and every other that is_billed in meters.csv.

Each is reported by itself, to a meter of its own, from settings of its own: the same but for the two names. What adds
up is reported by hour. A reading (latest, max, unique) is reported as changes of it, which a meter that sums adds up to
the reading. Figures are whole numbers of the meter's smallest step, here and at Stripe.
"""

from orchestration.billing.meter import StoppedError
from orchestration.billing.meter_ledger import MeterLedger
from orchestration.settings import Settings
from orchestration.usage.formatting import counted
from orchestration.usage.meters import Meter, calls_meter, main_meter, meter_name, meters_of
from orchestration.warehouse import published_copy
from orchestration.warehouse.published_copy import NothingPublishedError, OutdatedCopyError
from orchestration.warehouse.seeds import read_meters

KNOWN_METERS = "select * from meters"
_COUNTS = "counts"
"""Name of a mark: which of our meters was reported to Stripe's, and with how many decimals."""


def known(config: Settings) -> list[Meter]:
    """The meters of the published copy, the main one first; before anything was published, those of meters.csv.

    :raises NothingPublishedError: an older version published the copy, which does not say which meter is the main one.
    :raises MetersError: meters.csv has mistakes.
    """
    found = _found(config)
    if not any(meter.is_main for meter in found):
        raise NothingPublishedError(
            f"an older version published {config.published}, without the main meter: `headroom run` builds it again"
        )
    return found


def reported(config: Settings) -> Meter:
    """The meter that these settings report.

    :raises NothingPublishedError, MetersError: see `known`.
    :raises LookupError: it is not in meters.csv any more.
    """
    found = known(config)
    if not config.billed_meter:
        return main_meter(found)
    for meter in found:
        if meter.name == config.billed_meter:
            return meter
    raise LookupError(f"meters.csv has no meter {config.billed_meter!r}")


def is_of_calls(config: Settings) -> bool:
    """Whether these settings report calls, of which endpoints are known.

    :raises NothingPublishedError, MetersError: see `known`.
    """
    calls = calls_meter(known(config))
    return calls is not None and calls.name == reported(config).name


def names(config: Settings) -> list[str]:
    """The meters that are reported to Stripe, the main one first.

    :raises NothingPublishedError, MetersError: see `known`.
    """
    return [meter.name for meter in known(config) if _is_reported(meter)]


def others(config: Settings) -> list[Settings]:
    """The settings by which each billed meter but the main one is reported, in the order of their names."""
    return _others(config, _found(config))


def _others(config: Settings, found: list[Meter]) -> list[Settings]:
    is_older = not any(meter.is_main for meter in found)  # without is_billed: who had a stripe_meter was billed
    return [
        config.for_meter(meter.name, meter.stripe_meter)
        for meter in found
        if meter.stripe_meter and not meter.is_main and (meter.is_billed or is_older)
    ]


def each_meter(config: Settings) -> list[Settings]:
    """The same, after the settings for the main meter where that is billed, all from one look at the copy."""
    found = _found(config)
    return [config, *_others(config, found)] if _is_main_billed(found) else _others(config, found)


def is_main_billed(config: Settings) -> bool:
    """Whether the main meter is reported to Stripe; it is where an older version published the copy."""
    return _is_main_billed(_found(config))


def _is_main_billed(found: list[Meter]) -> bool:
    return not any(meter.is_main for meter in found) or main_meter(found).is_billed


def stay_with(meter: Meter, ledger: MeterLedger) -> None:
    """Note which of our meters Stripe's has the usage of, and its step. Another one would replace what is billed.

    :raises StoppedError: it has the usage of another one, or in other steps.
    """
    before, now = ledger.mark(_COUNTS), f"{meter.name}, {counted(meter.decimals, 'decimal')}"
    if before and before != now:
        raise StoppedError(
            f"Stripe's meter {ledger.event_name} has the usage of {before}. By meters.csv it would get that of {now}."
            f" Nothing was sent. Change meters.csv back, or give {meter.name} another meter at Stripe: stripe_meter in"
            " meters.csv, HEADROOM_STRIPE_METER for the main meter"
        )
    if not before:
        ledger.remember(_COUNTS, now)


def in_units(meter: Meter, steps: int, sign: str = "") -> str:
    """So many steps for people: 3.412 GB. Where a step is a whole unit: 1 unit, 2 units. `sign` "+": a difference."""
    if not meter.decimals:
        return counted(steps, "unit", sign=sign)
    return f"{sign if steps > 0 else ''}{meter.amount(steps)}"


def in_csv(meter: Meter, steps: int | None) -> object:
    """The same for a program: 3.412, without the unit."""
    return steps if steps is None or not meter.decimals else meter.exact(steps).replace(",", "")


def step_of(meter: Meter) -> str:
    """What the ledger's and Stripe's sentences call a unit, where that is not a whole one of the meter; else empty."""
    return f"A unit here, and at Stripe, is {meter.amount(1)}." if meter.decimals else ""


def _found(config: Settings) -> list[Meter]:
    try:
        return meters_of(published_copy.query(config.published, KNOWN_METERS))
    except NothingPublishedError:
        return read_meters(config.dbt_project)
    except OutdatedCopyError:
        return []


def _is_reported(meter: Meter) -> bool:
    return meter.is_billed and (meter.is_main or bool(meter.stripe_meter))


def settings_of(config: Settings, name: str) -> Settings:
    """The settings by which that meter is reported; without a name, those of the main one.

    :raises NothingPublishedError, MetersError: see `known`.
    :raises LookupError: it is not reported to Stripe.
    """
    if not name:
        return config
    main = main_meter(known(config)).name
    found = {main: config, **{each.billed_meter: each for each in others(config)}}
    if meter_name(name) not in found:
        raise LookupError(f"{name!r} has no meter at Stripe, only {', '.join(found)}: see stripe_meter in meters.csv")
    return found[meter_name(name)]
