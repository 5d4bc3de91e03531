"""One installation in this process, for tests of what is delivered: real marts, ledger, outbox, Dagster and slack_sdk,
Slack on loopback, and a clock that is moved by hand.

The marts are built once; each morning is a copy of them with that morning's clock and crossings.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.defs import digest, resources
from orchestration.defs.automation import build_schedules
from orchestration.defs.resources import Project
from orchestration.ledger.ledger import Delivery, Ledger
from orchestration.usage.periods import calendar_month, latest_digest_date
from tests.fakes.slack import FakeSlack
from tests.support.builders import land, make_event, make_quota
from tests.support.duckdb_file import opened
from tests.support.pipeline import build_marts

BUILT_AT = datetime(2024, 11, 20, 8, tzinfo=UTC)
"""Long past: Dagster knows no partitions beyond the real clock."""
RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


@contextmanager
def built_marts(data: Path, names: Mapping[str, str]) -> Iterator[Path]:
    """The published copy of a folder where each of these accounts, by id, is at 80 %."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HEADROOM_DATA", "DAGSTER_HOME"):
            patch.setenv(name, str(data))
        data.mkdir()
        rows = "".join(f'{account},"{name.replace(chr(34), 2 * chr(34))}"\n' for account, name in names.items())
        (data / "accounts.csv").write_text(f"account_id,name\n{rows}")
        land(data / "landing", "quotas.ndjson", *(make_quota(account, 5) | _long_ago(account) for account in names))
        calls = (make_event(account, f"2024-11-20T05:00:0{n}Z") for account in names for n in range(4))
        land(data / "landing", "calls.ndjson", *calls)
        yield build_marts(data, data / "landing", BUILT_AT)


def _long_ago(account: str) -> dict[str, str]:
    return {"timestamp": "2024-01-01T00:00:00Z", "uuid": f"quota-{account}"}


