"""`headroom slack`: whether Slack is set up for what is sent there."""

import typer

from orchestration import settings
from orchestration.cli.console import fail, print_findings

slack_app = typer.Typer(help="Slack: what has to be set up there.", no_args_is_help=True)


@slack_app.command("check")
def slack_check() -> None:
    """Whether token, scopes and channels are as they must be, and what to do if not. Posts nothing."""
    from orchestration.channels.slack import channel as slack_channel

    try:
        channel = slack_channel.configured(settings.load())
    except ValueError as error:
        fail(str(error))
    if channel is None:
        fail("SLACK_BOT_TOKEN is not set: what would be posted is only shown, see `headroom deliveries`")
    findings = channel.check()
    print_findings(findings)
    if any(finding.problem and finding.is_needed for finding in findings):
        raise typer.Exit(1)
