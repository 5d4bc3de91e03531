"""What is ahead of one account, in words: when its quota is used up and what its limit does then; how it got there; and
what to know before one calls.

`row` is one of `queries.digest_accounts`. Figures come ready from there, and so does the advice, which is a mart's.
What is not known is left out.
"""

from decimal import ROUND_DOWN, ROUND_FLOOR, Decimal

from orchestration.messages.account_wording import DigestDay, Row, is_forecast, of_quota, unit_after, when
from orchestration.messages.figures import change, money, one_line, percent, sums
from orchestration.usage import units
from orchestration.usage.formatting import counted, figure, format_pct

OFFERS = ("call_upgrade", "offer_upgrade", "renewal_talk")
"""Advice with which the next plan may be named to the customer as a gain."""
PLAN_CHARACTERS = 40
_HARD, _SLOWED, _SOFT = "will be blocked", "will be slowed down", "overage starts"
"""What `overage.cost_of_waiting` has."""


def is_over(row: Row) -> bool:
    """Whether a quota is used up. Who is blocked has none to use up, and a gauge with one may have no reading yet."""
    return bool(row["quota_state"] == "limited" and row["used_mtd"] is not None and row["used_mtd"] >= row["quota"])


def outlook(row: Row, morning: DigestDay) -> str:
    """When the quota is used up, and what the limit does then."""
    if row["quota"] == 0:
        return "blocked, quota 0"
    is_hard, noun = row["limit_kind"] == "hard", units.name(row["unit"])
    if is_over(row):
        if row["limit_kind"] == "throttle":
            return f"out of quota, {noun} are slowed down{_so_far(row)}"
        if not is_hard:
            return _overage(row)
        # A limit that lets calls through does not hold: nobody should read that it does.
        still = row["situation"] == "limit_not_enforced" or "served_past_limit" in (row["reasons"] or "").split(",")
        return f"over a hard limit, {noun} still get through" if still else f"out of quota, {noun} are refused"
    said = when(row, morning.on)
    if said == "not this period":
        return "will not run out this period"
    if said == "not at this rate":  # of a period without an end
        return "will not run out at this rate"
    if said == "no forecast":
        return "too early for a forecast" if is_forecast(row) else f"no forecast for {noun}"
    if row["hits_cap_on"] is None or not row["hits_cap_in_period"]:
        return said
    then = {
        _HARD: f"then {noun} are refused",
        _SLOWED: f"then {noun} are slowed down",
        _SOFT: "then overage",
    }.get(row["cost_of_waiting"] or "", "")
    return f"runs out {said}{f', {then}' if then else ''}"


def _overage(row: Row) -> str:
    if so_far := _so_far(row):
        return f"over quota{so_far}"
    if row["used_mtd"] == row["quota"]:
        return "quota used up, overage starts" if row["cost_of_waiting"] == _SOFT else "quota used up"
    return "over quota, overage has started" if row["cost_of_waiting"] == _SOFT else "over quota"


def _so_far(row: Row) -> str:
    """What the overage costs by now, after a comma; empty where it costs nothing."""
    is_priced = row["overage_units"] and row["overage_value"]
    return f", overage {money(row['overage_value'], row['currency'])} so far" if is_priced else ""


def projection(row: Row) -> str:
    """The expected end of the period with its band: in eight of ten cases it ends within it."""
    if row["projected_eom"] is None or not is_forecast(row):
        return ""  # of seats nobody knows more than the last reading
    low, high, unit = row["projected_low"], row["projected_high"], row["unit"]
    is_band = low is not None and high is not None and low < high
    band = f" ({figure(low, unit)} to {figure(high, unit)})" if is_band else ""
    return f"projected {figure(row['projected_eom'], unit)}{unit_after(row)}{band}"


def progress(row: Row, morning: DigestDay) -> list[str]:
    """How much came since the last digest, in points of the quota, and how the period goes against the one before."""
    words = []
    if row["used_since"] and row["quota"]:
        points = (Decimal(row["used_since"] * 100) / row["quota"]).quantize(Decimal("0.1"), ROUND_FLOOR)
        if points:
            words.append(f"+{points:,} points since {morning.moment(morning.since)}")
    if last := row["used_same_point_last_period"]:
        pace = int((Decimal((row["used_mtd"] - last) * 100) / last).quantize(Decimal(1), ROUND_DOWN))
        compared = f"{abs(pace):,} % {'more' if pace > 0 else 'less'} than" if pace else "about as much as"
        words.append(f"{compared} at this point of the last period ({figure(last, row['unit'])})")
    return words


def offer(row: Row) -> str:
    """What the next plan means for the customer, at the prices of the catalogue, where the advice lets one say it."""
    plan, delta = one_line(row["next_plan"], PLAN_CHARACTERS), row["next_plan_delta"]
    if not plan or row["is_trial"]:
        return ""
    if row["is_staying_cheaper"] and delta is not None and row["situation"] == "staying_cheaper":
        return f"{plan} would cost them {money(delta, row['currency'])} more than the overage: do not pitch"
    if row["advice"] not in OFFERS:
        return ""
    if row["is_staying_cheaper"] is False and delta is not None and delta < 0:
        overage = money(row["projected_overage_value"], row["currency"])
        return f"{plan} saves them {money(-delta, row['currency'])} (projected overage {overage})"
    if row["is_refused"] and row["is_refused_on_next_plan"] is False:
        return f"{plan} would accept these {units.name(row['unit'])}"
    return ""


def worth(row: Row) -> str:
    """The monthly revenue that the advice may bring: +$450 MRR. Empty where nobody may count on it."""
    return f"{sums([(row['currency'], row['value'])])} MRR" if row["value"] else ""


def caveats(row: Row, morning: DigestDay) -> list[str]:
    """What one should know before one calls."""
    words = []
    if row["is_retry_storm"]:
        words.append("most of the growth is retries of failed calls")
    if "failed_calls" in (row["reasons"] or "").split(","):
        words.append(f"{percent(row['error_ratio_7d'] * 100)} of the last 7 days' calls failed")
    if row["late_calls_24h"] and not morning.is_first:  # on the first day everything before it comes late
        events = counted(row["late_calls_24h"], "call" if row["is_calls"] else "event")
        words.append(f"{events} arrived a day or more late since yesterday")
    if row["ci95_pct"]:
        words.append("estimated from sampled calls")
    if row["is_trial"]:
        words.append("on trial")
    if row["previous_quota"] is not None and row["quota_since"] > row["period_start"]:
        before = figure(row["previous_quota"], row["unit"])
        words.append(f"quota changed from {before}{unit_after(row)} on {morning.day(row['quota_since'])}")
    if row["snoozed_until"] and row["snoozed_until"] > morning.on:
        words.append(f"snoozed until {row['snoozed_until']:%d %b}")
    return words


def exact(row: Row) -> str:
    """Used, quota and percentage of the running period, to the unit."""
    pct = format_pct(row["pct_of_cap"], row["ci95_pct"])
    return f"{of_quota(row['used_mtd'], row['quota'], row['unit'])} ({pct})"


def momentum(row: Row) -> str:
    unchanged = f"no {units.name(row['unit'])}"
    return f"{change(row['momentum_7d'])} in 7 days" if row["momentum_7d"] is not None else unchanged
