"""Advice in words where it is not a message: its heading, and the facts behind it. What to do is a mart's sentence."""

from orchestration.messages.account_wording import Row
from orchestration.messages.groups import group_of

REASONS = {
    "internal": "one of our own accounts",
    "snoozed": "snoozed",
    "quota_raised": "the quota was raised",
    "dropping": "usage is dropping",
    "dormant": "usage has stopped",
    "retry_storm": "most of the growth is retries of failed calls",
    "failed_calls": "many calls fail",
    "trial": "on trial",
    "gauge": "the meter is a reading, without a forecast",
    "hard_limit": "hard limit",
    "soft_limit": "soft limit",
    "throttle_limit": "slowed down past the limit",
    "monitor_limit": "limit that is only watched",
    "limit_unknown": "kind of limit not known",
    "pay_per_use": "pay per use",
    "over_quota": "over quota",
    "served_past_limit": "served past the limit",
    "runs_out": "runs out in this period",
    "will_not_run_out": "will not run out in this period",
    "no_forecast": "no forecast yet",
    "no_next_plan": "no larger plan",
    "upgrade_cheaper": "the next plan costs them less",
    "staying_cheaper": "staying costs them less",
    "same_cost": "both plans cost the same",
    "renewal_soon": "renews soon",
    "pace_matters": "only the pace would be news",
}
"""By the codes of account_advice.reasons (docs/meaning/definitions.md#advice)."""


def heading(row: Row) -> str:
    """What kind of advice it is, as the digest groups accounts; empty where there is none."""
    if not row["advice"]:
        return ""
    return "Nothing to do" if row["advice"] == "none" else group_of(row).title


def reasons(codes: str | None) -> list[str]:
    """The facts behind it. An unknown code stays as it is, without its underscores."""
    return [REASONS.get(code, code.replace("_", " ")) for code in (codes or "").split(",") if code]
