"""`headroom deliveries`: what was sent and what waits, and what people decide about a message that cannot be sent."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import typer

from orchestration.billing.meter_ledger import meter_ledger
from orchestration.cli import tables
from orchestration.cli.configuration import load_settings
from orchestration.cli.console import console, fail, print_error
from orchestration.defs.sending import Ways
from orchestration.ledger import decided, exits
from orchestration.ledger.exits import UndecidableError
from orchestration.ledger.ledger import Ledger, State
from orchestration.usage.formatting import counted

deliveries_app = typer.Typer(
    help="What was sent, what waits, what is in doubt.", invoke_without_command=True, no_args_is_help=False
)
Key = Annotated[str, typer.Argument(help="the delivery's key, as `headroom deliveries` lists it")]
Note = Annotated[str, typer.Option("--note", help="why, for those who look later")]


@deliveries_app.callback()
def deliveries(
    context: typer.Context,
    show: Annotated[str | None, typer.Option(help="print the stored message of one key")] = None,
) -> None:
    """What was sent, what waits, what is in doubt."""
    if context.invoked_subcommand:
        return
    config = load_settings()
    ledger = Ledger(config.ledger_url)
    if show:
        show = _one_of(ledger, show)
    if not show:
        tables.print_deliveries(ledger, meter_ledger(config), config.zone, config.now())
    elif delivery := ledger.delivery(show):
        tables.print_delivery(delivery)
        tables.print_decisions(exits.decisions(ledger, show))
    else:
        fail(f"there is no delivery {show!r}; `headroom deliveries` lists the keys")


@deliveries_app.command()
def resend(key: Key, note: Note) -> None:
    """Send a stored message once more, with its replies, to where its route goes now.

    For a message that went to the wrong channel, that somebody deleted, or whose channel is gone. It sends even if
    the message arrived before.
    """
    config = load_settings()
    ledger = Ledger(config.ledger_url)
    ways = Ways(config, _clock)
    key = _one_of(ledger, key)
    try:
        for route in ways.routes:
            ways.channel(route.name)
    except ValueError as error:
        fail(str(error))
    keys = _decided(lambda: exits.resend(ledger, key, note, _clock()))
    [sent] = ways.send(ledger, [key], print_error)
    if sent.error:
        fail(f"the next run sends {key}, for now it could not be sent: {sent.error}")
    if sent.delivery.state is State.PREVIEWED:
        console.print(f"{key}: not sent, Slack is not set up. The first run with a token sends it.", markup=False)
        return
    replies = f" with {counted(len(keys) - 1, 'reply', 'replies')}" if len(keys) > 1 else ""
    console.print(f"{key}: sent{replies} ({sent.delivery.receipt}).", markup=False, soft_wrap=True)


@deliveries_app.command("give-up")
def give_up(key: Key, note: Note) -> None:
    """Never send a message or its replies. No later digest announces its crossings.

    `headroom deliveries resend` still sends it.
    """
    ledger = Ledger(load_settings().ledger_url)
    key = _one_of(ledger, key)
    keys = _decided(lambda: exits.give_up(ledger, key, note, _clock()))
    replies = f", with {counted(len(keys) - 1, 'reply', 'replies')}" if len(keys) > 1 else ""
    console.print(f"{key}: given up{replies}. Nothing is sent.", markup=False, soft_wrap=True)


@deliveries_app.command()
def settle(
    key: Key,
    note: Note,
    link: Annotated[
        str | None, typer.Option(help="the message's address, by Slack's “Copy link”: its replies follow there")
    ] = None,
) -> None:
    """Record that a message in doubt arrived. Without --link its missing replies are given up."""
    from orchestration.channels.slack import channel as slack

    receipt = slack.receipt_of(link) if link else None
    if link and not receipt:
        raise typer.BadParameter("--link needs an address such as https://example.slack.com/archives/C…/p…")
    ledger = Ledger(load_settings().ledger_url)
    key = _one_of(ledger, key)
    keys = _decided(lambda: exits.settle(ledger, key, note, _clock(), receipt, link))
    dropped = f" {counted(len(keys) - 1, 'reply', 'replies')} given up." if len(keys) > 1 else ""
    console.print(f"{key}: recorded as sent.{dropped}", markup=False, soft_wrap=True)


def _one_of(ledger: Ledger, key: str) -> str:
    """The delivery that is meant: a message that has only one may be named by its own key."""
    found = decided.deliveries_of(ledger, key)
    return found[0].key if len(found) == 1 else key


def _decided(decide: Callable[[], list[str]]) -> list[str]:
    try:
        return decide()
    except UndecidableError as error:
        fail(str(error))


def _clock() -> datetime:
    return datetime.now(UTC)
