from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from orchestration.billing.metering import ReportState
from orchestration.ledger import engines
from orchestration.ledger.columns import Choice, EpochHour, EpochTime, Identifier, UtcDateTime
from orchestration.ledger.tables import REPORT_STATES
from tests.fakes.postgres import Postgres

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
MOMENTS = sa.Table("moments", sa.MetaData(), sa.Column("at", UtcDateTime))


def test_utc_datetime_comes_back_in_utc_when_another_zone_was_stored() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        MOMENTS.create(connection)
        connection.execute(sa.insert(MOMENTS), [{"at": NOON.astimezone(timezone(timedelta(hours=9)))}, {"at": None}])

        assert connection.scalars(sa.select(MOMENTS.c.at)).all() == [NOON, None]
        assert connection.scalar(sa.select(sa.func.max(MOMENTS.c.at))) == NOON
        assert connection.scalar(sa.select(MOMENTS.c.at).where(MOMENTS.c.at >= NOON)).tzinfo is UTC
    engine.dispose()


def test_utc_datetime_is_utc_when_the_database_answers_in_its_own_zone() -> None:
    answer = NOON.astimezone(timezone(timedelta(hours=1)))

    found = UtcDateTime().process_result_value(answer, postgresql.dialect())
    assert found == NOON
    assert found is not None
    assert found.tzinfo is UTC


def test_utc_datetime_refuses_a_value_without_zone() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        UtcDateTime().process_bind_param(NOON.replace(tzinfo=None), sqlite.dialect())


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> Iterator[sa.Engine]:
    if request.param == "sqlite":
        engine = sa.create_engine("sqlite://")
    else:
        server: Postgres = request.getfixturevalue("postgres")
        engine = engines.create(server.database())
    yield engine
    engine.dispose()


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (
            EpochTime(),
            [datetime(2026, 11, 20, 12, 0, 0, 1, UTC), datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), None],
        ),
        (EpochHour(), [NOON, datetime(1969, 12, 31, 23, tzinfo=UTC), None]),
        (Choice(*REPORT_STATES), [*REPORT_STATES, None]),
        (Identifier(), ["0f" * 20, "0F" * 20, "x" * 40, "adopted-" + "0f" * 20, "", "é", None]),
    ],
)
def test_narrow_values_come_back_as_they_were(engine: sa.Engine, kind: Any, values: list[Any]) -> None:
    schema = None if engine.dialect.name == "sqlite" else "public"
    table = sa.Table("narrow", sa.MetaData(), sa.Column("at", sa.Integer), sa.Column("value", kind), schema=schema)
    with engine.connect() as connection, connection.begin() as transaction:
        table.create(connection)
        connection.execute(sa.insert(table), [{"at": at, "value": value} for at, value in enumerate(values)])
        assert connection.scalars(sa.select(table.c.value).order_by(table.c.at)).all() == values
        for value in values:
            assert connection.scalar(sa.select(table.c.value).where(table.c.value == value)) == value
        transaction.rollback()


@pytest.mark.parametrize("seconds", [0, 0.000001, 1800, 3599.999999])
def test_half_open_stretch_of_hours_may_begin_and_end_at_any_moment(seconds: float) -> None:
    hours = [NOON + timedelta(hours=n) for n in range(-3, 4)]
    table = sa.Table("hours", sa.MetaData(), sa.Column("at", EpochHour))
    engine = sa.create_engine("sqlite://")
    start, end = NOON - timedelta(hours=1) + timedelta(seconds=seconds), NOON + timedelta(hours=1, seconds=seconds)
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(sa.insert(table), [{"at": hour} for hour in hours])
        found = connection.scalars(sa.select(table.c.at).where(table.c.at >= start, table.c.at < end)).all()
    engine.dispose()
    assert found == [hour for hour in hours if start <= hour < end]


@pytest.mark.parametrize("kind", [EpochTime(), EpochHour()])
def test_narrow_moment_without_zone_is_refused(kind: EpochTime | EpochHour) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        kind.process_bind_param(NOON.replace(tzinfo=None), sqlite.dialect())


def test_text_that_would_pass_for_a_digest_is_refused() -> None:
    with pytest.raises(ValueError, match="as long as a digest"):
        Identifier().process_bind_param("x" * 20, sqlite.dialect())


def test_each_state_of_a_report_has_its_place() -> None:
    assert {*REPORT_STATES} == {*ReportState}
    with pytest.raises(ValueError):
        Choice(*REPORT_STATES).process_bind_param("new", sqlite.dialect())
