"""The draft of an e-mail to a customer, from a template that users can edit. It is shown to colleagues, never sent.

The advice decides whether there is one, and what it may offer.
"""

import traceback
from collections.abc import Mapping
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import SandboxedEnvironment

from orchestration.messages.account_wording import Row, hits_cap_is_ahead
from orchestration.messages.figures import one_line, person
from orchestration.messages.message import account_name
from orchestration.usage import units
from orchestration.usage.formatting import figure, format_pct

NAME = "customer_email.txt.jinja"
SHIPPED = Path(__file__).resolve().parent / "templates"
OFFERS = ("call_upgrade", "offer_upgrade")
"""Advice with which the next plan is named to the customer."""
WRITES = (*OFFERS, "call_help", "help_first", "tell_overage")
"""Advice with which there is something to write."""
_TEAMS = {
    *("accounts", "admin", "api", "billing", "contact", "data", "dev", "developer", "developers", "engineering"),
    *("finance", "hello", "help", "info", "it", "noreply", "office", "ops", "platform", "reply", "sales", "security"),
    *("support", "team", "tech"),
}
"""Parts of an address that are no person's name."""


class DraftError(RuntimeError):
    """The template cannot be used. The message says where and why."""


def letter(row: Row, on: date) -> dict[str, Any] | None:
    """What the template may name. None where the advice is to write nothing.

    `row` is one of `queries.digest_accounts`.
    """
    return facts(row, on) if row["advice"] in WRITES else None


def facts(row: Row, on: date) -> dict[str, Any]:
    """What a letter may name, whatever the advice: the account's own numbers, and nothing of ours."""
    is_over, is_hard = row["used_mtd"] >= row["quota"], row["limit_kind"] == "hard"
    is_overage, is_slowed = row["cost_of_waiting"] == "overage starts", row["limit_kind"] == "throttle"
    is_ahead, offers = hits_cap_is_ahead(row), row["advice"] in OFFERS and bool(row["next_plan"])
    reasons = (row["reasons"] or "").split(",")
    return {
        "account": one_line(account_name(row)),
        "contact": one_line(row["contact_email"]),
        "greeting": greeting(row),
        "owner": row["owner"] or "",
        "owner_name": person(row["owner"]),
        "advice": row["advice"],
        "meter": row["meter"],
        "unit": units.name(row["unit"]),
        "used": figure(row["used_mtd"], row["unit"]),
        "quota": figure(row["quota"], row["unit"]),
        "percent": format_pct(row["pct_of_cap"]),
        "hits_cap": f"{row['hits_cap_on']:%A, %-d %B}" if is_ahead else "",
        "projected": figure(row["projected_eom"], row["unit"]) if row["projected_eom"] is not None else "",
        "limit": row["limit_kind"] or "",
        "plan": row["plan"] or "",
        "next_plan": row["next_plan"] or "",
        "period_ends": f"{row['period_end'] - timedelta(seconds=1):%-d %B}" if row["period_end"].year < 9999 else "",
        "today": f"{on:%-d %B %Y}",
        "is_gauge": not units.adds_up(row["aggregation"]),
        "is_trial": bool(row["is_trial"]),
        "is_used_up": is_over,
        "is_refused": is_hard and is_over and "served_past_limit" not in reasons,
        "will_be_refused": is_hard and is_ahead,
        "is_slowed": is_slowed and is_over,
        "will_be_slowed": is_slowed and is_ahead,
        "is_overage": is_overage and is_over,
        "will_be_overage": is_overage and is_ahead,
        "offers_next_plan": offers and row["is_refused_on_next_plan"] is False,
        "is_next_plan_cheaper": offers and row["situation"] == "upgrade_cheaper",
        "is_staying_cheaper": bool(row["is_staying_cheaper"]),
        "is_retry_storm": bool(row["is_retry_storm"]),
    }


def greeting(row: Row) -> str:
    """Whom the letter greets: Anna of anna.smith@example.com, else the account's team."""
    parts = (row["contact_email"] or "").partition("@")[0].replace("_", ".").split(".")
    is_person = len(parts) == 2 and all(part.isalpha() and part.lower() not in _TEAMS for part in parts)
    return parts[0].capitalize() if is_person and len(parts[0]) > 1 else f"{one_line(account_name(row))} team"


def draft(letter: Mapping[str, Any], folder: Path | None) -> str:
    """The draft of one letter, by the template in `folder`; without one, or if it has none, by that of Headroom.

    :raises DraftError: the template is wrong, or names what a letter does not have.
    """
    return rendered(letter, folder, NAME, "no draft to the customer", "the next digest uses it")


def rendered(letter: Mapping[str, Any], folder: Path | None, name: str, what: str, then: str) -> str:
    """The text of the template of that name, in `folder` or else of Headroom. Errors begin with `what` and end with
    what happens `then`.

    :raises DraftError: the template is wrong, or names what a letter does not have.
    """
    try:
        return _environment(folder).get_template(name).render(letter).strip()
    except TemplateSyntaxError as error:
        said = _sentence(error.filename or name, error.lineno, error)
        raise DraftError(f"{what}: {said}; correct the template, {then}") from error
    except (TemplateError, ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        # jinja2 gives its code the template's file name and line numbers
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == name]
        place = (frames[-1].filename, frames[-1].lineno) if frames else (name, None)
        raise DraftError(f"{what}: {_sentence(*place, error)}; correct the template, {then}") from error


@lru_cache(maxsize=4)
def _environment(folder: Path | None) -> SandboxedEnvironment:
    """One for a folder, for compiling a template takes a page's time; it looks at each use whether the file changed.

    Sandboxed: the folder may belong to somebody who may write texts, not run code. No autoescape: it is not HTML.
    """
    folders = [path for path in (folder, SHIPPED) if path]
    return SandboxedEnvironment(loader=FileSystemLoader(folders), undefined=StrictUndefined)


def _sentence(file: str, line: int | None, error: Exception) -> str:
    where = f"{file}, line {line}" if line else file
    return f"{where}: {error}"
