"""The digest in the channel: each crossing once, whatever people press and whatever gets lost."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from orchestration.channels.slack.blocks import message_text
from tests.e2e.program import DAY, SLACK_TOKEN, Program
from tests.fakes.slack import LOST_AFTER, FakeSlack
from tests.support.builders import land, make_event, make_quota
from tests.support.waiting import RUN_SECONDS

ACCOUNTS = ("acme", "beta", "gamma", "delta", "epsilon")


@pytest.fixture(scope="module")
def slack() -> Iterator[FakeSlack]:
    with FakeSlack() as server:
        yield server


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, slack: FakeSlack) -> Program:
    program = Program(tmp_path_factory.mktemp("digest"))
    program.with_slack(slack)
    land(program.landing, "quotas.ndjson", *(make_quota(name, 5, "2024-11-01T00:00:00Z") for name in ACCOUNTS))
    use_up(program, "acme", f"{DAY}T05:00:00Z")
    return program


def use_up(program: Program, account: str, at: str) -> None:
    """Four of the account's five calls, the last of them at that time."""
    last = datetime.fromisoformat(at)
    times = [f"{last - timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}" for minutes in range(4)]
    land(program.landing, f"{account}.ndjson", *(make_event(account, time) for time in times))


def morning(day: int) -> str:
    return f"2024-11-{day}T08:00:00Z"


def key(day: int) -> str:
    return f"local|digest|2024-11-{day}|slack"


STALE = "local|stale_data|2024-11-26|slack"
NINE = "2024-11-26T09:10:00Z"


FIRST, SECOND, THIRD = {20: (2, 0)}, {24: (7, 3)}, {26: (2, 0)}
"""By day, how many replies the thread has and how many pictures: there is none of an account without earlier days."""


def once(days: dict[int, tuple[int, int]]) -> dict[str, int]:
    """A message of each of these days, with so many replies and pictures, and a file."""
    counts = {}
    for day, (number, charts) in days.items():
        name = f"usage-digest-local-2024-11-{day}"
        pictures = [f"{name}-{n}.png" for n in range(1, charts + 1)]
        replies = [f"{key(day)}:{n}" for n in range(1, number + 1)]
        counts |= dict.fromkeys([key(day), *replies, *pictures, f"{name}.csv"], 1)
    return counts


def run_twice_at_once(program: Program, *arguments: str, **environment: str) -> None:
    """Two runs, of which the one that finds the other at work may end in doubt."""
    both = [program.fork("run", *arguments, **environment) for _ in range(2)]
    ends = [process.communicate(timeout=RUN_SECONDS) for process in both]
    assert min({process.returncode for process in both}) == 0, ends
    assert all("attempt" in stderr for process, (_, stderr) in zip(both, ends, strict=True) if process.returncode), ends


def accounts_in(message: dict[str, Any]) -> list[str]:
    """The accounts whose names a message has: those that have a line, and those in a line of names."""
    words = set(re.split(r"[ ·.]+", message_text(message)))
    return sorted(words & set(ACCOUNTS))


# The tests of this module are the days of one installation.


def test_digest_is_posted_once_when_slack_refuses_first(program: Program, slack: FakeSlack) -> None:
    slack.is_member = False
    refusal = program.run("run", status=1)
    assert "usage_digest failed: Slack refused with 'not_in_channel'" in refusal.stderr
    assert "/invite" in refusal.stderr
    assert not slack.messages
    assert f"{key(20)}     failed" in program.ask("deliveries").stdout
    slack.is_member = True

    sent = program.run("run", "--only", "digest")

    link = f"https://example.slack.com/archives/{slack.channel}/p{slack.messages[0]['ts'].replace('.', '')}"
    assert f"UTC ({link})." in sent.stdout.replace("\n", "")
    assert slack.counts() == once(FIRST)
    assert f"{key(20)}:3   sent" in program.ask("deliveries").stdout
    [file] = slack.uploads.values()
    lines = file["content"].decode().splitlines()
    assert lines[1].startswith("acme,")
    assert program.ask("deliveries", "--show", f"{key(20)}:3").stdout.splitlines() == lines
    details, endpoints = (program.ask("deliveries", "--show", f"{key(20)}:{n}").stdout for n in (1, 2))
    assert "4 / 5 calls (80.0 %) · crossed 80 % today 05:00 · too early for a forecast" in details
    assert "/v1/search: 4 calls, 100 %" in endpoints
    assert "Next: Watch: it is too early for a forecast" in details  # so there is no draft
    assert "Draft" not in details + endpoints
    assert accounts_in(slack.messages[0]) == ["acme"]
    assert slack.messages[0]["text"] == (
        "Usage Wed 20 Nov: 1 account crossed 80 %. First: acme, too early for a forecast (no owner)"
    )


