"""Small builders of input for tests."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from orchestration.messages.groups import BY_KEY
from orchestration.usage.meters import Meter, meters_of

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
ITEM = {
    "group": "call_upgrade",
    "account_id": "acme",
    "meter": "api-calls",
    "is_current": True,
    "name": "Acme",
    "url": "",
    "owner": "dana.reyes@example.com",
    "owner_name": "Dana Reyes",
    "advice": "call_upgrade",
    "severity": "warm",
    "facts": ["83 k / 100 k (83 %), crossed 80 % today 04:12", "runs out Tue 24 Nov, then calls are refused"],
    "todo": "Dana Reyes: call and offer the scale plan (+$450 MRR)",
    "details": [
        "83,801 / 100,000 calls (83.8 %) · crossed 80 % today 04:12 · runs out Tue 24 Nov, then calls are refused",
        "projected 145,000 · +3.2 points since yesterday 08:00",
    ],
    "sparkline": "▃▃█████▃▃████▅",
}
CHART = {
    "name": "Acme",
    "unit": "calls",
    "from": "2026-11-01",
    "days": 30,
    "used": [5, 10, 40],
    "quota": 100,
    "is_forecast": True,
    "projected": 145,
    "low": 130,
    "high": 160,
}
ACCOUNT = {"account_name": None, "owner": "dana@example.com", "csm": None, "plan": "growth", "mrr": None}
ADVICE = {"advice": None, "recommended_action": None}
FOOTER = ["Data through 20 Nov 07:52 UTC", "20 lines rejected"]


def make_event(account: str = "acme", at: str = "2026-11-19T12:00:00Z", **fields: Any) -> dict[str, Any]:
    """An api_call; `fields` replace or add, None removes."""
    event: dict[str, Any] = {
        "event": "api_call",
        "uuid": f"{account}-{at}",
        "timestamp": at,
        "properties": {"account_id": account, "endpoint": "/v1/search", "status": 200},
        **fields,
    }
    return {name: value for name, value in event.items() if value is not None}


def make_quota(
    account: str = "acme", quota: object = 1000, at: str = "2026-11-01T00:00:00Z", **fields: Any
) -> dict[str, Any]:
    """A quota_set event."""
    return {
        "event": "quota_set",
        "uuid": f"quota-{account}-{at}",
        "timestamp": at,
        "properties": {"account_id": account, "api_quota_monthly": quota, "plan": "growth"},
        **fields,
    }


def make_meter(**cells: str) -> Meter:
    """A row of meters.csv: page views, counted; `cells` replace, as text."""
    row = {"meter": "page-views", "is_main": "false", "event_names": "page_view", "aggregation": "count"}
    row |= {"unit": "page views", "unit_singular": "page view", "decimals": "0", "quota_policy": "carry"}
    [meter] = meters_of([{**row, **cells}])
    return meter


def make_digest(items: int = 1, headline: str = "1 account crossed a threshold.", **fields: Any) -> dict[str, Any]:
    """A digest of so many equal accounts, in one group."""
    item = {**ITEM, **fields}
    group = make_group(item["group"], items)
    return {
        "date": "2026-11-20",
        "title": "Usage digest · Fri 20 Nov",
        "headline": headline,
        "notification": headline,
        "accounts": items,
        "items": [item] * items,
        "groups": [group] if items else [],
        "known": [],
        "footer": FOOTER,
        "links": [],
    }


def make_group(key: str = "call_upgrade", count: int = 1, **fields: Any) -> dict[str, Any]:
    """A group of a digest, as messages.groups has it."""
    group = BY_KEY[key]
    drawn = {"key": key, "title": group.title, "is_action": group.is_action, "count": count, "worth": "", "briefs": []}
    return {**drawn, "more": 0, **fields}


def land(folder: Path, name: str, *lines: object) -> Path:
    """Write a landing file; what is not a string or bytes is written as JSON."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = [line if isinstance(line, bytes) else _text(line).encode() for line in lines]
    path.write_bytes(b"".join(line + b"\n" for line in encoded))
    return path


def _text(line: object) -> str:
    return line if isinstance(line, str) else json.dumps(line)


NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
QUALITY = {
    "data_through": datetime(2026, 11, 20, 6, 58, tzinfo=UTC),
    "hours_since_call": 0,
    "complete_pct": Decimal("99.989999"),
    "accounts_at_threshold": 12,
    "rejected_lines": 1_204,
    "accounts_without_quota": 0,
    "accounts_blocked_with_usage": 0,
    "accounts_without_customer": 1,
    "accounts_without_owner": 0,
    "accounts_sampled": 0,
    "events_of_unknown_meter": 0,
    "subjects_unmapped": 0,
}


def meter_facts(meter: str = "api-calls", aggregation: str | None = None, **_: Any) -> dict[str, Any]:
    """What utilization_mtd has of a meter: calls are the main one, tokens are summed, others are read."""
    counted = {"api-calls": "count", "tokens": "sum"}.get(meter, "latest")
    return {
        "meter": meter,
        "is_main": meter == "api-calls",
        "is_calls": meter == "api-calls",
        "aggregation": aggregation or counted,
        "forecast_method": "level and weekday shape" if (aggregation or counted) in ("count", "sum") else "last value",
        "unit": {"api-calls": "calls"}.get(meter, meter),
    }


