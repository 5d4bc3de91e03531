"""The digest in the channel: each crossing once, whatever people press and whatever gets lost."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import dagster as dg
import pytest

from tests.e2e.program import DAY, SLACK_TOKEN, Program
from tests.fakes.slack import LOST_AFTER, FakeSlack
from tests.support.builders import land, make_event, make_quota
from tests.support.waiting import RUN_SECONDS


@pytest.fixture(scope="module")
def slack() -> Iterator[FakeSlack]:
    with FakeSlack() as server:
        yield server


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory, slack: FakeSlack) -> Program:
    program = Program(tmp_path_factory.mktemp("digest"))
    program.with_slack(slack)
    accounts = ("acme", "beta", "gamma", "delta", "epsilon")
    land(program.landing, "quotas.ndjson", *(make_quota(name, 5, "2024-11-01T00:00:00Z") for name in accounts))
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
    return f"local|digest|2024-11-{day}"


STALE = "local|stale_data|2024-11-26"
NINE = "2024-11-26T09:10:00Z"


def once(accounts: dict[int, int]) -> dict[str, int]:
    """A message of each of these days; notes on and pictures of so many accounts and a file where there are any."""
    counts = {}
    for day, number in accounts.items():
        name = f"usage-digest-local-2024-11-{day}"
        pictures = [f"{name}-{n}.png" for n in range(1, number + 1)]
        notes = [f"{key(day)}:{n}" for n in range(1, number + 1)]
        counts |= dict.fromkeys([key(day), *notes, *pictures, *([f"{name}.csv"] if number else [])], 1)
    return counts


def run_twice_at_once(program: Program, *arguments: str, **environment: str) -> None:
    """Two runs, of which the one that finds the other at work may end in doubt."""
    both = [program.start("run", *arguments, **environment) for _ in range(2)]
    ends = [process.communicate(timeout=RUN_SECONDS) for process in both]
    assert min({process.returncode for process in both}) == 0, ends
    assert all("attempt" in stderr for process, (_, stderr) in zip(both, ends, strict=True) if process.returncode), ends


def accounts_in(message: dict[str, object]) -> list[str]:
    """The accounts that a message draws, without header, headline and footer."""
    blocks = message["blocks"]
    assert isinstance(blocks, list)
    return [block["text"]["text"].partition(" · ")[0] for block in blocks[2:-1]]


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
    assert slack.counts() == once({20: 1})
    assert f"{key(20)}:3   sent" in program.ask("deliveries").stdout
    picture, file = slack.uploads.values()
    assert picture["alt"] == "acme: calls by day, at most 4. From the first day on: 4 so far."
    lines = file["content"].decode().splitlines()
    assert lines[1].startswith("acme,")
    assert program.ask("deliveries", "--show", f"{key(20)}:3").stdout.splitlines() == lines
    notes = program.ask("deliveries", "--show", f"{key(20)}:1").stdout
    assert "/v1/search: 4 calls, 100 %" in notes
    assert "Draft, not sent:\n\nTo: nobody yet" in notes
    assert "your account has used 4 of its 5 calls (80.0 %) of the period until 01 December." in notes
    assert accounts_in(slack.messages[0]) == ["acme"]
    assert slack.messages[0]["text"] == (
        "1 account crossed 80 % since yesterday 08:00. First: acme. Write: quota and next plan: too early for a"
        " forecast, 4 / 5 (80.0 %), soft limit. +1,491.00 USD MRR if the one with a known price takes the next plan"
        " (cheaper for none of them)."
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
    assert slack.counts() == once({20: 1}) | {key(24): 1}
    assert sorted(accounts_in(slack.messages[-1])) == ["beta", "delta", "gamma"]
    [owned] = [block["fields"] for block in slack.messages[-1]["blocks"] if "fields" in block]
    assert owned == [{"type": "mrkdwn", "text": "<@U0DANA>"}]


def test_reply_that_is_refused_fails_the_run(program: Program, slack: FakeSlack) -> None:
    refusal = program.run("run", "--only", "digest", status=1, HEADROOM_NOW=morning(24))

    assert "the digest of 2024-11-24 is sent" in refusal.stderr  # what was lost was found
    assert "add the scope files:write" in refusal.stderr
    assert slack.counts() == once({20: 1}) | dict.fromkeys([key(24), *(f"{key(24)}:{n}" for n in (1, 2, 3))], 1)
    slack.scopes |= {"files:write"}


def test_stale_data_is_reported_to_the_data_team_once(program: Program, slack: FakeSlack) -> None:
    slack.channels["C0DATA"] = {}
    program.environment["HEADROOM_SLACK_CHANNEL_DATA"] = "C0DATA"

    stale = program.run("run", HEADROOM_NOW=morning(26))
    program.run("run", "--only", "digest", HEADROOM_NOW=morning(26))

    assert slack.counts() == once({20: 1, 24: 3}) | {STALE: 1}  # with the replies that were refused
    parent, line = slack.messages[1:]
    names = [file["name"] for reply in slack.threads[parent["ts"]] for file in reply.get("files", ())]
    pictures = [f"usage-digest-local-2024-11-24-{number}.png" for number in (1, 2, 3)]
    assert names == [*pictures, "usage-digest-local-2024-11-24.csv"]
    assert line["channel"] == "C0DATA"
    assert line["text"].startswith("No usage digest for 2024-11-26 yet: the newest call is of Sat 23 Nov 09:00 UTC, 71")
    assert "nothing sent: No usage digest for 2024-11-26 yet" in stale.stdout


def test_digest_is_posted_once_when_data_is_fresh_and_two_run_at_once(program: Program, slack: FakeSlack) -> None:
    use_up(program, "epsilon", "2024-11-26T08:10:00Z")

    run_twice_at_once(program, HEADROOM_NOW=NINE)

    assert slack.counts() == once({20: 1, 24: 3, 26: 1}) | {STALE: 1}
    assert slack.messages[-1]["channel"] == slack.channel
    assert slack.messages[-1]["text"].startswith("1 account crossed 80 % since Sun 24 Nov 08:00. First: epsilon.")
    assert accounts_in(slack.messages[-1]) == ["epsilon"]


def test_weekly_message_is_posted_once_from_real_figures(program: Program, slack: FakeSlack) -> None:
    before = slack.counts()

    told = program.run("run", "--only", "notices", HEADROOM_NOW=NINE)

    week = {"local|weekly|2024-W47": 1, "weekly-2024-W47-local.csv": 1}
    assert slack.counts() == before | week | {"local|monthly|2024-10": 1}
    texts = {message["text"] for message in slack.messages}
    assert "Week 47: 4 new. First to look at: acme." in texts
    assert "October 2024: no account hit its quota." in texts
    assert "weekly_digest: sent" in told.stdout
    assert "New (4)" in told.stdout


def test_no_token_is_left_behind(program: Program) -> None:
    assert not [path for path in program.files() if SLACK_TOKEN.encode() in path.read_bytes()]
