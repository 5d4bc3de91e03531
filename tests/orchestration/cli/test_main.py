"""`headroom usage`, on a published copy made by hand: which days are asked for, whose, and what is said about them."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from orchestration.cli.main import app
from orchestration.warehouse import queries
from tests.fakes.slack import FakeSlack
from tests.support.duckdb_file import opened

ACCOUNTS = """
    create table utilization_mtd as
    select account_id, account_name, meter, meter = 'api-calls' as is_main, meters.unit, meters.aggregation,
        quota_state, quota::bigint as quota, used_mtd::bigint as used_mtd,
        (case when quota > 0 then used_mtd * 100 / quota end)::decimal(24, 6) as pct_of_cap,
        0::decimal(24, 6) as ci95_pct,
        case account_id when 'single' then timestamp '2026-11-20' when 'mid_day' then timestamp '2026-11-15 10:00:00'
            else timestamp '2026-11-01' end as period_start,
        case account_id when 'single' then timestamp '9999-12-31' when 'mid_day' then timestamp '2026-12-15 10:00:00'
            else timestamp '2026-12-01' end as period_end,
        timestamp '2026-11-20 07:12:34' as data_through, timestamp '2026-11-20 08:00:00' as as_of
    from (values
        ('acme', 'Acme Corp', 'seats', 'limited', 50, 48),
        ('acme', 'Acme Corp', 'tokens', 'limited', 2000000, 1240001),
        ('acme', 'Acme Corp', 'users', 'unknown', null, 2),
        ('acme', 'Acme Corp', 'storage', 'limited', 10000, null),
        ('acme', 'Acme Corp', 'api-calls', 'limited', 10000, 7999),
        ('ACME', 'Acme Trading', 'api-calls', 'limited', 10, 0),
        ('org_17', 'Ärzte & Söhne', 'api-calls', 'unlimited', null, 1234),
        ('org_18', 'Twin', 'api-calls', 'blocked', 0, 3),
        ('org_19', 'twin', 'api-calls', 'unknown', null, 4),
        ('single', null, 'api-calls', 'limited', 1, 1),
        ('mid_day', null, 'api-calls', 'unlimited', null, 1),
        ('nameless', null, 'api-calls', 'unknown', null, 0)
    ) as accounts (account_id, account_name, meter, quota_state, quota, used_mtd)
    join meters using (meter)
"""
METERS = """
    create table meters as
    select * from (values
        ('api-calls', 'calls', 'call', 'count'), ('tokens', 'tokens', 'token', 'sum'),
        ('seats', 'seats', 'seat', 'latest'), ('users', 'users', 'user', 'unique'),
        ('storage', '0.001 GB', 'GB', 'latest')
    ) as meters (meter, unit, unit_singular, aggregation)
"""
CALLERS = "create table top_accounts_30d as select 'acme' as account_id, 'api-calls' as meter, 1 as calls"
READINGS = """
    create table gauge_readings as
    select 'acme' as account_id, meter, period_start, reading_number, read_at, used::bigint as used from (values
        ('seats', null, 1, timestamp '2026-10-01 00:00:00', 31),
        ('seats', null, 2, timestamp '2026-11-18 23:59:59', 40),
        ('seats', null, 3, timestamp '2026-11-19 02:00:00', 48),
        ('users', timestamp '2026-10-01', 1, timestamp '2026-10-05 12:00:00', 1),
        ('users', timestamp '2026-10-01', 2, timestamp '2026-10-31 23:00:00', 2),
        ('users', timestamp '2026-11-01', 3, timestamp '2026-11-02 09:00:00', 1),
        ('users', timestamp '2026-11-01', 4, timestamp '2026-11-19 09:00:00', 2)
    ) as readings (meter, period_start, reading_number, read_at, used)
"""
PERIODS = """
    create table account_periods as
    select 'acme' as account_id, start as period_start
    from unnest([timestamp '2026-10-01', timestamp '2026-11-01']) as periods (start)
"""
DAYS = """
    create table daily_usage as
    select 'acme' as account_id, 'api-calls' as meter, day::date as usage_date,
        case day when '2026-11-08' then 1000000 when '2026-11-09' then 2000 when '2026-11-15' then 34 else 0 end
            as calls,
        if(day = '2026-11-09', 5000, calls) as units,
        day < '2026-11-20' as is_complete
    from unnest(generate_series(date '2026-11-01', date '2026-11-20', interval 1 day)) as days (day)
    union all
    select 'ACME', 'api-calls', date '2026-11-10', 777, 777, true
    union all
    select 'acme', 'tokens', date '2026-11-18', null, 1240000, true
    union all
    select 'acme', 'tokens', date '2026-11-20', null, 1, false
