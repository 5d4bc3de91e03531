"""`headroom slack`: whether Slack is set up for what is sent there."""

import typer

from orchestration.cli.configuration import load_settings
from orchestration.cli.console import fail, print_findings

slack_app = typer.Typer(help="Check the setup of Slack.", no_args_is_help=True)


@slack_app.command("check")
def slack_check() -> None:
    """Check token, scopes and channels, and say how to repair them. Posts nothing."""
    from orchestration.channels.slack import channel as slack_channel

    try:
        channel = slack_channel.configured(load_settings())
    except ValueError as error:
        fail(str(error))
    if channel is None:
        fail("SLACK_BOT_TOKEN is not set. Messages are previews: `headroom deliveries` lists them")
    findings = channel.check()
    print_findings(findings)
    if any(finding.problem and finding.is_needed for finding in findings):
        raise typer.Exit(1)
