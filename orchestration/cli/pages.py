"""`headroom pages`: pages for CS, sales and customers, and who may open them."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from orchestration.cli.configuration import load_settings
from orchestration.cli.console import console
from orchestration.ledger import page_keys
from orchestration.ledger.ledger import Ledger
from orchestration.settings import Settings
from orchestration.warehouse import queries
from orchestration.warehouse.published_copy import connected

pages_app = typer.Typer(help="Pages for CS, sales and customers, and who may open them.")


@pages_app.callback(invoke_without_command=True)
def serve(context: typer.Context) -> None:
    """Serve the pages on HEADROOM_PAGES_HOST and HEADROOM_PAGES_PORT, until Ctrl-C."""
    if context.invoked_subcommand:
        return
    import uvicorn

    from orchestration.pages import app

    config = load_settings()
    console.print(f"Pages on {base_url(config)} (Ctrl-C stops them)", soft_wrap=True)
    uvicorn.run(
        app.build(config, lambda: datetime.now(UTC)),
        host=config.pages_host,
        port=config.pages_port,
        access_log=False,  # addresses of entrance hold keys
        log_level="warning",
        server_header=False,
    )


def base_url(config: Settings) -> str:
    """Where people reach the pages."""
    return (config.pages_url or f"http://127.0.0.1:{config.pages_port}").rstrip("/")


@pages_app.command()
def grant(
    name: Annotated[str, typer.Argument(help="who gets it, such as 'CS team'")] = "",
    account: Annotated[str, typer.Option(help="for the customer of this account, who sees nothing else")] = "",
    expires: Annotated[str, typer.Option(help="after so many days")] = "90d",
) -> None:
    """Print a new link. It is shown once."""
    config, now = load_settings(), datetime.now(UTC)
    account_id = None
    if account:
        with connected(config.published) as connection:
            account_id = queries.account_named(connection, account)["account_id"]
    days = int(expires.removesuffix("d"))
    _, secret = page_keys.grant(Ledger(config.ledger_url), name or account, account_id, now, now + timedelta(days=days))
    console.print(f"{base_url(config)}/{'u' if account_id else 'k'}/{secret}", soft_wrap=True)
