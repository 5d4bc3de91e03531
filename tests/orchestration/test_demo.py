"""The truth of the demo, recounted from the written files by a parser that shares nothing with ours."""

import csv
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from orchestration.demo import STORIES, THRESHOLDS, AccountTruth, Truth, generate
from orchestration.lake.account_files import ACCOUNT_COLUMNS

NOWS = [
    datetime(2026, 11, 20, 8, 0, tzinfo=UTC),
    datetime(2026, 11, 22, 22, 30, 15, 999_999, tzinfo=UTC),  # a Sunday, half a second before the next one
    datetime(2026, 11, 1, 0, 5, tzinfo=UTC),
    datetime(2026, 11, 1, 0, 0, tzinfo=UTC),
    datetime(2026, 11, 2, 3, 0, tzinfo=UTC),  # twenty hours ago was in this month, the history is mostly not
    datetime(2028, 2, 29, 12, 0, tzinfo=UTC),
    datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC),
    datetime(2027, 1, 1, 0, 5, tzinfo=UTC),
]
EVER = datetime.min.replace(tzinfo=UTC)
CROSSED = {"crossing_80": 80, "crossing_95": 95, "crossing_100": 100, "trial": 80, "retry_storm": 95}
CALL_NAMES = ("api_call", "api_request")


@dataclass
class Recount:
    calls: dict[str, tuple[str, datetime]] = field(default_factory=dict)  # uuid -> account, time
    quotas: dict[str, list[tuple[datetime, int | None]]] = field(default_factory=lambda: defaultdict(list))
    first_line: dict[str, str] = field(default_factory=dict)  # uuid -> bytes
    limit_reached: list[dict[str, Any]] = field(default_factory=list)
    seats: dict[str, list[tuple[datetime, int, int]]] = field(default_factory=lambda: defaultdict(list))
    tokens: dict[str, list[tuple[datetime, int]]] = field(default_factory=lambda: defaultdict(list))
    token_quotas: dict[str, int] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    late_days: Counter[int] = field(default_factory=Counter)
    duplicates: int = 0
    lines: int = 0

    def times_of(self, account_id: str, start: datetime, end: datetime) -> list[datetime]:
        """Sorted, from `start` to `end`, both included."""
        return sorted(at for name, at in self.calls.values() if name == account_id and start <= at <= end)


def recount(landing: Path) -> Recount:
    found = Recount()
    for path in sorted(landing.glob("*.ndjson")):
        for line in path.read_text(encoding="utf-8").splitlines():
            found.lines += 1
            reason = _reject_reason(line)
            if reason is not None:
                found.rejected[reason] += 1
                continue
            event = json.loads(line)
            uuid, properties = event["uuid"], event["properties"]
            if uuid in found.first_line:
                assert found.first_line[uuid] == line
                found.duplicates += 1
                continue
            found.first_line[uuid] = line
            at = datetime.fromisoformat(event["timestamp"])
            if properties.get("metric") == "seats":
                found.seats[properties.get("account_id") or properties["customer_id"]].append(
                    (at, properties["used"], properties.get("limit") or properties["quota"])
                )
            elif event["event"] == "quota_set":
                found.quotas[properties["account_id"]].append((at, properties["api_quota_monthly"]))
                if "token_quota_monthly" in properties:
                    found.token_quotas[properties["account_id"]] = properties["token_quota_monthly"]
            elif event["event"] == "usage.limit_reached":
                found.limit_reached.append({**properties, "at": at})
            elif event["event"] == "llm_request":
                assert properties["model"] in ("small", "large")
                found.tokens[properties["account_id"]].append((at, properties["total_tokens"]))
            else:
                assert properties["account_id"] == event["distinct_id"]
                found.calls[uuid] = (properties["account_id"], at)
                found.late_days[(date.fromisoformat(path.stem.removeprefix("usage-")) - at.date()).days] += 1
    return found


