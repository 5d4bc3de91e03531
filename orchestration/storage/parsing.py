"""The SQL that applies the rules of `usage/events.py` to landed lines: one query for a whole batch.

Lines come in, typed events and reasons to refuse come out; a new field, alias or rule is a change here and there. How
lines are read and where events are kept is in `landing.py` and `lake.py`.

Fields of a line are extracted in one pass as text, and in one more as JSON where the string "1" and the number 1,
or null and nothing, must be told apart (account, quota) or the whole value is kept.
"""

from collections.abc import Sequence

from orchestration.usage import events
from orchestration.usage.events import Rejection

_TEXTS = (
    *events.NAME_FIELDS,
    *events.ID_FIELDS,
    events.SOURCE_FIELD,
    *events.ACCOUNT_FIELDS,
    *events.TIME_FIELDS,
    *events.QUOTA_FIELDS,
    "properties.endpoint",
    "properties.status",
)
_FIELDS = (*events.ACCOUNT_FIELDS, *events.QUOTA_FIELDS, "properties")


def _text(*names: str) -> str:
    """The first of the named fields that is there and not null, as text."""
    return f"coalesce({', '.join(f'texts[{_TEXTS.index(name) + 1}]' for name in names)})"


def _json(*names: str, null_counts: bool = False) -> str:
    """The same as JSON; with `null_counts` a null is an answer, not an absence."""
    tried = [f"fields[{_FIELDS.index(name) + 1}]" for name in names]
    if not null_counts:
        tried = [f"nullif({field}, 'null')" for field in tried]
    return f"coalesce({', '.join(tried)})"


def _paths(names: Sequence[str]) -> str:
    return ", ".join(f"'$.{name}'" for name in names)


_INTEGER_TYPES = "('UBIGINT', 'BIGINT', 'UHUGEINT', 'HUGEINT')"
_NAMES = ", ".join(f"'{name}'" for name in events.EVENT_NAMES)

PARSE_LINES = rf"""
create temp table parsed as
with line as (
    select *, is_utf8 and json_valid(raw) as is_json
    from lines
),
extracted as (
    select *,
        case when is_json then json_type(raw) = 'OBJECT' else false end as is_object,
        case when is_json then json_extract(raw, [{_paths(_FIELDS)}]) end as fields,
        case when is_json then json_extract_string(raw, [{_paths(_TEXTS)}]) end as texts
    from line
),
named as (
    select
        seq, landed_file, origin, line_number, raw, is_utf8, is_json, is_object,
        {_text(*events.NAME_FIELDS)} as event_name,
        nullif({_text(*events.ID_FIELDS)}, '') as own_id,
        {_text(events.SOURCE_FIELD)} as own_source,
        {_text(*events.ACCOUNT_FIELDS)} as account_id,
        json_type({_json(*events.ACCOUNT_FIELDS)}) as account_type,
        {_text(*events.TIME_FIELDS)} as time_text,
        {_text(*events.QUOTA_FIELDS)} as quota_text,
        json_type({_json(*events.QUOTA_FIELDS, null_counts=True)}) as quota_type,
        {_json("properties")} as properties,
        {_text("properties.endpoint")} as endpoint,
        try_cast({_text("properties.status")} as integer) as status
    from extracted
),
valued as (
    select *,
        case
            when time_text is null then cast($ingested_at as timestamptz)
            when regexp_full_match(time_text, '\d{{1,17}}(\.\d+)?') then
                -- an epoch in seconds, milliseconds or microseconds, told by its size
                to_timestamp(cast(time_text as double) / case
                    when cast(time_text as double) < 1e11 then 1
                    when cast(time_text as double) < 1e14 then 1e3
                    else 1e6 end)
            when regexp_matches(time_text, '^\d{{4}}-\d\d-\d\d') then try_cast(time_text as timestamptz)
        end as event_at,
        case
            when quota_type in {_INTEGER_TYPES} or (quota_type = 'VARCHAR' and regexp_full_match(quota_text, '\d+'))
                then try_cast(quota_text as bigint)
            when quota_type = 'DOUBLE' and try_cast(quota_text as double) = floor(try_cast(quota_text as double))
                then try_cast(try_cast(quota_text as double) as bigint)
        end as quota
    from named
)
select
    seq,
    coalesce(case when own_id is null then origin else own_source end, '') as source,
    coalesce(own_id, cast(line_number as varchar)) as event_id,
    event_name,
    account_id,
    event_at,
    cast($ingested_at as timestamptz) as ingested_at,
    case when event_name = '{events.QUOTA_SET}' then quota end as quota,
    endpoint,
    status,
    properties,
    landed_file,
    line_number,
    case
        when not is_utf8 then '{Rejection.INVALID_UTF8}'
        when not is_json then '{Rejection.INVALID_JSON}'
        when not is_object then '{Rejection.NOT_AN_OBJECT}'
        when event_name is null or event_name not in ({_NAMES}) then '{Rejection.UNKNOWN_EVENT}'
        when account_id is null or account_id = '' then '{Rejection.MISSING_ACCOUNT}'
        when account_type not in ('VARCHAR', 'UBIGINT', 'BIGINT', 'UHUGEINT', 'HUGEINT')
            or strlen(account_id) > {events.MAX_ACCOUNT_ID_BYTES} then '{Rejection.INVALID_ACCOUNT}'
        when event_at is null or event_at < timestamptz '{events.EARLIEST_TIME:%Y-%m-%d}'
            or event_at >= timestamptz '9999-01-01' then '{Rejection.INVALID_TIME}'
        when event_name = '{events.QUOTA_SET}' and coalesce(quota_type, '') <> 'NULL'
            and (quota is null or quota not between 0 and {events.MAX_QUOTA}) then '{Rejection.INVALID_QUOTA}'
    end as reason,
    case when reason is not null then raw end as raw
from valued
"""
