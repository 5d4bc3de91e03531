"""The usage event: its names, the aliases of its fields, and the reasons to refuse one.

This is the vocabulary that every way in shares (landing files, HTTP). It says which fields are looked at and
what is wrong with a bad line; how lines are read, and the SQL that applies these rules to millions of them,
is in `lake/event_sql.py`. Nothing here does I/O.
"""

from datetime import UTC, datetime
from enum import StrEnum

API_CALL = ("api_call", "api_request")
"""Names of one counted API call; the second is a synonym that some producers send."""
API_CALL_REFUSED = "api_call_refused"
"""A call that a gate refused before it reached the API. It is kept as calls are, and no meter can count it: it is not
usage, is never billed, and is seen by the marts of errors alone, as a 429. A call that the API itself answered with 429
is an `api_call` like any other.
"""
QUOTA_SET = "quota_set"
LIMIT_REACHED = "usage.limit_reached"
EVENTS_DROPPED = "events_dropped"
"""Not counted, and never lost: our snippets report by it how many events (`properties.dropped`) they had to give up."""
MAX_EVENTS_DROPPED = 10**9
OTHER_EVENTS = (QUOTA_SET, LIMIT_REACHED)
"""Those that say something of a meter. All others that are accepted are events of the API, which the lake keeps by day,
and which meters of `meters.csv` count."""
EVENT_NAMES = (*API_CALL, API_CALL_REFUSED, *OTHER_EVENTS)
"""Always accepted, whichever meters there are."""

# Field aliases, in the order in which they are tried: the first that is there, and not null, wins.
NAME_FIELDS = ("event", "type")
ID_FIELDS = ("uuid", "messageId", "id", "idempotencyKey")
SOURCE_FIELD = "source"
ACCOUNT_FIELDS = (
    *("properties.account_id", "properties.customer_id", "account_id", "customer_id"),
    *("distinct_id", "userId", "subject"),
)
TIME_FIELDS = ("timestamp", "time", "originalTimestamp")
PROPERTIES_FIELDS = ("properties", "data")
"""Where an event keeps its own fields, as an object or as the JSON text of one; `properties.` below means either. An
event with neither is flat: what are no fields of the event itself are its properties, as with the columns of CSV."""
WEIGHT_FIELDS = ("properties.sample_weight", "sample_weight")
ENDPOINT_FIELDS = ("properties.endpoint", "endpoint")
STATUS_FIELDS = ("properties.status", "status")
QUOTA_FIELDS = ("properties.api_quota_monthly", "properties.quota", "properties.limit")
FIELDS = (
    *(*NAME_FIELDS, *ID_FIELDS, SOURCE_FIELD, *TIME_FIELDS),
    *(name for name in ACCOUNT_FIELDS if "." not in name and f"properties.{name}" not in ACCOUNT_FIELDS),
)
"""Of the event itself. In a row of CSV or Parquet and in a flat event all others are its properties."""

MAX_QUOTA = 10**15
"""Largest quota accepted, in smallest steps of its meter a period (docs/meaning/definitions.md#quota-values). It is
also the largest exact value that Stripe takes."""
MAX_ACCOUNT_ID_BYTES = 1024
TYPICAL_EVENT_BYTES = 260
"""As JSON, by which it is estimated what is lost of a file where nothing was read before."""
MAX_SAMPLE_WEIGHT = 1_000_000
"""Calls that one sampled call may stand for (docs/meaning/definitions.md#sampled-events)."""
EARLIEST_TIME = datetime(2000, 1, 1, tzinfo=UTC)
"""Older times are refused: they are epochs in the wrong unit, dates without separators, or unset clocks."""
MAX_DAYS_AHEAD = 366
"""Times further ahead of the clock are refused for the same reasons."""
ISO_TIME = (
    "[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?"
    " ?([Zz]|UTC|GMT|[+-]([01][0-9]|2[0-3])(:?[0-5][0-9])?)?)?"
)
"""ISO 8601 and RFC 3339, and what differs from them without a doubt: a comma, a blank, UTC and GMT. Any other zone is
refused: BST is the time of London, of Bougainville and of Bangladesh."""
BASIC_ISO_TIME = "[0-9]{8}T[0-9]{4}([0-9]{2}([.,][0-9]+)?)?(Z|[+-]([01][0-9]|2[0-3])([0-5][0-9])?)?"
EPOCH = r"[0-9]{1,19}|[0-9]{1,17}\.[0-9]+"
"""In seconds, milliseconds, microseconds or nanoseconds: between the bounds above no number can be two of them."""
FUTURE_TOLERANCE_SECONDS = 300
"""An event further ahead of the clock than this is kept but not counted until its time has come
(docs/meaning/definitions.md#future-events)."""


