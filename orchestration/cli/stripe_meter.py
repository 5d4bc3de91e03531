"""The meter that `headroom stripe --meter NAME …` is about."""

from orchestration.billing.meters import each_meter, settings_of
from orchestration.cli.configuration import load_settings
from orchestration.cli.console import fail
from orchestration.settings import Settings
from orchestration.warehouse.published_copy import NothingPublishedError

_chosen = {"meter": ""}


def choose(name: str) -> None:
    """Empty: the main meter, or all of them where a command has a word for each."""
    _chosen["meter"] = name


def of_chosen_meter() -> Settings:
    """For the meter that was chosen, else for the main one. Ends the command where it is not reported to Stripe."""
    try:
        return settings_of(load_settings(), _chosen["meter"])
    except (LookupError, ValueError, NothingPublishedError) as error:
        fail(str(error))


def of_each_meter() -> list[Settings]:
    """For the meter that was chosen, else for each that is reported to Stripe."""
    if _chosen["meter"]:
        return [of_chosen_meter()]
    try:
        return each_meter(load_settings())
    except ValueError as error:
        fail(str(error))
