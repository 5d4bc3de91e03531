from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from orchestration.ledger.tables import UtcDateTime

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