class Rejection(StrEnum):
    """Why a line is in quarantine. The value is stored; `explanation` is for people."""

    INVALID_UTF8 = "invalid_utf8"
    INVALID_JSON = "invalid_json"
    NOT_TEXT = "not_text"
    NOT_AN_OBJECT = "not_an_object"
    DROPPED = "events_dropped"
    EMPTY_LIST = "empty_list"
    UNKNOWN_EVENT = "unknown_event"
    MISSING_ACCOUNT = "missing_account"
    INVALID_ACCOUNT = "invalid_account"
    INVALID_TIME = "invalid_time"
    INVALID_QUOTA = "invalid_quota"
    INVALID_WEIGHT = "invalid_weight"
    TOO_OLD = "too_old"
    ID_CONFLICT = "id_conflict"
    DAMAGED_FILE = "damaged_file"
    INVALID_ROW = "invalid_account_row"
    INVALID_RANGE = "invalid_range_row"
    OVERLAPPING_RANGE = "overlapping_range_row"
    INVALID_CELL = "invalid_account_cell"
    HELD_FILE = "held_file"

    @property
    def explanation(self) -> str:
        return _EXPLANATIONS[self]


_EXPLANATIONS = {
    Rejection.INVALID_UTF8: (
        "the name, account, id, source or time is not UTF-8 text, or the line is therefore not JSON. Export such"
        " lines as UTF-8, and land only them, in a new file"
    ),
    Rejection.INVALID_JSON: (
        "the line is not one JSON value, or not one row of its CSV. Land only the corrected line, in a new file"
    ),
    Rejection.NOT_TEXT: "the line is compressed or other binary data; land the original text",
    Rejection.NOT_AN_OBJECT: "the line is JSON but not an object {…}; land one event a line",
    Rejection.DROPPED: (
        "a producer dropped as many events as `dropped` says, for the reason in `problem`; they never arrived"
    ),
    Rejection.EMPTY_LIST: "the line is a list without an event; nothing is missing",
    Rejection.UNKNOWN_EVENT: (
        f"`event` is none of {', '.join(EVENT_NAMES)} and of the event_names in meters.csv. Rename it at the producer,"
        " or add a meter and count such lines with `headroom rejected --replay`"
    ),
    Rejection.MISSING_ACCOUNT: f"none of {', '.join(ACCOUNT_FIELDS)} has a value",
    Rejection.INVALID_ACCOUNT: (
        f"the account is not text or a whole number, or is longer than {MAX_ACCOUNT_ID_BYTES} bytes"
    ),
    Rejection.INVALID_TIME: (
        "the time is unreadable, or before the year 2000 or more than a year ahead. Causes are a date without"
        " separators, an abbreviated zone, the wrong unit or a wrong clock. Send ISO 8601 with an offset"
    ),
    Rejection.INVALID_QUOTA: (
        "a quota is not null, 0 or a number up to 10^15 with at most its meter's decimals. The previous one stays in"
        " force"
    ),
    Rejection.INVALID_WEIGHT: f"sample_weight is not a whole number from 1 to {MAX_SAMPLE_WEIGHT}",
    Rejection.TOO_OLD: (
        "the call is from a day that the lake no longer keeps (HEADROOM_LAKE_KEEP_DAYS), so it may have been"
        " counted before"
    ),
    Rejection.ID_CONFLICT: "an event with this id but other content was counted before and still counts; send a new id",
    Rejection.DAMAGED_FILE: (
        "the file cannot be read from here on, and the lines before count. Land it again with the same lines"
        " before this one, so that they do not count twice. Or land only the missing lines"
    ),
    Rejection.INVALID_ROW: (
        "the accounts file's row has no new account_id, or more cells than names; the account keeps its previous values"
    ),
    Rejection.INVALID_RANGE: (
        "an id is empty, a time is unreadable or has no offset, or valid_until is not after valid_from. Or a"
        " Stripe customer would change within a UTC hour. The id keeps its previous rows"
    ),
    Rejection.OVERLAPPING_RANGE: "an earlier row of the id is valid at the same time and counts; set its valid_until",
    Rejection.INVALID_CELL: (
        "a cell of the accounts file cannot be read. The rest of its row counts, and the cell keeps its last valid"
        " value"
    ),
    Rejection.HELD_FILE: (
        "the file is unreadable or lost too much, so the previous one stays in use. Repair it, or accept it with"
        " `headroom lake accept`"
    ),
}
