"""`headroom routes`: which message goes to whom, and whether each way is open."""

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.text import Text

from orchestration.channels import vendors
from orchestration.channels.preview import COLUMNS, wrapped
from orchestration.cli import route_findings
from orchestration.cli.configuration import load_settings
from orchestration.cli.console import console, fail, print_error, print_findings
from orchestration.defs.sending import Ways, done
from orchestration.ledger import decided, exits, routed
from orchestration.ledger.ledger import Ledger
from orchestration.messages import routes
from orchestration.messages.account_notice import is_address
from orchestration.messages.cuts import Cut
from orchestration.messages.message import to_json
from orchestration.messages.routes import Route, RoutesError
from orchestration.usage.formatting import counted

routes_app = typer.Typer(help="Which message goes to whom: list and check the routes.", no_args_is_help=True)
Address = Annotated[str, typer.Argument(help="the customer's e-mail address")]


@routes_app.command("list")
def list_routes() -> None:
    """Show the routes in their order. The first that stops ends it."""
    config = load_settings()
    width = min(console.width, COLUMNS)
    for number, route in enumerate(_read(), 1):
        vendor = vendors.vendor(route.channel)
        promise = str(route.promise or vendor.promises[0]).replace("_", " ")
        console.print(Text(f"{number}. {route.name}", "bold"), Text(f"to {vendor.title}: {_to(route)}"), soft_wrap=True)
        facts = [f"takes {', '.join(route.takes)}", *_for(route), *_when(route), promise]
        for line in wrapped(["   " + facts[0], *facts[1:]], width, 3):
            console.print(Text(line), soft_wrap=True)
    if not config.routes_file.is_file():
        console.print(f"Only Slack, as the environment sets it up. To add routes, write {config.routes_file}.")


@routes_app.command("check")
def check_routes() -> None:
    """Check the file, the secrets and each channel, and say how to repair them. Sends nothing."""
    findings = list(route_findings.examine(load_settings()))
    print_findings(findings)
    if not findings:
        console.print("Only the built-in route: `headroom slack check` checks it.")
    if any(finding.problem and finding.is_needed for finding in findings):
        raise typer.Exit(1)


def test_route(
    name: Annotated[str, typer.Argument(help="the route, as `headroom routes list` names it")],
    to: Annotated[str, typer.Option(help="the address, where the route takes it from a column")] = "",
) -> None:
    """Send one message, marked as a test, by a route, and record it."""
    config, now = load_settings(), datetime.now(UTC)
    route = next((each for each in _read() if each.name == name), None)
    if route is None:
        fail(f"there is no route {name!r}; `headroom routes list` lists them")
    if route.to_column and not to:
        fail(f"the route takes its address from the column {route.to_column}: name your own with --to")
    ledger, ways = Ledger(config.ledger_url), Ways(config, lambda: datetime.now(UTC))
    message = routes.trial(route, now)
    key = f"{config.env}|{message.key}"
    try:
        ways.channel(route.name)
    except ValueError as error:
        fail(str(error))
    with ledger.transaction() as connection:
        decided.record(connection, key, to_json(message), now)
        ways.prepare(ledger, connection, Cut(route, to, message), key, now, {})
    [sent] = ways.send_message(ledger, key, print_error)
    if sent.error:
        fail(f"{sent.delivery.key}: {sent.error}")
    console.print(f"{sent.delivery.key}: {done(sent.delivery)}.", markup=False, soft_wrap=True)


@routes_app.command()
def unsubscribe(
    address: Address, note: Annotated[str, typer.Option("--note", help="who asked for it, and when")]
) -> None:
    """Send no more letters to a customer's address, and drop those that wait."""
    address, now = address.strip(), datetime.now(UTC)
    if not is_address(address) or not note.strip():
        fail("give an e-mail address, and a --note that says who asked for it")
    ledger = Ledger(load_settings().ledger_url)
    with ledger.transaction() as connection:
        is_new = routed.unsubscribe(connection, address, note.strip(), now)
    dropped = exits.drop_letters(ledger, address, f"{address} unsubscribed: {note.strip()}", now)
    said = f"{counted(len(dropped), 'letter')} given up." if dropped else "No letter was waiting."
    state = "gets no more letters" if is_new else "had unsubscribed before"
    console.print(f"{address} {state}. {said}", markup=False, soft_wrap=True)


@routes_app.command()
def resubscribe(address: Address) -> None:
    """Let letters go to a customer's address again. What was given up stays given up."""
    address = address.strip()
    ledger = Ledger(load_settings().ledger_url)
    with ledger.transaction() as connection:
        is_changed = routed.resubscribe(connection, address)
    if not is_changed:
        fail(f"{address} has not unsubscribed")
    console.print(f"{address} gets letters again.", markup=False, soft_wrap=True)


def _read() -> list[Route]:
    try:
        return routes.read(load_settings().routes_file, vendors.vendor)
    except RoutesError as error:
        fail("\n".join(error.problems))


def _for(route: Route) -> list[str]:
    return [f"{name} {', '.join(values)}" for name, values in route.where.items()]


def _to(route: Route) -> str:
    if route.is_built_in:
        return "the channel of the audience"
    return route.to or (f"each account's {route.to_column}" if route.to_column else "by its secret")


def _when(route: Route) -> list[str]:
    hours = f"not {route.quiet_hours[0]:%H:%M} to {route.quiet_hours[1]:%H:%M}" if route.quiet_hours else ""
    most = f"at most {route.at_most_per_day} a day" if route.at_most_per_day else ""
    mode = f"{route.mode}s letters" if route.is_to_customers else ""
    return [each for each in (route.when, hours, most, mode, "then stop" if route.stop else "") if each]
