"""What is said of one account: when its quota is used up, what comes of waiting, what moving up means for the customer,
and what to be careful about.

`row` is one of `queries.digest_accounts`. Figures come ready from there and are only put into words; what is not known
is left out. Which accounts are spoken of, and the sentences about all of them, are in wording.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import MAXYEAR, date, datetime, timedelta
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, Decimal
from typing import Any
from zoneinfo import ZoneInfo

from orchestration.messages.message import account_name
from orchestration.usage.formatting import format_pct
from orchestration.usage.units import METER

Row = Mapping[str, Any]


@dataclass(frozen=True)
class DigestDay:
    """The day of a digest, and what came before it."""

    on: date
    zone: ZoneInfo
    since: datetime
    """Up to where the digest before looked."""
    is_first: bool = False

    def moment(self, at: datetime) -> str:
        """A recent moment as people say it on that day."""
        local = at.astimezone(self.zone)
        days = {self.on: "today", self.on - timedelta(days=1): "yesterday"}
        return f"{days.get(local.date(), f'{local:%a %d %b}')} {local:%H:%M}"

    def day(self, at: datetime) -> str:
        return f"{at.astimezone(self.zone):%d %b}"


ERROR_RATIO = Decimal("0.2")
"""Share of failed calls above which more usage says little about demand (docs/definitions.md#the-digest)."""
HELP_FIRST = "Help first, do not sell"


def name_of(row: Row) -> str:
    return account_name(row) + ("" if row["meter"] == METER else f" ({row['meter']})")


def figures(row: Row) -> str:
    """Used, quota and percentage of the running period, in the order of all surfaces."""
    unit = "" if row["meter"] == METER else f" {row['unit']}"
    return f"{row['used_mtd']:,} / {row['quota']:,}{unit} ({format_pct(row['pct_of_cap'], row['ci95_pct'])})"


def action(row: Row) -> str:
    return HELP_FIRST if row["is_retry_storm"] else row["recommended_action"] or ""


def projected(row: Row) -> str:
    """The expected end of the period with its band: in eight of ten cases it ends within it."""
    if row["projected_eom"] is None:
        return "too early to say"
    low, high = row["projected_low"], row["projected_high"]
    band = f" ({low:,} to {high:,})" if low is not None and high is not None and low < high else ""
    return f"{row['projected_eom']:,}{band}"


def waiting(row: Row) -> str:
    """What the limit does at the cap, or has done since."""
    is_over, cost = row["used_mtd"] >= row["quota"], row["cost_of_waiting"]
    if cost == "will be blocked":
        return "hard limit: calls are refused now" if is_over else "hard limit: will be blocked"
    if cost == "overage starts":
        if not is_over:
            return "soft limit: overage starts"
        return (
            f"soft limit: overage so far {_money(row, 'overage_value')}"
            if row["overage_units"]
            else "soft limit: overage starts now"
        )
    return f"{row['limit_kind']} limit" if row["limit_kind"] else ""


def progress(row: Row, morning: DigestDay) -> list[str]:
    """How much came since the last digest, in points of the quota, and how the period goes against the one before."""
    words = []
    if row["used_since"] is not None:
        points = (Decimal(row["used_since"] * 100) / row["quota"]).quantize(Decimal("0.1"), ROUND_FLOOR)
        words.append(f"+{points:,} points since {morning.moment(morning.since)}")
    if last := row["used_same_point_last_period"]:
        pace = int((Decimal((row["used_mtd"] - last) * 100) / last).quantize(Decimal(1), ROUND_DOWN))
        compared = f"{abs(pace):,} % {'more' if pace > 0 else 'less'} than" if pace else "about as much as"
        words.append(f"{compared} at the same point of the last period ({last:,})")
    return words


def offer(row: Row) -> str:
    """What the next plan brings us and costs or saves the customer, at the prices of the catalogue."""
    if row["next_plan"] is None or row["next_plan_delta_mrr"] is None or row["is_retry_storm"]:
        return ""
    words = f"next plan {row['next_plan']}: {row['next_plan_delta_mrr']:+,.2f} {row['currency']} MRR"
    delta, overage = row["next_plan_delta"], _money(row, "projected_overage_value")
    if row["is_staying_cheaper"]:
        return f"{words}; staying is cheaper for them, by {delta:,.2f} {row['currency']} (projected overage {overage})"
    if row["is_staying_cheaper"] is False:
        effect = f"it saves them {-delta:,.2f} {row['currency']}" if delta else "it costs them the same"
        return f"{words}; {effect} (projected overage {overage})"
    if row["is_refused"] and row["is_refused_on_next_plan"] is False:
        return f"{words}; nothing would be refused there"
    return words


def caveats(row: Row, morning: DigestDay) -> list[str]:
    """What one should know before one calls."""
    words = []
    if row["is_retry_storm"]:
        words.append("growth is mostly failed calls sent again: help first, do not sell")
    elif row["has_enough_calls_7d"] and row["error_ratio_7d"] > ERROR_RATIO:
        words.append(f"{format_pct(row['error_ratio_7d'] * 100)} of the last 7 days' calls failed")
    if row["late_calls_24h"] and not morning.is_first:  # on the first day everything before it comes late
        words.append(f"{row['late_calls_24h']:,} calls came a day or more late, within the last 24 hours")
    if row["ci95_pct"]:
        words.append(f"estimated from sampled calls, ± {row['ci95_pct'].quantize(Decimal('0.1'), ROUND_CEILING):,} %")
    if row["is_trial"]:
        words.append("on trial")
    if row["previous_quota"] is not None and row["quota_since"] > row["period_start"]:
        words.append(f"quota changed from {row['previous_quota']:,} on {morning.day(row['quota_since'])}")
    if row["snoozed_until"] and row["snoozed_until"] > morning.on:
        words.append(f"snoozed until {row['snoozed_until']:%d %b}")
    return words


def endpoints_note(endpoints: Sequence[Row]) -> str:
    """The endpoints of an account that are called most, with their share, cut off; `endpoints` are its rows of
    warehouse.TOP_ENDPOINTS.
    """
    if not endpoints:
        return ""
    lines = ["Top endpoints of the last 7 days:"]
    for row in endpoints:
        name, share = " ".join(row["endpoint"].split()) or "without an endpoint", row["calls"] * 100 // row["all_calls"]
        lines.append(f"{name[:200]}: {row['calls']:,} calls, {share} %")
    return "\n".join(lines)


def email_context(row: Row, on: date) -> dict[str, Any]:
    """What the template of the draft to the customer may name: the account's own numbers, and nothing of ours."""
    return {
        "account": account_name(row),
        "contact": row["contact_email"] or "",
        "owner": row["owner"] or "",
        "meter": row["meter"],
        "unit": row["unit"],
        "used": f"{row['used_mtd']:,}",
        "quota": f"{row['quota']:,}",
        "percent": format_pct(row["pct_of_cap"]),
        "is_used_up": row["used_mtd"] >= row["quota"],
        "hits_cap": f"{row['hits_cap_on']:%A, %d %B}" if hits_cap_is_ahead(row) else "",
        "projected": f"{row['projected_eom']:,}" if row["projected_eom"] is not None else "",
        "limit": row["limit_kind"] or "",
        "plan": row["plan"] or "",
        "next_plan": row["next_plan"] or "",
        "is_staying_cheaper": bool(row["is_staying_cheaper"]),
        "is_retry_storm": bool(row["is_retry_storm"]),
        "period_ends": f"{row['period_end']:%d %B}" if row["period_end"].year < 9999 else "",
        "today": f"{on:%d %B %Y}",
    }


def hits_cap_is_ahead(row: Row) -> bool:
    return bool(row["hits_cap_in_period"]) and row["used_mtd"] < row["quota"]


def when(row: Row, on: date) -> str:
    """hits_cap() of the running period."""
    return hits_cap({**row, "used": row["used_mtd"]}, on)


def _money(row: Row, column: str) -> str:
    return f"{row[column]:,.2f} {row['currency']}" if row[column] is not None else "not known"


def threshold_name(row: Mapping[str, Any]) -> str:
    """The threshold of a crossing for people: 80 %, or 50,000 calls."""
    threshold = str(row["threshold"])
    return f"{threshold[:-1]} %" if threshold.endswith("%") else f"{int(threshold):,} {row['unit']}"


def hits_cap(row: Mapping[str, Any], on: date) -> str:
    """When the quota is used up, in words; `row` needs hits_cap_on, hits_cap_in_period, period_end, used and quota.

    A row of an earlier period says so by is_current_period; there it is too late to use anything up.
    """
    if not row.get("is_current_period", True):
        return "period ended"
    if row["used"] >= row["quota"]:
        return "over quota"
    if row["hits_cap_in_period"] is None:
        return "no forecast"
    if not row["hits_cap_in_period"]:
        return "not this period" if row["period_end"].year < MAXYEAR else "not at this rate"
    return "today" if row["hits_cap_on"] == on else f"{row['hits_cap_on']:%a %d %b}"
