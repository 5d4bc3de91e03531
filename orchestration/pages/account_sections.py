"""How an account stands: who it is, its figures, the advice, and what to know before one calls. In words and columns of
marts; the same words as in the messages.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import MAXYEAR, date
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any

from orchestration.messages import advice_words, email_draft, mailto, outlook
from orchestration.messages.account_wording import DigestDay, Row
from orchestration.messages.figures import change, money, one_line, person
from orchestration.usage import formatting, units
from orchestration.usage.formatting import amount, figure, format_pct

PERIODS = {
    "calendar month": "calendar month",
    "billing anchor": "billing period",
    "trial": "trial",
    "lifetime": "lifetime",
    "quota change": "since the last quota change",
}


@dataclass(frozen=True)
class Figure:
    label: str
    value: str
    note: str = ""


def facts(row: Row, on: date) -> list[tuple[str, str]]:
    """Who the account is; what is not known is left out."""
    renewal = ""
    if row["renewal_on"]:
        renewal = f"{row['renewal_on']:%-d %b %Y}" + ("" if row["renewal_on"] >= on else " (was to renew)")
    known = {
        "Plan": one_line(row["plan"]),
        "Segment": one_line(row["segment"]),
        "Owner": person(row["owner"]),
        "CSM": person(row["csm"]),
        "Contact": one_line(row["contact_email"], 200),
        "MRR": f"{row['mrr']:,.2f}" if row["mrr"] is not None else "",
        "Renews": renewal,
        "Stripe customer": one_line(row["stripe_customer_id"], 200),
    }
    return [(label, value) for label, value in known.items() if value]


def tags(row: Row, on: date) -> list[str]:
    """What kind of account it is, where that is special."""
    said = {
        "on trial": row["is_trial"],
        "one of our own": row["is_internal"],
        "for tests": row["is_test"],
    }
    found = [words for words, holds in said.items() if holds]
    if row["snoozed_until"] and row["snoozed_until"] > on:
        found.append(f"snoozed until {row['snoozed_until']:%-d %b %Y}")
    return found


def figures(row: Row, morning: DigestDay) -> list[Figure]:
    """Of the running usage period, each with its unit."""
    unit, used, noun = row["unit"], row["used_mtd"], units.name(row["unit"])
    counted = noun if used is None else formatting.noun(used, unit, row["unit_singular"] or "")
    quota = {
        "limited": f"of {amount(row['quota'] or 0, unit)}",
        "unlimited": f"{counted}, unlimited",
        "blocked": f"{counted}, blocked: quota 0",
        "unknown": f"{counted}, quota not known",
    }[row["quota_state"]]
    found = [
        Figure("Used", "–" if used is None else figure(used, unit), quota if used is not None else "no reading yet")
    ]
    if row["pct_of_cap"] is not None:
        found.append(Figure("Of the quota", format_pct(row["pct_of_cap"], row["ci95_pct"])))
    if row["remaining"] is not None:
        found.append(Figure("Remaining", figure(row["remaining"], unit), formatting.noun(row["remaining"], unit)))
    if units.adds_up(row["aggregation"]):
        found += _pace(row)
    if row["quota_state"] == "limited" and used is not None:
        said = outlook.outlook(row, morning)
        found.append(Figure("Outlook", f"{said[:1].upper()}{said[1:]}", _days_left(row)))
    return [*found, _reset(row)]


def _pace(row: Row) -> list[Figure]:
    """How fast, and where to: the forecast says so itself where it is none."""
    unit, noun, found = row["unit"], units.name(row["unit"]), []
    if row["level_7d"] is not None:
        a_day = Decimal(row["level_7d"]).quantize(Decimal("0.1"), ROUND_FLOOR) * units.step(unit)
        growth = f", {change(row['momentum_7d'])} in 7 days" if row["momentum_7d"] is not None else ""
        found.append(Figure("Pace", f"{a_day:,f}".removesuffix(".0"), f"{noun} a day over 7 days{growth}"))
    if row["projected_eom"] is not None and row["forecast_method"] != "none":
        low, high = row["projected_low"], row["projected_high"]
        is_band = low is not None and high is not None and low < high
        band = f"{figure(low, unit)} to {figure(high, unit)} in 8 of 10 cases" if is_band else noun
        found.append(Figure("Projected", figure(row["projected_eom"], unit), band))
    return found


def _days_left(row: Row) -> str:
    """Until the quota is used up, cut off to a tenth of a day."""
    days = row["days_to_cap"]
    if not days or not row["hits_cap_in_period"]:
        return ""
    return f"in {Decimal(days).quantize(Decimal('0.1'), ROUND_FLOOR):,} days"


def _reset(row: Row) -> Figure:
    start, end = row["period_start"], row["period_end"]
    kind = PERIODS.get(row["period_source"], row["period_source"] or "")
    began = f"{kind} from {start:%-d %b %Y}"
    if end.year == MAXYEAR:
        return Figure("Resets", "Never", began)
    label = "Period ends" if row["aggregation"] == "latest" else "Resets"
    day = f"{end:%-d %b}" if (end - start).days < 366 else f"{end:%-d %b %Y}"
    return Figure(label, day, f"{end:%H:%M} UTC, {began}")


def advice(row: Row, morning: DigestDay) -> dict[str, Any] | None:
    """What to do, why, by when and who: account_advice, and what the next plan means; None without advice."""
    if not row["advice"]:
        return None
    return {
        "heading": advice_words.heading(row),
        "next_step": row["next_step"],
        "by_when": row["by_when"],
        "who": person(row["advice_owner"]),
        "worth": outlook.worth(row),
        "reasons": advice_words.reasons(row["reasons"]),
        "offer": outlook.offer(row) if row["quota_state"] == "limited" else "",
        "is_listed": row["is_announced"] is False,
    }


def caveats(row: Row, morning: DigestDay, quality: Mapping[str, Any]) -> list[str]:
    """What one should know before one calls, and what the figures lack."""
    found = outlook.caveats(row, morning)
    noun = units.name(row["unit"])
    if row["quota_state"] == "unknown":
        found.append(f"nobody has sent a quota for {noun}, so there is no percentage")
    if row["quota_state"] == "blocked" and row["used_mtd"]:
        found.append(f"{noun} are used in spite of quota 0")
    if row["stripe_customer_id"] is None:
        found.append("not billed: no Stripe customer")
    if row["is_owner_missing"]:
        found.append("at a threshold without an owner")
    if row["limit_kind"] is None and row["quota_state"] == "limited":
        found.append("the price list does not say what happens at the limit")
    if row["overage_value"]:
        found.append(f"overage {money(row['overage_value'], row['currency'])} so far in this period")
    if quality["kept_from"] and quality["kept_from"].year > 1970:
        found.append(f"usage before {quality['kept_from']:%-d %b %Y} is no longer kept")
    return [f"{each[:1].upper()}{each[1:]}." for each in dict.fromkeys(found)]


def draft(row: Row, on: date, templates: Path | None) -> dict[str, str] | None:
    """The letter that somebody may send, by the template; None where the advice is to write nothing."""
    try:
        letter = email_draft.letter(row, on)
        text = email_draft.draft(letter, templates) if letter else ""
    except email_draft.DraftError as error:
        return {"text": "", "mailto": "", "error": str(error)}
    return {"text": text, "mailto": mailto.link(text), "error": ""} if text else None


def quota_words(quota: int | None, unit: str) -> str:
    """A quota as people say it."""
    return "unlimited" if quota is None else "blocked" if quota == 0 else amount(quota, unit)