"""
BUSINESS_DAYS = """
    create table daily_usage_business_zone as
    select 'acme' as account_id, 'api-calls' as meter, day::date as usage_date, if(day = '2026-11-20', 1, 0) as calls,
        if(day = '2026-11-20', 1, 0) as units, day < '2026-11-20' as is_complete, {hash} as account_hash
    from unnest(generate_series(date '2026-11-01', date '2026-11-20', interval 1 day)) as days (day)
""".format(hash=queries.account_hash("'acme'"))
runner = CliRunner()


@pytest.fixture
def published(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADROOM_NOW", "2026-11-20T23:30:00-05:00")  # the 21st in UTC, a Saturday
    path = data / "published.duckdb"
    with opened(path) as connection:
        for table in (METERS, ACCOUNTS, DAYS, CALLERS, READINGS, PERIODS):
            connection.execute(table)
        connection.execute("create table data_quality as select date '2026-10-01' as kept_from")
    return path


def usage(*arguments: str, status: int = 0) -> Result:
    result = runner.invoke(app, ["usage", *arguments])
    assert result.exit_code == status, result.output
    return result


def csv_days(*arguments: str) -> list[str]:
    header, *lines = usage(*arguments, "--csv").stdout.splitlines()
    assert header == "account_id,meter,usage_date,calls,units,unit,is_complete"
    return lines


def test_usage_answers_for_the_iso_week_when_asked_for_the_last_one(published: Path) -> None:
    printed = usage("acme", "--last-week").stdout

    assert "Acme Corp (acme), last week (ISO week 46), Mon 09 Nov 2026 to Sun 15 Nov 2026, UTC days\n" in printed
    assert "2,034 calls  █▁▁▁▁▁▁\n" in printed
    days = [line.split()[0] for line in printed.splitlines() if line.rstrip()[-1:].isdecimal()]
    assert days == ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
    assert "Mon 09 Nov 2026   2,000   5,000" in printed, "calls and the units that they count for"
    assert "Data through 20 Nov 2026 07:12, counted 20 Nov 2026 08:00 UTC." in printed
    assert "Quota" not in printed
    assert "so far" not in printed


def test_usage_shows_the_quota_when_the_period_is_the_current_one(published: Path) -> None:
    printed = usage("acme").stdout

    assert printed == usage("acme", "--this-month").stdout
    assert "this month, Sun 01 Nov 2026 to Mon 30 Nov 2026" in printed
    assert "1,002,034 calls so far  ▁▁▁▁▁▁▁█▁▁▁▁▁▁▁▁▁▁▁\n" in printed, "bars are of the 19 complete days"
    assert re.search(r"Fri 20 Nov 2026 +0 +0 +so far", printed)
    assert "Sat 21 Nov 2026" not in printed, "it had not begun when the copy was built"
    period = "(usage period Sun 01 Nov 2026 to Mon 30 Nov 2026 UTC)"
    assert f"Quota: 7,999 of 10,000 calls, 79.9 % {period}." in printed
    assert f"Quota of seats: 48 of 50 seats, 96.0 % {period}." in printed


@pytest.mark.parametrize(
    ("account", "words"),
    [
        ("org_17", "Quota: none; 1,234 calls (usage"),
        ("org_18", "Quota: 0, blocked; 3 calls (usage"),
        ("org_19", "Quota: not known; 4 calls (usage"),
        ("single", "Quota: 1 of 1 call, 100.0 % (usage period from Fri 20 Nov 2026 UTC on, without an end)."),
        ("mid_day", "Quota: none; 1 call (usage period Sun 15 Nov 2026 to Tue 15 Dec 2026 UTC)."),
    ],
)
def test_usage_says_which_quota_it_is_when_there_is_no_percentage(published: Path, account: str, words: str) -> None:
    assert words in usage(account).stdout


def test_usage_is_csv_when_asked_for(published: Path) -> None:
    assert csv_days("acme", "--from", "2026-11-08", "--to", "2026-11-09") == [
        "acme,api-calls,2026-11-08,1000000,1000000,calls,True",
        "acme,api-calls,2026-11-09,2000,5000,calls,True",
    ]
    assert csv_days("acme", "--from", "2026-11-19")[-1] == "acme,api-calls,2026-11-20,0,0,calls,False"
    assert len(csv_days("acme", "--last-month")) == 31  # before its first call, too


def test_usage_is_of_another_meter_when_it_is_named(published: Path) -> None:
    printed = usage("acme", "--from", "2026-11-17", "--meter", "TOKENS").stdout

    assert "1,240,001 tokens so far  ▁█▁\n" in printed
    assert re.search(r"Day +Tokens", printed)
    assert "Wed 18 Nov 2026   1,240,000" in printed
    assert "Quota of tokens: 1,240,001 of 2,000,000 tokens, 62.0 % (usage" in printed
    assert "calls" not in printed
    assert csv_days("acme", "--from", "2026-11-20", "--meter", "tokens") == ["acme,tokens,2026-11-20,,1,tokens,False"]


def test_usage_of_a_gauge_is_its_figure_at_the_end_of_each_day(published: Path) -> None:
    printed = usage("acme", "--from", "2026-11-18", "--meter", "seats").stdout

    assert "\n48 seats now\n" in printed
    assert re.findall(r"Nov 2026 +(\d+) +(now)?", printed) == [("40", ""), ("48", ""), ("48", "now")]
    assert usage("acme", "--meter", "seats", "--last-month").stdout.splitlines()[1] == "31 seats at the end"


def test_usage_of_what_begins_again_is_of_the_period_in_which_the_day_ends(published: Path) -> None:
    def users(*asked: str) -> list[str]:
        return [line.split(",")[4] for line in csv_days("acme", "--meter", "users", *asked)]

    assert users("--from", "2026-10-04", "--to", "2026-10-05") == ["0", "1"]
    assert users("--from", "2026-10-31", "--to", "2026-11-02") == ["2", "0", "1"]
    assert users("--from", "2026-11-19") == ["2", "2"]


def test_usage_before_the_first_reading_is_not_known(published: Path) -> None:
    printed = usage("acme", "--from", "2026-11-20", "--meter", "storage").stdout

    assert "no reading yet" in printed
    assert re.search(r"Fri 20 Nov 2026 +– +now", printed)
    assert re.search(r"Day +GB", printed)
    assert "Quota of storage: ? of 10 GB" in printed


def test_usage_names_the_other_meters_when_their_quotas_are_not_shown(published: Path) -> None:
    assert "Also counted: seats, storage, tokens, users (`--meter`)." in usage("acme", "--last-week").stdout
    assert "Also counted" not in usage("ACME", "--last-week").stdout
    said = " ".join(usage("acme", "--meter", "words", status=1).stderr.split())
    assert "account acme (Acme Corp) has no meter 'words', only api-calls, seats, storage, tokens, users" in said


def test_usage_says_so_when_nothing_of_the_period_was_counted(published: Path) -> None:
    printed = usage("acme", "--from", "2026-11-21").stdout

    assert "Acme Corp (acme), Sat 21 Nov 2026 to Sat 21 Nov 2026, UTC days" in printed
    assert "No run has counted these days yet" in printed
    assert "0 calls" not in printed


def test_usage_is_of_days_of_the_business_zone(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_TIMEZONE", "America/New_York")  # where it is still Friday the 20th
    assert "published.duckdb has no days of America/New_York yet: `headroom run` counts them" in " ".join(
        usage("acme", status=1).stderr.split()
    )
    with opened(published) as connection:
        connection.execute(BUSINESS_DAYS)
    printed = usage("acme", "--from", "2026-11-20").stdout
    utc = usage("acme", "--from", "2026-11-20", "--utc").stdout

    assert "Fri 20 Nov 2026 to Fri 20 Nov 2026, America/New_York days\n1 call so far\n" in printed
    assert "Data through 20 Nov 2026 02:12, counted 20 Nov 2026 03:00 EST." in printed
    assert csv_days("acme", "--from", "2026-11-20") == ["acme,api-calls,2026-11-20,1,1,calls,False"]
    assert "Fri 20 Nov 2026 to Sat 21 Nov 2026, UTC days\n0 calls so far\n" in utc
    assert "Data through 20 Nov 2026 07:12, counted 20 Nov 2026 08:00 UTC." in utc
    sentence = "2026-11-21 is still to come: it is 2026-11-20 in America/New_York"
    assert sentence in " ".join(usage("acme", "--from", "2026-11-21", status=2).stderr.replace("│", " ").split())


def test_usage_of_a_day_that_is_only_kept_in_part_is_refused(published: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_TIMEZONE", "Europe/Berlin")  # where 1 October begins on the UTC day before
    with opened(published) as connection:
        connection.execute(BUSINESS_DAYS)
    assert len(csv_days("acme", "--from", "2026-10-02", "--to", "2026-10-03")) == 2
    assert "calls before 2026-10-01 are not kept" in usage("acme", "--from", "2026-10-01", status=1).stderr


def test_usage_of_days_that_are_not_kept_is_refused(published: Path) -> None:
    assert "2026-10-01,0,0,calls,True" in usage("acme", "--last-month", "--csv").stdout
    said = " ".join(usage("acme", "--from", "2026-09-30", status=1).stderr.split())
    assert "calls before 2026-10-01 are not kept (HEADROOM_LAKE_KEEP_DAYS)" in said


@pytest.mark.parametrize("name", ["org_17", "ORG_17", "ärzte & SÖHNE"])
def test_usage_finds_the_account_when_the_case_of_its_letters_differs(published: Path, name: str) -> None:
    assert "Ärzte & Söhne (org_17)" in usage(name).stdout


def test_usage_takes_the_exact_id_first_when_others_differ_in_case(published: Path) -> None:
    assert csv_days("ACME", "--from", "2026-11-10", "--to", "2026-11-10") == [
        "ACME,api-calls,2026-11-10,777,777,calls,True"
    ]
    assert "nameless, this month" in usage("nameless").stdout


def test_usage_lists_the_accounts_when_the_name_is_not_of_one_alone(published: Path) -> None:
    sentence = usage("Twin", status=1).stderr

    assert "2 accounts are called 'Twin'; give an id: org_18 (Twin), org_19 (twin)" in sentence
    assert (
        "2 accounts are called 'Acme'; give an id: ACME (Acme Trading), acme (Acme Corp)"
        in usage("Acme", status=1).stderr
    )


@pytest.mark.parametrize(("name", "nearest"), [("acne corp", "acme (Acme Corp)"), ("söhne", "org_17 (Ärzte & Söhne)")])
def test_usage_names_the_nearest_accounts_when_there_is_none(published: Path, name: str, nearest: str) -> None:
    assert f"headroom: there is no account {name!r}; the nearest: {nearest}, " in usage(name, status=1).stderr


def test_usage_says_that_nothing_is_there_when_nothing_was_published(data: Path) -> None:
    assert "does not exist yet: `headroom run` builds and publishes it" in usage("acme", status=1).stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--last-week", "--this-month"], "one period at a time"),
        (["--last-week", "--from", "2026-11-01"], "one period at a time"),
        (["--to", "2026-11-01"], "--to needs a --from"),
        (["--from", "2026-11-02", "--to", "2026-11-01"], "2026-11-02 is after 2026-11-01"),
        (["--from", "2026-11-22"], "2026-11-22 is still to come: it is 2026-11-21 in UTC"),
        (["--from", "1.11."], "does not match the format"),
    ],
)
def test_usage_refuses_in_a_sentence_when_the_days_make_no_sense(
    published: Path, options: list[str], sentence: str
) -> None:
    assert sentence in " ".join(usage("acme", *options, status=2).stderr.replace("│", " ").split())


def test_slack_check_fails_with_what_to_do_until_it_is_done(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeSlack() as slack:
        for name, value in {
            "SLACK_BOT_TOKEN": slack.token,
            "SLACK_API_URL": slack.url,
            "HEADROOM_SLACK_CHANNEL": slack.channel,
        }.items():
            monkeypatch.setenv(name, value)
        slack.is_member = False
        failing = runner.invoke(app, ["slack", "check"])
        slack.is_member = True
        slack.scopes -= {"users:read"}
        fine = runner.invoke(app, ["slack", "check"])

    assert failing.exit_code == 1
    assert "FAILS   channel C0DIGEST (sales, cs, engineering, data, finance): invite the bot" in failing.stdout
    assert fine.exit_code == 0
    assert "ok      channel C0DIGEST (sales, cs, engineering, data, finance)\n" in fine.stdout
    assert "missing scope users:read: add it" in fine.stdout
    assert slack.messages == []


@pytest.mark.parametrize(
    ("environment", "said"),
    [({}, "SLACK_BOT_TOKEN is not set"), ({"SLACK_BOT_TOKEN": "xoxb-1"}, "HEADROOM_SLACK_CHANNEL is not")],
    ids=["no token", "no channel"],
)
def test_slack_check_says_what_is_not_set(
    data: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], said: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = runner.invoke(app, ["slack", "check"])

    assert result.exit_code == 1
    assert said in result.stderr
