"""`headroom rules`: what a change of thresholds, plans or routing would do, before it is applied."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer
from rich.text import Text

from orchestration.cli.configuration import load_settings
from orchestration.cli.console import console, fail
from orchestration.ledger import decided
from orchestration.ledger import rules as known_rules
from orchestration.ledger.ledger import Ledger
from orchestration.messages import rules, rules_plan
from orchestration.settings import Settings
from orchestration.usage.periods import latest_digest_date
from orchestration.warehouse import published_copy, queries, trial

rules_app = typer.Typer(help="Thresholds, plans and routing: what a change would do.", no_args_is_help=True)
OUTPUTS = ("threshold_crossings", "utilization_mtd", "account_advice")
"""The marts that the digest's news and advice are read from."""


@rules_app.command("plan")
def plan_rules(
    limit: Annotated[int, typer.Option(min=1, help="accounts listed of each kind")] = 20,
) -> None:
    """Show what the edited thresholds.csv, plans.csv, plan_tiers.csv, routing.csv and meters.csv would change.

    Who would be announced, who would be silenced, and whose severity or advice would change. The models are built
    in a copy of the warehouse. Nothing is published, recorded or sent.
    """
    config = load_settings()
    config.export()
    try:
        now = rules_plan.read(config.published)
        files = trial.seed_rows(config, rules.SEEDS)
        edited = {rule: terms for seed, rows in files.items() for rule, terms in rules.of_rows(seed, rows).items()}
        changed = list(rules.changes(now.rules, edited))
        if not changed:
            console.print("No rule differs from those of the published figures.")
            return
        as_of = queries.data_quality(config.published)["as_of"]
        with trial.tried(config, changed, OUTPUTS, as_of) as file:
            then = rules_plan.read(file)
    except (published_copy.NothingPublishedError, trial.TrialError) as error:
        fail(str(error))
    _print(_planned(config, now, then), limit)


def _planned(config: Settings, now: rules_plan.Marts, then: rules_plan.Marts) -> rules_plan.Plan:
    ledger = Ledger(config.ledger_url)
    with ledger.transaction() as connection:
        verdicts = list(ledger.verdicts(connection, config.env))
        known = known_rules.known(connection, config.env)
        before = decided.last_digest_at(connection, config.env)
    ledger.close()
    on = latest_digest_date(config.now(), config.zone) + timedelta(days=1)
    return rules_plan.plan(now, then, verdicts, known, before, on, config.zone)


def _print(plan: rules_plan.Plan, limit: int) -> None:
    _listed("Changed rules", plan.changed, limit)
    _listed("Announced by the next digest because of it", plan.announced, limit)
    _listed("No longer announced by the next digest", plan.silenced, limit)
    _listed("Recorded without an announcement, because they crossed before the last digest", plan.recorded, limit)
    _listed("Another severity or advice", plan.ranked, limit)
    console.print("Nothing was published, recorded or sent. The next run applies the files as they are then.")


def _listed(heading: str, lines: Sequence[str], limit: int) -> None:
    console.print(Text(f"{heading} ({len(lines):,})", "bold"))
    for line in lines[:limit]:
        console.print(Text(f"  {line}"), soft_wrap=True)
    if len(lines) > limit:
        console.print(Text(f"  … and {len(lines) - limit:,} more", "dim"))
