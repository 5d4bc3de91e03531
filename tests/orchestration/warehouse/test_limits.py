"""The snapshot for gates: what is in it, that it is whole whatever is killed, and which copy it belongs to."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from headroom_gate import json_rows
from headroom_gate.parsing import parse
from headroom_gate.rates import Rate
from orchestration.warehouse import limits
from orchestration.warehouse.limits import LimitsError
from orchestration.warehouse.published_copy import NothingPublishedError, version_of
from tests.support.duckdb_file import opened
from tests.support.killing import KilledError, at_line

HOSTILE = ("a/b", "quo\"te's", "line\nend", "nul\u2028\u202e", "{}", "naïve", "back\\slash", "x" * 1_024)
MONTH = "timestamp '2026-11-01', timestamp '2026-12-01'"
TABLES = f"""
    create table data_quality as select timestamp '2026-11-20 07:59:58.25' as data_through;
    create table endpoint_weights (endpoint varchar, effective_from date, weight bigint);
    insert into endpoint_weights values ('/v1/search', '2026-01-01', 5), ('/v1/"odd"', '2026-11-01', 0);
    create table stg_subjects (subject varchar, account_id varchar, valid_from timestamp, valid_until timestamp);
    insert into stg_subjects values ('key_1', 'acme', '1970-01-01', '9999-12-31'),
        ('key_2', 'acme', '2026-11-01', '2026-11-02 00:00:01');
    create table meters (meter varchar, is_main boolean, event_names varchar, aggregation varchar, filter varchar,
        unit varchar, weights varchar);
    insert into meters values
        ('api-calls', true, 'api_call|api_request', 'count', null, 'calls', 'endpoint_weights'),
        ('uploads', false, 'upload', 'count', '', 'uploads', null),
        ('large-uploads', false, 'upload', 'count', 'size=large', 'uploads', null),
        ('tokens', false, 'llm_request', 'sum', null, 'tokens', null),
        ('seats', false, null, 'latest', null, 'seats', null);
    create table plans (plan varchar, meter varchar, limit_kind varchar, rate_limit_per_second bigint);
    insert into plans values ('team', 'api-calls', 'hard', 20), ('team', 'tokens', 'soft', 7),
        ('slow', 'api-calls', 'throttle', 2), ('zero', 'api-calls', 'soft', 0), ('free', 'api-calls', 'monitor', null);
    create table utilization_mtd (account_id varchar, meter varchar, plan varchar, limit_kind varchar,
        quota_state varchar, quota bigint, used_mtd bigint, period_start timestamp, period_end timestamp);
    insert into utilization_mtd values
        ('acme', 'api-calls', 'team', 'hard', 'limited', 1000, 812, {MONTH}),
        ('acme', 'tokens', 'team', 'soft', 'limited', 1000, 812, {MONTH}),
        ('acme', 'seats', null, null, 'limited', 3, 2, {MONTH}),
        ('acme', 'uploads', null, null, 'unlimited', null, null, {MONTH}),
        ('blocked', 'api-calls', 'team', 'hard', 'blocked', 0, 3, {MONTH}),
        ('unknown', 'api-calls', 'gone', null, 'unknown', null, 9007199254740993, {MONTH}),
        ('for ever', 'api-calls', 'slow', 'throttle', 'limited', 5, 0, '2020-01-01', '9999-12-31');
