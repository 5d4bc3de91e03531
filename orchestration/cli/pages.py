"""`headroom pages`: pages for CS, sales and customers, and who may open them."""

import os
import re
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from zoneinfo import ZoneInfo

import typer
from rich.text import Text

from orchestration.cli import failures, tables
from orchestration.cli.configuration import load_settings
from orchestration.cli.console import console, fail, print_error
from orchestration.ledger import page_keys, page_views, restored
from orchestration.ledger.ledger import Ledger
from orchestration.ledger.page_keys import PageKey
from orchestration.messages.figures import short_name
from orchestration.settings import Settings
from orchestration.usage.formatting import counted, printable
from orchestration.warehouse import queries
from orchestration.warehouse.page_queries import EXPORTED_ACCOUNTS
from orchestration.warehouse.published_copy import NothingPublishedError, connected

if TYPE_CHECKING:
    import uvicorn

MOST_DAYS = 3_660
"""That a link may be valid: ten years."""
_NAME_CHARACTERS = 100
_CELL_CHARACTERS = 24
_STOP_SECONDS = 10

pages_app = typer.Typer(help="Pages for CS, sales and customers, and who may open them.")


@pages_app.callback(invoke_without_command=True)
def serve(context: typer.Context) -> None:
    """Serve the pages on HEADROOM_PAGES_HOST and HEADROOM_PAGES_PORT, until Ctrl-C."""
    if context.invoked_subcommand:
        return
    config = load_settings()
    ledger = Ledger(config.ledger_url)
    if ledger.is_read_only:
        fail(
            "pages record each view, and this user may only read the ledger. Let it write to"
            f" {config.data}, or use Postgres (HEADROOM_LEDGER_URL)"
        )
    _warn_of_a_copy(ledger)
    if not page_keys.listed(ledger) and not config.pages_trust_header:
        console.print('Nobody has a link yet: `headroom pages grant "CS team"` prints one.')
    ledger.close()
    if config.pages_frames and not (config.pages_url or "").startswith("https://"):
        print_error("browsers keep no cookie in an embedded page without TLS: set HEADROOM_PAGES_URL to https://…")
    with bound(config) as listening:
        port = listening.getsockname()[1]
        console.print(f"Pages on {config.pages_url or f'http://127.0.0.1:{port}'} (Ctrl-C stops them)", soft_wrap=True)
        with suppress(failures.StoppedBySignalError, KeyboardInterrupt):  # uvicorn has ended in order, and raises it
            server(config).run(sockets=[listening])


@pages_app.command()
def grant(
    name: Annotated[str, typer.Argument(help="who gets it, such as 'CS team'")] = "",
    audience: Annotated[
        Literal["internal", "customer", "gate"] | None,
        typer.Option(help="who they are; gate: a program, /v1/limits alone"),
    ] = None,
    account: Annotated[str, typer.Option(help="for the customer of this account, who sees nothing else")] = "",
    expires: Annotated[str, typer.Option(help="after days or hours, 90d or 12h, or after a day, 2027-01-31")] = "90d",
) -> None:
    """Print a new link. It is shown once."""
    config, now = load_settings(), _clock()
    if audience == "customer" and not account:
        fail("a customer's link is for one account: name it with --account")
    if audience in ("internal", "gate") and account:
        fail(f"a link for --account is a customer's, who sees nothing else: leave out --audience {audience}")
    account_id = None
    if account:
        try:
            with connected(config.published) as connection:
                found = queries.account_named(connection, account)
        except (queries.UnknownAccountError, NothingPublishedError) as error:
            fail(str(error))
        account_id, name = found["account_id"], name or found["account_name"] or found["account_id"]
    name = printable(" ".join(name.split()))[:_NAME_CHARACTERS]
    if not name:
        fail('say who gets the link: `headroom pages grant "CS team"`')
    until = _until(expires, now, config.zone)
    is_gate = audience == "gate"
    key, secret = page_keys.grant(Ledger(config.ledger_url), name, account_id, now, until, is_gate=is_gate)
    link = secret if is_gate else f"{base_url(config)}/{'u' if account_id else 'k'}/{secret}"
    what = f"key, which opens {base_url(config)}/v1/limits and is" if is_gate else "link, which is"
    console.print(link, markup=False, soft_wrap=True)
    console.print(
        f"For {name}, until {_moment(until, config.zone)} {until.astimezone(config.zone):%Z}. Keep the {what}"
        f" shown once. `headroom pages revoke {key.id}` ends it.",
        markup=False,
        soft_wrap=True,
    )
    if config.pages_url is None:
        who, whose = ("key", "gates") if is_gate else ("link", "people")
        print_error(f"this {who} opens on this machine alone: set HEADROOM_PAGES_URL to where {whose} reach the pages")


@pages_app.command("list")
def list_keys(
    views: Annotated[
        bool, typer.Option("--views", help="who saw which account, and when, instead of the keys")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="of the newest views")] = 50,
) -> None:
    """List the keys, or with --views who saw what."""
    config, now = load_settings(), _clock()
    ledger = Ledger(config.ledger_url)
    keys = page_keys.listed(ledger)
    if views:
        names = {f"key:{key.id}": key.name for key in keys}
        rows = [
            (
                names.get(view.visitor, view.visitor.partition(":")[2]),
                view.account_id or "many",
                view.page,
                _moment(view.first_at, config.zone),
            )
            for view in page_views.newest(ledger, limit)
        ]
        if not rows:
            console.print("Nobody has opened a page yet.")
            return
        _print(("Who", "Account", "Page", f"First in the hour, {config.zone.key}"), rows, ())
        return
    _warn_of_a_copy(ledger)
    if not keys:
        console.print('Nobody has a link yet: `headroom pages grant "CS team"` prints one.')
        return
    seen = page_views.last_seen(ledger)
    _print(
        ("For", "Id", "Account", "State", "Expires", "Last seen", "Granted"),
        [
            (
                key.name,
                key.id,
                key.account_id or ("limits" if key.audience == "gate" else "all"),
                _state(key, now),
                _moment(key.expires_at, config.zone),
                _moment(seen[who], config.zone) if (who := f"key:{key.id}") in seen else "never",
                _moment(key.granted_at, config.zone),
            )
            for key in keys
        ],
        ("Granted", "Last seen"),
    )
    console.print(Text(f"Times in {config.zone.key}. --views shows who saw what.", "dim"))