def _reject_reason(line: str) -> str | None:
    try:
        event = json.loads(line)
    except ValueError:
        return "invalid_json"
    if not isinstance(event, dict):
        return "not_an_object"
    if event["event"] not in (*CALL_NAMES, "llm_request", "quota_set", "usage.limit_reached"):
        return "unknown_event"
    properties = event["properties"]
    if not (properties.get("account_id") or properties.get("customer_id") or event.get("distinct_id")):
        return "missing_account"
    try:
        datetime.fromisoformat(event["timestamp"])
    except ValueError:
        return "invalid_time"
    quota = properties.get("api_quota_monthly")
    if event["event"] == "quota_set" and quota is not None and not (isinstance(quota, int) and quota >= 0):
        return "invalid_quota"
    return None


def make_demo(folder: Path, now: datetime, **sizes: int) -> tuple[Truth, Recount]:
    arguments = {"accounts": 60, "events": 5_000, **sizes}
    truth = generate(folder / "landing", folder / "accounts.csv", now=now, **arguments)
    return truth, recount(folder / "landing")


def period_start(account: AccountTruth, now: datetime) -> datetime:
    """Of the account's own period, or the calendar month."""
    if account.period_anchor:
        return datetime(*account.period_anchor.timetuple()[:3], tzinfo=UTC)
    return now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("now", NOWS, ids=str)
@pytest.mark.parametrize("days", [45, 3])
def test_truth_equals_recount(tmp_path: Path, now: datetime, days: int) -> None:
    truth, found = make_demo(tmp_path, now, days=days)

    counted = {uuid: call for uuid, call in found.calls.items() if call[1] <= now}
    ahead = [at for _, at in found.calls.values() if at > now]
    assert truth.calls == len(counted)
    assert truth.future == len(ahead) > 0
    assert all(at - now > timedelta(days=1) for at in ahead)
    assert truth.duplicates == found.duplicates
    assert truth.rejected == found.rejected
    assert truth.lines == found.lines

    by_date: dict[str, Counter[date]] = defaultdict(Counter)
    for account_id, at in counted.values():
        by_date[account_id][at.date()] += 1
    assert by_date.keys() <= {account.account_id for account in truth.accounts}
    for account in truth.accounts:
        assert account.calls_by_date == by_date[account.account_id]
        used = len(found.times_of(account.account_id, period_start(account, now), now))
        assert account.used_mtd == used
        in_force = sorted(found.quotas.get(account.account_id, []), key=lambda version: version[0])
        assert all(at <= now for at, _ in in_force)
        quota = in_force[-1][1] if in_force else None
        assert account.quota == quota
        states = {None: "unlimited", 0: "blocked"}
        assert account.quota_state == (states.get(quota, "limited") if in_force else "unknown")
        limited = account.quota_state == "limited"
        assert account.crossed == tuple(
            threshold for threshold in THRESHOLDS if limited and quota and used * 100 >= quota * threshold
        )


@pytest.mark.parametrize("now", NOWS, ids=str)
@pytest.mark.parametrize(("days", "accounts"), [(45, 120), (3, 1), (1, 120)])
def test_tokens_are_recounted_and_one_account_crosses_80_pct_today(
    tmp_path: Path, now: datetime, days: int, accounts: int
) -> None:
    truth, found = make_demo(tmp_path, now, days=days, accounts=accounts)

    crossed = []
    for account in truth.accounts:
        requests = sorted(found.tokens.get(account.account_id, []))
        assert all(at <= now and tokens > 0 for at, tokens in requests)
        by_date = Counter[date]()
        for at, tokens in requests:
            by_date[at.date()] += tokens
        assert account.tokens_by_date == by_date
        used = sum(tokens for at, tokens in requests if at >= period_start(account, now))
        quota = found.token_quotas.get(account.account_id)
        assert account.tokens == ((used, quota) if quota else None)
        assert bool(quota) == bool(requests)
        if quota and used * 100 >= quota * 50:
            crossed.append(account)
            at, tokens = requests[-1]
            assert at.date() == now.date()
            assert (used - tokens) * 100 < quota * 80 <= used * 100 < quota * 95
    assert len(crossed) == 1
    assert len(found.tokens) == len([n for n in range(accounts) if n % 100 in (0, 33, 66)])