def make_standing(account: str = "acme", **fields: Any) -> dict[str, Any]:
    """A row of `queries.digest_accounts` on the morning of 20 November, 8am in Berlin; `fields` replace."""
    return {
        "account_id": account,
        "account_name": None,
        "owner": None,
        "csm": None,
        "contact_email": None,
        "plan": None,
        "mrr": None,
        "renewal_on": None,
        **meter_facts(**fields),
        "period_start": NOVEMBER,
        "period_end": datetime(2026, 12, 1, tzinfo=UTC),
        "quota_state": "limited",
        "quota": 1_000_000,
        "previous_quota": None,
        "quota_since": NOVEMBER - timedelta(days=90),
        "used_mtd": 812_345,
        "used_since": 31_999,
        "used_same_point_last_period": None,
        "pct_of_cap": Decimal("81.234500"),
        "ci95_pct": Decimal(0),
        "projected_eom": 1_200_000,
        "projected_low": None,
        "projected_high": None,
        "hits_cap_on": date(2026, 11, 27),
        "hits_cap_in_period": True,
        "severity": "warm",
        "recommended_action": None,
        "advice": "tell_overage",
        "situation": "price_unknown",
        "reasons": "",
        "next_step": "Write before overage starts.",
        "by_when": None,
        "advice_owner": None,
        "value": None,
        "is_announced": True,
        "limit_kind": None,
        "cost_of_waiting": None,
        "overage_units": 0,
        "overage_value": None,
        "currency": None,
        "next_plan": None,
        "next_plan_delta_mrr": None,
        "next_plan_delta": None,
        "projected_overage_value": None,
        "is_staying_cheaper": None,
        "is_refused": None,
        "is_refused_on_next_plan": None,
        "is_trial": False,
        "snoozed_until": None,
        "late_calls_24h": 0,
        "error_ratio_7d": None,
        "is_retry_storm": False,
        "momentum_7d": None,
        "momentum_word": "steady",
        **fields,
    }


def make_crossing(account: str = "acme", threshold: str = "80%", **fields: Any) -> dict[str, Any]:
    """A crossing of that morning as the digest gets it, with the account's row of `make_standing`; `fields` replace."""
    used = fields.get("used", 812_345)
    return {
        **make_standing(account, **{**meter_facts(**fields), "used_mtd": used}),
        "period_end": (fields.get("period_start", NOVEMBER) + timedelta(days=31)).replace(day=1),
        "quota_version": 1,
        "threshold": threshold,
        "crossed_at": datetime(2026, 11, 20, 6, tzinfo=UTC),
        "cause": "usage",
        "pace_matters": False,
        "used": used,
        "is_current_period": True,
        **fields,
    }


def make_change(account: str = "acme", word: str = "dropping", before: int = 100, **fields: Any) -> dict[str, Any]:
    """A row of weekly_changes with its account beside it, of the week from 9 November 2026."""
    return {
        "account_id": account,
        "week_start": date(2026, 11, 9),
        "first_call_on": date(2026, 11, 2),
        "last_call_on": date(2026, 11, 1),
        **meter_facts(**fields),
        "used": 40,
        "used_week_before": before,
        "change_pct": Decimal(-60),
        "change_word": word,
        **ACCOUNT,
        **ADVICE,
        **fields,
    }


def make_cap_hit(account: str = "acme", outcome: str = "upgraded", **fields: Any) -> dict[str, Any]:
    """A row of cap_hit_outcomes with its account beside it, of October 2026."""
    return {
        "account_id": account,
        "outcome": outcome,
        **meter_facts(**fields),
        "period_start": datetime(2026, 10, 1, tzinfo=UTC),
        "period_end": datetime(2026, 11, 1, tzinfo=UTC),
        "quota": 100,
        "used": 120,
        "overage_units": 20,
        "hit_at": datetime(2026, 10, 20, 9, tzinfo=UTC),
        "plan_now": "growth",
        "plan_delta_mrr": Decimal(0),
        "throttled_calls": None,
        "calls_from_hit_day": 30,
        "last_call_at": datetime(2026, 10, 31, 9, tzinfo=UTC),
        **ACCOUNT,
        "recommended_action": None,
        **fields,
    }


def make_alert_outcome(account: str = "acme", **fields: Any) -> dict[str, Any]:
    """A row of alert_outcomes, alerted on 20 October 2026 without an answer or a raise."""
    return {
        "account_id": account,
        "meter": "api-calls",
        "period_start": datetime(2026, 10, 1, tzinfo=UTC),
        "quota": 100,
        "alerted_at": datetime(2026, 10, 20, 8, tzinfo=UTC),
        "threshold": "80%",
        "announcements": 1,
        "disposition": None,
        "dispositioned_at": None,
        "plan": "growth",
        "quota_raised_at": None,
        "new_quota": None,
        "new_plan": None,
        "mrr_delta": None,
        **fields,
    }


def make_hard_crossing(account: str = "acme", **fields: Any) -> dict[str, Any]:
    """A row of warehouse.CROSSINGS: the quota of November 2026 used up on the 20th, at 14:00."""
    return {
        "account_id": account,
        **meter_facts(**fields),
        "period_start": datetime(2026, 11, 1, tzinfo=UTC),
        "period_end": datetime(2026, 12, 1, tzinfo=UTC),
        "threshold": "100%",
        "crossed_at": datetime(2026, 11, 20, 14, tzinfo=UTC),
        "cause": "usage",
        "pace_matters": False,
        "quota": 100,
        "used": 100,
        "pct_of_cap": Decimal(100),
        "ci95_pct": Decimal(0),
        "severity": "critical",
        "projected_eom": 150,
        "hits_cap_on": date(2026, 11, 20),
        "hits_cap_in_period": True,
        "is_current_period": True,
        **ACCOUNT,
        **fields,
    }