@pages_app.command()
def revoke(key: Annotated[str, typer.Argument(help="its id or its name, as `headroom pages list` shows them")]) -> None:
    """End a link, from now on."""
    config, now = load_settings(), _clock()
    ledger = Ledger(config.ledger_url)
    keys = page_keys.listed(ledger)
    found = [each for each in keys if each.id == key] or [
        each for each in keys if each.name == key and each.is_valid(now)
    ]
    if not found:
        fail(f"there is no valid key {key!r}; `headroom pages list` shows them")
    if len(found) > 1:
        ids = ", ".join(each.id for each in found[:10])
        fail(f"{counted(len(found), 'key')} have the name {key!r}; give an id: {ids}")
    page_keys.revoke(ledger, found[0].id, now)
    console.print(
        f"The link of {found[0].name} ({found[0].id}) opens nothing from now on.", markup=False, soft_wrap=True
    )


@pages_app.command()
def export(
    to: Annotated[
        Path | None, typer.Option(help="folder, new or an earlier export; default: HEADROOM_PAGES_EXPORT")
    ] = None,
    accounts: Annotated[
        int, typer.Option(min=1, help="that get a page, those first that need somebody")
    ] = EXPORTED_ACCOUNTS,
    is_all: Annotated[bool, typer.Option("--all", help="a page for each account, however many there are")] = False,
) -> None:
    """Write the pages of colleagues as files, for a bucket behind a login. No customer's page, and no key."""
    from orchestration.pages import export as pages_export
    from orchestration.pages.export_folder import ExportError

    config = load_settings()
    target = to or config.pages_export
    if target is None:
        fail("say where to: `headroom pages export --to DIR`, or set HEADROOM_PAGES_EXPORT")
    try:
        done = pages_export.export(config, target, sys.maxsize if is_all else accounts)
    except (ExportError, NothingPublishedError) as error:
        fail(str(error))
    of = f" of {done.accounts_in_all:,}" if done.accounts < done.accounts_in_all else ""
    console.print(
        f"{counted(done.files, 'file')} in {done.folder}: {counted(done.accounts, 'account')}{of}, and"
        f" {counted(done.digests, 'digest')}.",
        markup=False,
        soft_wrap=True,
    )


def server(config: Settings) -> "uvicorn.Server":
    """The pages as a program that listens. SIGTERM ends it, after the requests under way."""
    import uvicorn

    from orchestration.pages import app

    application = app.build(config, _clock)
    built = uvicorn.Server(
        uvicorn.Config(
            application,
            access_log=False,  # addresses of entrance hold keys
            log_level="warning",
            server_header=False,
            proxy_headers=False,  # pages/addresses.py says whom a proxy may name
            ws="none",
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
    )
    application.state.is_ending = lambda: built.should_exit  # gates that wait are answered then
    return built


def base_url(config: Settings) -> str:
    """Where people reach the pages."""
    return (config.pages_url or f"http://127.0.0.1:{config.pages_port}").rstrip("/")


def bound(config: Settings) -> socket.socket:
    """Where the server listens."""
    try:
        return socket.create_server(
            (config.pages_host, config.pages_port),
            family=socket.AF_INET6 if ":" in config.pages_host else socket.AF_INET,
            dualstack_ipv6=config.pages_host == "::",
        )
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number and number > 0 else str(error)
        fail(
            f"the pages cannot listen on {config.pages_host}, port {config.pages_port}"
            f" ({reason}): set HEADROOM_PAGES_HOST or HEADROOM_PAGES_PORT"
        )


def _until(expires: str, now: datetime, zone: ZoneInfo) -> datetime:
    until = None
    with suppress(ValueError, OverflowError):
        if match := re.fullmatch(r"(\d{1,6})([dh])", expires):
            until = now + timedelta(days=int(match[1])) if match[2] == "d" else now + timedelta(hours=int(match[1]))
        else:
            after = date.fromisoformat(expires) + timedelta(days=1)
            until = datetime.combine(after, time(), zone).astimezone(UTC)
    if until is None:
        fail(f"--expires {expires!r} is not a time: use 90d, 12h or the last day, such as 2027-01-31")
    if not now < until <= now + timedelta(days=MOST_DAYS):
        fail(f"--expires {expires} is past, or more than ten years away")
    return until


def _state(key: PageKey, now: datetime) -> str:
    return "revoked" if key.revoked_at else "valid" if key.is_valid(now) else "expired"


def _warn_of_a_copy(ledger: Ledger) -> None:
    if made := restored.copied_at(ledger, _clock()):
        print_error(
            f"the ledger is a copy of {made:%Y-%m-%d %H:%M} UTC. Keys that were revoked after it are valid again:"
            " `headroom pages list` shows them, `headroom pages revoke` ends them"
        )


def _print(names: tuple[str, ...], rows: Sequence[tuple[str, ...]], left_out: tuple[str, ...]) -> None:
    tables.print_columns(
        names, [[Text(short_name(cell, _CELL_CHARACTERS)) for cell in row] for row in rows], (), left_out
    )


def _moment(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M}"


def _clock() -> datetime:
    return datetime.now(UTC)
