"""What people answer to alerts, from Slack's threads to the lake: ledger, slack_sdk and its bytes are the real ones."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from logging import getLogger
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.channels.slack.blocks import digest_payloads
from orchestration.defs import dispositions as reading
from orchestration.defs.dispositions import AT_ONCE, FAILURES, READ_FOR, build_dispositions_sensor, look, raw_alerts
from orchestration.defs.resources import Project, clock
from orchestration.ledger import decided, dispositions
from orchestration.ledger.ledger import State
from orchestration.messages.digest_message import digest_message
from orchestration.messages.message import to_json
from tests.fakes.slack import LOST_BEFORE, FakeSlack, rate_limited, refused
from tests.support.builders import ITEM, NOW, make_digest
from tests.support.duckdb_file import memory

REPLIES = "conversations.replies"
LOG = getLogger("test")


@pytest.fixture
def slack(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlack]:
    with FakeSlack() as server:
        monkeypatch.setenv("SLACK_BOT_TOKEN", server.token)
        monkeypatch.setenv("SLACK_API_URL", server.url)
        monkeypatch.setenv("HEADROOM_SLACK_CHANNEL", server.channel)
        yield server


def digested(on: str, accounts: Sequence[str] = ("acme", "globex"), sent_at: datetime | None = None) -> str:
    """A digest of these accounts, decided and sent with its thread; the key of its delivery."""
    project = Project()
    ledger, key = project.ledger(), f"local|digest|{on}"
    items = [{**ITEM, "account_id": account, "name": account.title()} for account in accounts]
    digest = {**make_digest(len(items)), "items": items, "date": on}
    payload, replies = digest_payloads(digest, [], "local", {})
    with ledger.transaction() as connection:
        decided.record(connection, key, to_json(digest_message(digest, [])), NOW)
        ledger.prepare(connection, f"{key}|slack", "slack", payload, NOW, replies, message=key)
    assert [sent.error for sent in project.ways().send_message(ledger, key, print)] == [""]
    if sent_at:
        sent = ledger.delivery(f"{key}|slack")
        assert sent
        ledger.finish(sent, State.SENT, sent_at, sent.receipt, None)
    return f"{key}|slack"


def read(after: str = "") -> tuple[str, str]:
    project = Project()
    return look(project, project.ways(), after, clock, LOG)


def known() -> list[tuple[str, str, bool]]:
    """(account, disposition, whether it holds)."""
    rows = dispositions.answers(Project().ledger(), "local")
    return sorted((row["account_id"], row["disposition"], row["withdrawn_at"] is None) for row in rows)


def owner_reply(slack: FakeSlack) -> dict[str, Any]:
    return slack.threads[slack.messages[0]["ts"]][0]


def test_answers_in_a_thread_are_kept_once_and_withdrawn_when_gone(slack: FakeSlack) -> None:
    key = digested("2026-11-20")
    slack.react(owner_reply(slack), "eyes", "U0DANA")
    slack.post("won globex", thread=slack.messages[0]["ts"], user="U0OMAR")
    slack.post("lunch?", thread=slack.messages[0]["ts"], user="U0OMAR")

    assert read() == ("read 1 thread: 3 new or changed, 0 withdrawn, 0 without an account", key)
    assert read() == ("read 1 thread: 0 new or changed, 0 withdrawn, 0 without an account", key)
    slack.take_back(owner_reply(slack), "eyes")
    assert read() == ("read 1 thread: 0 new or changed, 2 withdrawn, 0 without an account", key)
    assert known() == [("acme", "contacted", False), ("globex", "contacted", False), ("globex", "won", True)]


def test_answer_without_an_account_is_counted(slack: FakeSlack) -> None:
    digested("2026-11-20")
    slack.react(slack.messages[0], "eyes", "U0DANA")

    assert read()[0] == "read 1 thread: 0 new or changed, 0 withdrawn, 1 without an account"
    assert known() == []


def test_thread_is_read_for_30_days(slack: FakeSlack) -> None:
    digested("2026-10-20", sent_at=datetime.now(UTC) - READ_FOR - timedelta(hours=1))
    slack.react(owner_reply(slack), "eyes", "U0DANA")

    assert read()[0].startswith("read 0 threads")
    assert REPLIES not in slack.methods()


def test_look_reads_some_threads_and_the_next_one_goes_on_behind_them(
    slack: FakeSlack, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert AT_ONCE <= 50  # requests a minute that Slack allows
    monkeypatch.setattr(reading, "AT_ONCE", 2)
    keys = [digested(f"2026-11-{day}") for day in (18, 19, 20)]

    assert read()[1] == keys[1]
    assert read(after=keys[1])[1] == keys[0]  # the last one, and from the beginning


def test_thread_that_slack_does_not_give_stops_no_other_and_loses_nothing(
    slack: FakeSlack, caplog: pytest.LogCaptureFixture
) -> None:
    digested("2026-11-19")
    slack.react(owner_reply(slack), "white_check_mark", "U0DANA")
    read()
    second = digested("2026-11-20", ["initech"])
    slack.react(slack.messages[1], "zzz", "U0DANA")
    slack.then(refused("thread_not_found"), method=REPLIES)

    said, last = read()
    assert said == "read 1 thread: 1 new or changed, 0 withdrawn, 0 without an account"
    assert last == second
    assert "answers to local|digest|2026-11-19|slack not read: Slack refused with 'thread_not_found'" in caplog.text
    assert known() == [("acme", "won", True), ("globex", "won", True), ("initech", "snoozed", True)]


@pytest.mark.parametrize("fault", [LOST_BEFORE, rate_limited(60)], ids=["away", "limited"])
def test_look_ends_after_two_failures_and_the_next_goes_on(slack: FakeSlack, fault: Any) -> None:
    keys = [digested(f"2026-11-{day}") for day in (17, 18, 19, 20)]
    slack.requests.clear()
    slack.then(*[fault] * FAILURES, method=REPLIES)

    said, last = read()
    assert said.startswith("read 0 threads")
    assert slack.methods().count(REPLIES) == FAILURES
    assert last == keys[FAILURES - 1]  # so that no thread behind them waits for ever
    assert read(after=last)[0].startswith("read 4 threads")


def test_sensor_starts_no_run_and_remembers_where_it_was(slack: FakeSlack) -> None:
    key = digested("2026-11-20")
    sensor = build_dispositions_sensor(Project())
    with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance=instance) as context:
        found = sensor.evaluate_tick(context)

    assert (found.run_requests, found.cursor) == ([], key)
    assert found.skip_message == "read 1 thread: 0 new or changed, 0 withdrawn, 0 without an account"


def test_preview_is_not_asked(data: Path) -> None:
    digested("2026-11-20", sent_at=datetime.now(UTC))
    assert read()[0].startswith("read 0 threads")


def test_alerts_and_answers_come_to_the_lake(slack: FakeSlack) -> None:
    key = digested("2026-11-20")
    slack.react(owner_reply(slack), "zzz", "U0DANA")
    read()
    project = Project()
    ledger = project.ledger()
    crossing = {"env": "local", "account_id": "acme", "meter": ITEM["meter"], "period_start": NOW, "quota": 100}
    verdict = {"threshold": "80%", "crossed_at": NOW, "detected_at": NOW, "outcome": "announced"}
    with ledger.transaction() as connection:
        ledger.record_crossings(connection, [{**crossing, **verdict, "message_key": key.removesuffix("|slack")}])

    with dg.DagsterInstance.ephemeral() as instance:
        assert dg.materialize([raw_alerts], instance=instance, resources={"project": project}).success
    folder = project.settings.lake / "alerts"
    with memory() as connection:
        connection.execute("set TimeZone = 'UTC'")
        joined = connection.execute(
            f"select account_id, meter, threshold, disposition from '{folder}/alerts.parquet'"
            f" join '{folder}/dispositions.parquet' using (message_key, account_id, meter)"
        ).fetchall()
        columns = connection.execute(f"describe from '{folder}/dispositions.parquet'").fetchall()
    assert joined == [("acme", ITEM["meter"], "80%", "snoozed")]
    assert "by_user" not in [column[0] for column in columns]  # who said it is nobody's figure
