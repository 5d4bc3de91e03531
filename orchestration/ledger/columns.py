"""The ledger's column types: moments, choices, identifiers, texts that any engine gives back as they went in."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa


def _utc(value: datetime) -> datetime:
    """:raises ValueError: it has no zone."""
    if value.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone")
    return value.astimezone(UTC)


class UtcDateTime(sa.TypeDecorator[datetime]):
    """An aware UTC datetime, in and out of any engine: SQLite stores no offset, Postgres answers in the session's zone.

    :raises ValueError: on binding a naive datetime.
    """

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else _utc(value)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class EpochTime(sa.TypeDecorator[datetime]):
    """An aware UTC datetime as microseconds since 1970: a third of the bytes of a text, for tables with many rows.

    :raises ValueError: on binding a naive datetime.
    """

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        return None if value is None else (_utc(value) - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else _EPOCH + timedelta(microseconds=value)


class EpochHour(sa.TypeDecorator[datetime]):
    """The start of a UTC hour as the number of hours since 1970. Any other moment stands for the next hour, so that
    `>=` and `<` say of it what they say of hours; do not use `>` and `<=`.

    :raises ValueError: on binding a naive datetime.
    """

    impl = sa.Integer
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        return None if value is None else -((_EPOCH - _utc(value)) // _HOUR)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else _EPOCH + value * _HOUR


class Choice(sa.TypeDecorator[str]):
    """One of a few texts, as its place among them: a new one goes to the end.

    :raises ValueError: on binding another text.
    """

    impl = sa.SmallInteger
    cache_ok = True

    def __init__(self, *texts: str) -> None:
        super().__init__()
        self.texts = texts

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> int | None:
        return None if value is None else self.texts.index(value)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else self.texts[value]


class Identifier(sa.TypeDecorator[str]):
    """A text, of which the usual kind, 40 hexadecimal digits, takes half its bytes.

    :raises ValueError: on binding another text of just so many bytes, which could not be told apart.
    """

    impl = sa.LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> bytes | None:
        if value is None:
            return None
        if len(value) == 2 * _DIGEST_BYTES and not value.strip(_HEX_DIGITS):
            return bytes.fromhex(value)
        if len(value.encode()) == _DIGEST_BYTES:
            raise ValueError(f"{value!r} is as long as a digest")
        return value.encode()

    def process_result_value(self, value: bytes | None, dialect: sa.Dialect) -> str | None:
        if value is None:
            return None
        return value.hex() if len(value) == _DIGEST_BYTES else bytes(value).decode()


_EPOCH, _MICROSECOND, _HOUR = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1), timedelta(hours=1)
_DIGEST_BYTES, _HEX_DIGITS = 20, "0123456789abcdef"
_NUL = "\ufffe"


class Text(sa.TypeDecorator[str]):
    """Text of any characters. Ids of accounts are whatever their sender says, and Postgres has no NUL in a text: there
    it is kept as a code that is no character.
    """

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return value.replace("\0", _NUL) if value and dialect.name == "postgresql" else value

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return value.replace(_NUL, "\0") if value and dialect.name == "postgresql" else value