"""


@pytest.fixture
def published(tmp_path: Path) -> Path:
    path = tmp_path / "published.duckdb"
    publish(path)
    return path


def publish(path: Path, used: int = 812) -> None:
    """A copy in the place of the one before, as an engine swaps it in."""
    staged = path.with_name("staged")
    with opened(staged) as connection:
        connection.execute(TABLES)
        connection.execute("update utilization_mtd set used_mtd = ? where used_mtd = 812", [used])
        connection.executemany(
            f"insert into utilization_mtd values (?, 'api-calls', 'free', 'soft', 'limited', 9, 1, {MONTH})",
            [[account] for account in HOSTILE],
        )
    staged.replace(path)


def written(published: Path) -> dict[str, Any]:
    return limits.read(limits.write(published, "production", "https://pages.test/u/").path)


def used_by_acme(snapshot: dict[str, Any]) -> int:
    [row] = (row for row in snapshot["accounts"] if row[:2] == ["acme", "api-calls"])
    return int(row[limits.COLUMNS.index("used")])


def test_snapshot_has_what_a_gate_can_count(published: Path) -> None:
    snapshot = written(published)
    assert list(snapshot)[-2:] == ["accounts", "subjects"]  # what explains them comes before
    accounts = snapshot.pop("accounts")

    month = [1793491200, 1796083200]
    assert [row for row in accounts if row[0] not in HOSTILE] == [
        ["acme", "api-calls", "team", "hard", 1000, 812, *month],
        ["acme", "uploads", None, None, None, 0, *month],
        ["blocked", "api-calls", "team", "hard", 0, 3, *month],
        ["for ever", "api-calls", "slow", "throttle", 5, 0, 1577836800, None],
        ["unknown", "api-calls", "gone", None, None, 9007199254740993, *month],
    ]
    assert sorted(row[0] for row in accounts if row[0] in HOSTILE) == sorted(HOSTILE)
    assert snapshot.pop("published_at").endswith("Z")
    assert snapshot == {
        "version": 1,
        "data_through": "2026-11-20T07:59:58Z",
        "env": "production",
        "usage_url": "https://pages.test/u/",
        "copy": version_of(published),
        "meters": {
            "api-calls": {
                "unit": "calls",
                "events": ["api_call", "api_request"],
                "is_main": True,
                "weights": [['/v1/"odd"', "2026-11-01", "0"], ["/v1/search", "2026-01-01", "5"]],
            },
            "uploads": {"unit": "uploads", "events": ["upload"], "is_main": False, "weights": []},
        },
        "plans": {
            "free": {},
            "slow": {"throttle_per_second": "2"},
            "team": {"rate_limit_per_second": "7"},
            "zero": {},
        },
        "columns": list(limits.COLUMNS),
        "subjects": [["key_1", "acme", 0, None], ["key_2", "acme", 1793491200, 1793577601]],
    }


def test_gate_reads_what_a_publication_writes(published: Path) -> None:
    text = limits.write(published, "local", None).path.read_text()
    snapshot = parse(text)
    known = {account: snapshot.limit_of(account, 1793491200) for account in HOSTILE}
    assert {account: limit and limit.quota for account, limit in known.items()} == dict.fromkeys(HOSTILE, 9)
    assert snapshot.rates_of("slow") == (None, Rate(2, 1))
    assert json_rows._BETWEEN_ROWS in text  # by which the gate reads many rows at once


def test_compressed_snapshot_is_the_same(published: Path) -> None:
    done = limits.write(published, "local", None)

    packed = limits.compressed(done.path)
    assert gzip.decompress(packed.read_bytes()) == done.path.read_bytes()
    assert (done.size_bytes, done.compressed_bytes) == (done.path.stat().st_size, packed.stat().st_size)
    assert done.accounts == len(limits.read(done.path)["accounts"])


def test_snapshot_says_of_which_copy_it_is(published: Path) -> None:
    path = limits.path_of(published)
    assert limits.copy_of(path) is None
    limits.write(published, "local", None)
    assert limits.copy_of(path) == version_of(published)
    publish(published, used=900)
    assert limits.copy_of(path) != version_of(published)
    path.write_text("[]")
    assert limits.copy_of(path) == ""


def test_killed_writer_leaves_a_whole_snapshot_and_the_next_repairs(published: Path) -> None:
    written(published)
    publish(published, used=900)
    line = kills = 0
    while True:
        line += 13
        sys.settrace(at_line(line, {limits.__file__}, _killed))
        try:
            limits.write(published, "local", None)
            break
        except KilledError:
            kills += 1
        finally:
            sys.settrace(None)
        for text in (published.with_name("limits.json").read_bytes(), _unpacked(published)):
            assert used_by_acme(json.loads(text)) in (812, 900)
    assert kills > 5
    assert used_by_acme(limits.read(limits.path_of(published))) == 900


def _killed() -> None:
    raise KilledError


def _unpacked(published: Path) -> bytes:
    return gzip.decompress(published.with_name("limits.json.gz").read_bytes())


def test_failed_writer_leaves_the_snapshot_of_before(published: Path, tmp_path: Path) -> None:
    before = written(published)
    with opened(tmp_path / "other.duckdb") as connection:
        connection.execute(f"{TABLES}; alter table utilization_mtd drop column limit_kind")
    (tmp_path / "other.duckdb").replace(published)

    with pytest.raises(duckdb.Error):
        limits.write(published, "local", None)
    assert limits.read(limits.path_of(published)) == before


def test_missing_and_broken_snapshots_are_said(tmp_path: Path) -> None:
    with pytest.raises(NothingPublishedError):
        limits.write(tmp_path / "published.duckdb", "local", None)
    path = limits.path_of(tmp_path / "published.duckdb")
    with pytest.raises(LimitsError, match="does not exist yet: `headroom run` writes it"):
        limits.read(path)
    path.write_text('{"version": 1, "acc')
    with pytest.raises(LimitsError, match="cannot be read"):
        limits.read(path)
