"""What is said of a customer's prepaid credit below explanations and statements: a line for each currency.

Nothing without credit, or without a key.
"""

from rich.text import Text

from orchestration.billing.credits import RemainingCredit, remaining_credit
from orchestration.billing.meter import StoppedError
from orchestration.channels.stripe import connect_credits
from orchestration.cli.console import console
from orchestration.ledger.outbox import InDoubtError, RefusedError
from orchestration.settings import Settings


def print_credit(config: Settings, customer: str) -> None:
    """Asks Stripe where a key is set. What it does not say is no reason to end."""
    if config.stripe_api_key is None:
        return
    try:
        found = remaining_credit(config, connect_credits, customer, config.now())
    except (StoppedError, RefusedError, InDoubtError, ValueError) as error:
        console.print(Text(f"Prepaid credit unknown: {error}", "dim"), soft_wrap=True)
        return
    for credit in found:
        console.print(Text(sentence(credit)), soft_wrap=True)


def sentence(credit: RemainingCredit) -> str:
    """What is left, and until when."""
    money = credit.currency.upper()
    used = credit.at_stripe - credit.remaining
    said = f"Prepaid credit: {credit.remaining:,.2f} {money} left of {credit.granted:,.2f}"
    if used:
        said += f", after {used:,.2f} of usage that is not invoiced yet"
    if credit.a_day is None:
        return f"{said}. No forecast yet."
    pace = f"{said}. At {credit.a_day:,.2f} {money} a day"
    if credit.burns_down_at is None:
        return f"{pace} it lasts more than ten years."
    return f"{pace} it runs out or expires about {credit.burns_down_at:%Y-%m-%d}."