@pytest.mark.parametrize("now", NOWS, ids=str)
@pytest.mark.parametrize(("days", "accounts"), [(45, 120), (1, 120), (20, 1_200)])
def test_crossing_happens_in_the_last_twenty_hours(tmp_path: Path, now: datetime, days: int, accounts: int) -> None:
    truth, found = make_demo(tmp_path, now, accounts=accounts, days=days)

    crossing = [account for account in truth.accounts if account.story in CROSSED]
    assert {account.story for account in crossing} == set(CROSSED)
    assert len(crossing) == len(CROSSED)  # once in a demo of any size
    opens = now.replace(microsecond=0) - timedelta(hours=20)
    for account in crossing:
        threshold = CROSSED[account.story]
        times = found.times_of(account.account_id, period_start(account, now), now)
        assert account.quota is not None
        needed = -(-account.quota * threshold // 100)
        assert opens <= times[needed - 1] <= now
        assert account.crossed == tuple(t for t in THRESHOLDS if t <= threshold)


@pytest.mark.parametrize("now", NOWS, ids=str)
def test_stories_show_what_they_are_named_after(tmp_path: Path, now: datetime) -> None:
    truth, found = make_demo(tmp_path, now)

    by_story = defaultdict(list)
    for account in truth.accounts:
        by_story[account.story].append(account)
    assert by_story.keys() == set(STORIES)
    for account in by_story["dormant"]:
        assert now - max(found.times_of(account.account_id, EVER, now)) > timedelta(days=7)
    for account in by_story["upgraded"]:
        (_, smaller), (upgraded_at, larger) = sorted(found.quotas[account.account_id])
        assert smaller is not None
        assert larger is not None
        assert smaller < larger
        assert now - timedelta(days=1) <= upgraded_at <= now
    assert all(account.crossed == THRESHOLDS for account in by_story["over_120"])
    assert all(not account.calls_by_date and account.quota for account in by_story["idle"])
    for story in ("blocked", "unlimited", "unknown", "invalid_quota"):
        assert all(account.used_mtd >= 3 for account in by_story[story])
    assert not any(account.crossed for story in ("flat", "dormant") for account in by_story[story])
    for account in by_story["bursting"]:
        hours = Counter((at.date(), at.hour) for at in found.times_of(account.account_id, EVER, now))
        whole_days = {day: calls for day, calls in account.calls_by_date.items() if day < now.date() and calls > 9}
        for day, calls in whole_days.items():
            assert sum(sorted(hours[day, hour] for hour in range(24))[-2:]) > calls / 2


@pytest.mark.parametrize("now", NOWS, ids=str)
def test_dormant_account_has_called_when_the_history_is_short(tmp_path: Path, now: datetime) -> None:
    truth, found = make_demo(tmp_path, now, days=9, events=0)

    for account in truth.accounts:
        times = found.times_of(account.account_id, EVER, now)
        assert bool(times) == (account.story != "idle")
        if account.story == "dormant":
            assert now - times[-1] > timedelta(days=7)


def test_growing_account_grows_and_flat_one_rests_at_weekends(tmp_path: Path) -> None:
    truth, _ = make_demo(tmp_path, NOWS[0], accounts=20, events=20_000)

    growing, flat = truth.accounts[0].calls_by_date, truth.accounts[1].calls_by_date
    weeks = sorted(growing)
    assert sum(growing[day] for day in weeks[-15:-1]) > 1.5 * sum(growing[day] for day in weeks[:14])
    saturdays = [calls for day, calls in flat.items() if day.weekday() == 5]
    thursdays = [calls for day, calls in flat.items() if day.weekday() == 3]
    assert sum(saturdays) / len(saturdays) < 0.6 * sum(thursdays) / len(thursdays)


@pytest.mark.parametrize("now", NOWS[:3], ids=str)
def test_quota_stands_before_the_first_call(tmp_path: Path, now: datetime) -> None:
    truth, found = make_demo(tmp_path, now)

    for account in truth.accounts:
        times = found.times_of(account.account_id, EVER, now)
        if account.account_id in found.quotas and times:
            assert min(found.quotas[account.account_id])[0] < times[0]


@pytest.mark.parametrize("now", NOWS[:2] + NOWS[5:7], ids=str)
def test_storm_fails_and_dropping_account_calls_a_third(tmp_path: Path, now: datetime) -> None:
    truth, found = make_demo(tmp_path, now, events=20_000)

    by_story = {account.story: account for account in truth.accounts}
    storm, dropping = by_story["retry_storm"], by_story["dropping"]
    failed, calls = Counter[bool](), Counter[bool]()
    for uuid, (account_id, at) in found.calls.items():
        if account_id == storm.account_id:
            is_recent = (now.date() - at.date()).days <= 7
            calls[is_recent] += 1
            failed[is_recent] += json.loads(found.first_line[uuid])["properties"]["status"] in (429, 503)
    assert failed[True] / calls[True] > 0.5
    assert failed[False] / calls[False] < 0.1
    day = timedelta(days=1)
    week = sum(dropping.calls_by_date[now.date() - ago * day] for ago in range(1, 8))
    before = sum(dropping.calls_by_date[now.date() - ago * day] for ago in range(8, 15))
    assert before >= 200
    assert week < before * 0.5


def test_revenue_is_what_the_plan_costs(tmp_path: Path) -> None:
    truth, _ = make_demo(tmp_path, NOWS[0])

    plans = (Path(__file__).parents[2] / "dbt_project" / "seeds" / "plans.csv").read_text().splitlines()
    prices = {row["plan"]: Decimal(row["base_price"]) for row in csv.DictReader(plans)}
    with (tmp_path / "accounts.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["account_id"]: row for row in csv.DictReader(file)}
    for account in truth.accounts:
        row, is_trial = rows[account.account_id], account.story == "trial"
        assert Decimal(row["mrr"]) == (0 if is_trial else prices[row["plan"]])
        assert row["is_trial"] == ("true" if is_trial else "")
        if account.story == "crossing_100":
            assert row["plan"] == "team"  # refuses what is above its quota
            assert date.fromisoformat(row["renewal_on"]) - NOWS[0].date() == timedelta(days=21)


def test_noise_is_there_and_named(tmp_path: Path) -> None:
    truth, found = make_demo(tmp_path, NOWS[0], events=40_000)

    reasons = "invalid_json not_an_object missing_account invalid_time unknown_event invalid_quota"
    assert set(truth.rejected) == set(reasons.split(" "))
    assert 15 <= sum(truth.rejected.values()) <= 25
    assert 0.004 < truth.duplicates / truth.lines < 0.006
    assert set(found.late_days) == {-2, 0, 1, 2}  # -2: the calls of the day after tomorrow
    assert 0.008 < (found.late_days[1] + found.late_days[2]) / len(found.calls) < 0.012
    assert len(found.calls) == pytest.approx(40_000, rel=0.05)
    statuses = Counter(json.loads(line)["properties"]["status"] // 100 for line in _call_lines(found))
    assert 0.03 < statuses[4] / len(found.calls) < 0.07
    assert statuses[5] > 0
    assert all(str(UUID(uuid)) == uuid and UUID(uuid).version == 4 for uuid in found.first_line)
    assert {json.loads(line)["event"] for line in _call_lines(found)} == set(CALL_NAMES)


def _call_lines(found: Recount) -> list[str]:
    return [found.first_line[uuid] for uuid in found.calls]


@pytest.mark.parametrize("now", NOWS[:3], ids=str)
def test_limit_reached_says_what_was_used_by_then(tmp_path: Path, now: datetime) -> None:
    truth, found = make_demo(tmp_path, now)

    accounts = {account.account_id: account for account in truth.accounts if 100 in account.crossed}
    assert {notice["customer_id"] for notice in found.limit_reached} == set(accounts)
    for notice in found.limit_reached:
        account = accounts[notice["customer_id"]]
        assert notice["metric"] == "api-calls"
        assert notice["limit"] == account.quota
        assert notice["used"] == len(found.times_of(account.account_id, period_start(account, now), notice["at"]))
        assert notice["limit"] <= notice["used"]
        assert notice["at"] <= now


def test_seats_are_taken_up_today(tmp_path: Path) -> None:
    truth, found = make_demo(tmp_path, NOWS[0])

    assert {account.account_id for account in truth.accounts if account.seats} == set(found.seats) != set()
    for account in truth.accounts:
        if account.seats:
            (opening, before, _), (at, used, limit) = sorted(found.seats[account.account_id])
            assert (used, limit) == account.seats
            assert before < limit * 0.8
            assert opening < at <= NOWS[0]
            assert at.date() == NOWS[0].date()


def test_accounts_csv_lists_every_account_once(tmp_path: Path) -> None:
    truth, _ = make_demo(tmp_path, NOWS[0], accounts=700)

    with (tmp_path / "accounts.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) <= set(ACCOUNT_COLUMNS)
    assert [row["account_id"] for row in rows] == [account.account_id for account in truth.accounts]
    assert len({row["account_id"] for row in rows}) == len({row["name"] for row in rows}) == 700
    assert all(row["name"] == row["account_id"].replace("-", " ").title() for row in rows)
    assert all(len(row["mrr"].partition(".")[2]) == 2 for row in rows)
    assert [row["stripe_customer_id"] or None for row in rows] == [a.stripe_customer_id for a in truth.accounts]
    customers = Counter(row["stripe_customer_id"] for row in rows)
    assert customers.pop("") == 70
    assert Counter(customers.values())[2] == 1
    assert max(customers.values()) == 2
    assert 0 < sum(row["owner"] == "" for row in rows) < 35


def test_files_are_one_for_each_day_and_none_is_temporary(tmp_path: Path) -> None:
    make_demo(tmp_path, NOWS[0], days=10)

    days = {f"landing/usage-2026-11-{day}.ndjson" for day in range(11, 21)}
    files = files_of(tmp_path)
    assert files.keys() == days | {"landing/quotas.ndjson", "accounts.csv"}
    assert all(content.endswith(b"\n") for content in files.values())


def test_file_appears_only_when_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    def refuse(*_: object) -> list[str]:
        names.extend(path.name for path in (tmp_path / "landing").iterdir())
        raise OSError("disk full")

    monkeypatch.setattr("orchestration.demo.files._call_lines", refuse)
    with pytest.raises(OSError, match="disk full"):
        make_demo(tmp_path, NOWS[0], days=45)
    assert sorted(names) == [".usage-2026-10-07.ndjson.part", "quotas.ndjson"]
    assert files_of(tmp_path).keys() == {"accounts.csv", "landing/quotas.ndjson"}


def test_same_arguments_write_the_same_bytes(tmp_path: Path) -> None:
    truths = [make_demo(tmp_path / name, NOWS[0])[0] for name in ("one", "two")]
    other_zone = NOWS[0].astimezone(timezone(timedelta(hours=9)))
    truths.append(make_demo(tmp_path / "tokyo", other_zone)[0])
    other_seed, _ = make_demo(tmp_path / "other", NOWS[0], seed=8)

    assert truths[0] == truths[1] == truths[2]
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two") == files_of(tmp_path / "tokyo")
    assert files_of(tmp_path / "one") != files_of(tmp_path / "other")
    assert other_seed != truths[0]


def test_truth_is_the_same_when_files_are_written_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestration.demo.files._CHUNK_LINES", 7)
    truth, found = make_demo(tmp_path, NOWS[0])

    assert truth.calls == sum(at <= truth.now for _, at in found.calls.values())
    assert (truth.lines, truth.duplicates) == (found.lines, found.duplicates)


def test_sizes_of_accounts_are_far_apart(tmp_path: Path) -> None:
    truth, _ = make_demo(tmp_path, NOWS[0], events=40_000)

    sizes = sorted((sum(account.calls_by_date.values()) for account in truth.accounts), reverse=True)
    assert sizes[0] > 10 * sizes[40] > 0


@pytest.mark.parametrize("accounts", [1, 2, 13])
@pytest.mark.parametrize("events", [0, 200])
def test_few_accounts_are_enough(tmp_path: Path, accounts: int, events: int) -> None:
    truth, found = make_demo(tmp_path, NOWS[2], accounts=accounts, events=events, days=1)

    assert len(truth.accounts) == accounts
    assert truth.calls == sum(at <= truth.now for _, at in found.calls.values())


def test_unusable_arguments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="aware"):
        generate(tmp_path, tmp_path / "accounts.csv", now=NOWS[0].replace(tzinfo=None))
    for sizes in ({"accounts": 0}, {"days": 0}, {"events": -1}):
        with pytest.raises(ValueError, match="positive"):
            make_demo(tmp_path, NOWS[0], **sizes)
    assert not files_of(tmp_path)