class Installation:
    """`now` is the clock of the program, of the attempts and of Slack."""

    def __init__(self, data: Path, marts: Path, slack: FakeSlack, patch: pytest.MonkeyPatch) -> None:
        self.data, self.slack, self._marts, self._patch = data, slack, marts, patch
        self.now = BUILT_AT
        self.instance = dg.DagsterInstance.ephemeral()
        slack.clock = lambda: self.now.timestamp()
        patch.setattr(resources, "clock", lambda: self.now)
        patch.setenv("HEADROOM_DATA", str(data))
        patch.setenv("SLACK_BOT_TOKEN", slack.token)
        patch.setenv("SLACK_API_URL", slack.url)
        patch.setenv("HEADROOM_SLACK_CHANNEL", slack.channel)
        self._asked_for: set[str | None] = set()

    def at(self, now: str | datetime, timezone: str | None = None) -> None:
        """The clock, and where given the zone of the business, from now on."""
        self.now = now if isinstance(now, datetime) else datetime.fromisoformat(now)
        self._patch.setenv("HEADROOM_NOW", self.now.isoformat())
        if timezone:
            self._patch.setenv("HEADROOM_TIMEZONE", timezone)

    def publish(self, *crossed: str, **figures: object) -> None:
        """The marts as they are now, with the crossings of these accounts alone, each an hour ago in this month.

        `figures` replace columns of the crossings. Each is news at any pace.
        """
        copy, published = self.data / "next.duckdb", Project().settings.published
        shutil.copy(self._marts, copy)
        start, end = calendar_month(self.now.astimezone(UTC).date())
        hour_ago = self.now - timedelta(hours=1)
        period = {"period_start": start, "period_end": end}
        with opened(copy) as connection:
            for table, values in {
                "data_quality": {"as_of": self.now, "data_through": hour_ago},
                "utilization_mtd": {"as_of": self.now, **period},
                "threshold_crossings": {"crossed_at": hour_ago, "pace_matters": False, **period, **figures},
            }.items():
                changes = ", ".join(f"{name} = ?" for name in values)
                stored = [_naive(value) if isinstance(value, datetime) else value for value in values.values()]
                connection.execute(f"update {table} set {changes}", stored)
            connection.execute("update thresholds set pace_matters = false")  # as the crossings say
            connection.execute("delete from threshold_crossings where not list_contains(?, account_id)", [crossed])
        copy.replace(published)

    def correct(self, account: str, used: int) -> None:
        """The account's usage of the period, of a quota of five, in the marts as they are now."""
        change = "update utilization_mtd set used_mtd = $used, pct_of_cap = $used * 20 where account_id = $account"
        with opened(Project().settings.published) as connection:
            connection.execute(change, {"used": used, "account": account})

    def change(self, statement: str) -> None:
        """A statement on the marts as they are now."""
        with opened(Project().settings.published) as connection:
            connection.execute(statement)

    def materialize(self, *days: str) -> dg.ExecuteInProcessResult:
        """Of one day, as the button does, or of a range, as a backfill in one run does; today's where none is given."""
        settings = Project().settings
        on = days or (latest_digest_date(self.now, settings.zone).isoformat(),)
        return dg.materialize(
            [digest.build_usage_digest(settings.timezone)],
            partition_key=on[0] if len(on) == 1 else None,
            tags=dict(zip(RANGE, on, strict=True)) if len(on) == 2 else None,
            instance=self.instance,
            resources={"project": Project()},
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            raise_on_error=False,
        )

    def tick(self) -> list[dg.ExecuteInProcessResult]:
        """What the schedules of the digest start at this moment."""
        schedules = {schedule.name: schedule for schedule in build_schedules(Project())}
        requests: list[dg.RunRequest] = []
        if self.now.astimezone(Project().settings.zone).strftime("%H:%M") == "08:00":
            context = dg.build_schedule_context(scheduled_execution_time=self.now.astimezone(UTC))
            requests.append(schedules["daily_schedule"](context))
        waiting = schedules["waiting_digests_schedule"](schedule_context(self.instance))
        requests += waiting if isinstance(waiting, list) else []
        new = [request for request in requests if request.run_key not in self._asked_for]
        self._asked_for |= {request.run_key for request in new}
        return [self.materialize(str(request.partition_key)) for request in new]

    def deliveries(self) -> list[Delivery]:
        ledger = self.ledger()
        found = ledger.deliveries()
        ledger.close()
        return found

    def ledger(self) -> Ledger:
        return Project().ledger()


def schedule_context(instance: dg.DagsterInstance) -> dg.ScheduleEvaluationContext:
    """Of an instance in memory, which costs a hundredth of one on disk; Dagster's own context takes none."""

    class Context(dg.ScheduleEvaluationContext):
        instance = property(lambda _: instance)  # type: ignore[assignment]

    return Context(instance_ref=None, scheduled_execution_time=None)


def outcome(result: dg.ExecuteInProcessResult) -> str:
    """What a run says that it has done, or why it has failed."""
    if not result.success:
        [failure] = [event for event in result.all_node_events if event.is_step_failure]
        error = failure.step_failure_data.error
        return str(error.message if error else "")
    return str(metadata(result)["outcome"].value)


def metadata(result: dg.ExecuteInProcessResult) -> Mapping[str, Any]:
    [materialization, *_] = result.asset_materializations_for_node("usage_digest")
    return materialization.metadata


def announced(installation: Installation) -> dict[str, list[str]]:
    """The accounts that are news in the digests that arrived, by business day; message or thread really shows them."""
    news = {}
    for message in installation.slack.messages:
        key = message["metadata"]["event_payload"]["key"]
        [delivery] = [each for each in installation.deliveries() if each.key == key]
        on = key.split("|")[2]
        assert on not in news
        items, shown = (
            delivery.payload["digest"]["items"],
            str([message, installation.slack.threads.get(message["ts"])]),
        )
        news[on] = [item["account_id"] for item in items]
        assert all(item["name"][:4] in shown for item in items)
    return news


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
