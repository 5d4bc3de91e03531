"""Which of our meters are reported to Stripe: calls, and each gauge that meters.csv names a Stripe meter for.

Each is reported by itself, to a meter of its own, from settings of its own: the same but for the two names. A gauge is
billed by its latest reading of a period; it is reported as changes of it, which a meter that sums adds up to that.
"""

from orchestration.settings import Settings
from orchestration.usage.units import METER
from orchestration.warehouse import published_copy

GAUGES = "select meter, stripe_meter from meters where stripe_meter <> '' and meter <> $calls order by meter"


def gauges(config: Settings) -> list[Settings]:
    """The settings by which each gauge is reported, in the order of their names; none before the first run."""
    try:
        # a copy that an older version published does not know the column
        is_known = "stripe_meter" in published_copy.columns(config.published).get("meters", {})
        found = published_copy.query(config.published, GAUGES, {"calls": METER}) if is_known else []
    except published_copy.NothingPublishedError:
        return []
    return [config.for_meter(row["meter"], row["stripe_meter"]) for row in found]


def each_meter(config: Settings) -> list[Settings]:
    """The same, after the settings for calls."""
    return [config, *gauges(config)]


def settings_of(config: Settings, meter: str) -> Settings:
    """The settings by which that meter is reported.

    :raises LookupError: it is not reported to Stripe.
    """
    if meter == METER:
        return config
    known = {each.billed_meter: each for each in gauges(config)}
    if meter not in known:
        names = ", ".join([METER, *known])
        raise LookupError(f"{meter!r} has no meter at Stripe, only {names}: see stripe_meter in meters.csv")
    return known[meter]