@pytest.fixture
def in_process(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process sees what the program sees, and so does the Dagster in it."""
    for name, value in program.environment.items():
        if name.startswith(("HEADROOM_", "SLACK_", "STRIPE_")):
            monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("in_process")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::dagster.BetaWarning")  # Dagster's own
def test_digest_is_not_posted_again_when_materialized_again(slack: FakeSlack) -> None:
    from orchestration.definitions import headroom

    requests = len(slack.requests)
    job = headroom().resolve_job_def("daily_job")
    result = job.execute_in_process(partition_key=DAY, asset_selection=[dg.AssetKey("usage_digest")])
    [materialization] = result.asset_materializations_for_node("usage_digest")
    assert str(materialization.metadata["outcome"].value).startswith("already delivered: sent 20")
    for day in ("2024-11-19", "2024-11-01", "2024-02-29"):  # before the first digest: the UI does not offer them
        with pytest.raises(dg.DagsterUnknownPartitionError):
            job.execute_in_process(partition_key=day, asset_selection=[dg.AssetKey("usage_digest")])
    assert len(slack.requests) == requests


def test_digest_has_missed_days_crossings_once_when_its_answer_is_lost(program: Program, slack: FakeSlack) -> None:
    (program.data / "accounts.csv").write_text("account_id,owner\ndelta,dana@example.com\n")
    slack.users["dana@example.com"] = "U0DANA"
    use_up(program, "beta", "2024-11-20T21:00:00Z")
    use_up(program, "gamma", "2024-11-21T09:00:00Z")
    use_up(program, "delta", "2024-11-23T09:00:00Z")
    slack.scopes -= {"files:write"}
    slack.then(LOST_AFTER)

    lost = program.run("run", status=1, HEADROOM_NOW=morning(24))

    assert "no usable answer from Slack" in lost.stderr
    assert "in doubt" in program.ask("deliveries").stdout
    assert slack.counts() == once(FIRST) | {key(24): 1}
    assert accounts_in(slack.messages[-1]) == ["beta", "delta", "gamma"]
    assert "U0DANA" not in str(slack.messages[-1]["blocks"])


def test_reply_that_is_refused_fails_the_run(program: Program, slack: FakeSlack) -> None:
    refusal = program.run("run", "--only", "digest", status=1, HEADROOM_NOW=morning(24))

    assert "the digest of 2024-11-24 is sent" in refusal.stderr  # what was lost was found
    assert "add the scope files:write" in refusal.stderr
    replies, _ = SECOND[24]
    before = [key(24), *(f"{key(24)}:{n}" for n in range(1, replies + 1))]
    assert slack.counts() == once(FIRST) | dict.fromkeys(before, 1)
    shown = [program.ask("deliveries", "--show", part).stdout for part in before]
    drafts = [text.partition(" · ")[0] for text in shown if "Draft, not sent\nTo: " in text]
    assert drafts == ["beta", "gamma"]  # delta is only watched
    slack.scopes |= {"files:write"}


def test_stale_data_is_reported_to_the_data_team_once(program: Program, slack: FakeSlack) -> None:
    slack.channels["C0DATA"] = {}
    program.environment["HEADROOM_SLACK_CHANNEL_DATA"] = "C0DATA"

    stale = program.run("run", HEADROOM_NOW=morning(26))
    program.run("run", "--only", "digest", HEADROOM_NOW=morning(26))

    assert slack.counts() == once(FIRST | SECOND) | {STALE: 1}  # with the replies that were refused
    parent, line = slack.messages[1:]
    names = [file["name"] for reply in slack.threads[parent["ts"]] for file in reply.get("files", ())]
    pictures = [f"usage-digest-local-2024-11-24-{number}.png" for number in (1, 2, 3)]
    assert names == [*pictures, "usage-digest-local-2024-11-24.csv"]
    assert line["channel"] == "C0DATA"
    assert line["text"].startswith(
        "No usage digest for 2024-11-26 yet: the newest usage event is from Sat 23 Nov 09:00 UTC, 71"
    )
    assert "nothing sent: No usage digest for 2024-11-26 yet" in stale.stdout


def test_digest_is_posted_once_when_data_is_fresh_and_two_run_at_once(program: Program, slack: FakeSlack) -> None:
    use_up(program, "epsilon", "2024-11-26T08:10:00Z")

    run_twice_at_once(program, HEADROOM_NOW=NINE)

    assert slack.counts() == once(FIRST | SECOND | THIRD) | {STALE: 1}
    assert slack.messages[-1]["channel"] == slack.channel
    assert slack.messages[-1]["text"].startswith("Usage Tue 26 Nov: 1 account crossed 80 %. First: epsilon,")
    assert accounts_in(slack.messages[-1]) == ["epsilon"]


def test_weekly_message_is_posted_once_from_real_figures(program: Program, slack: FakeSlack) -> None:
    before = slack.counts()

    told = program.run("run", "--only", "notices", HEADROOM_NOW=NINE)

    week = {"local|weekly|2024-W47|slack": 1, "weekly-2024-W47-local.csv": 1}
    assert slack.counts() == before | week | {"local|monthly|2024-10|slack": 1}
    texts = {message["text"] for message in slack.messages}
    assert "Week 47: 4 new. First: acme, 4 calls since Wed 20 Nov" in texts
    assert "October 2024: no account hit its quota." in texts
    assert "weekly_digest: sent" in told.stdout
    assert "New (4)" in told.stdout


def test_no_token_is_left_behind(program: Program) -> None:
    assert not [path for path in program.files() if SLACK_TOKEN.encode() in path.read_bytes()]
