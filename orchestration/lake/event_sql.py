"""The SQL that applies the rules of `usage/events.py` to landed lines; a new field, alias or rule is a change here
and there. Reading lines and keeping events is `batch.py`'s business.

There are two ways through. `READ_LINES` lets DuckDB's JSON reader take the fields straight from a staged file: four
times as fast as the other, and good for the calls that most lines are. Whatever it cannot vouch for (`is_judged` is
false: other events, lists, anything odd, everything wrong) goes through `JUDGE_LINES`, which sees the JSON types: there
the string "1" and the number 1, or null and nothing, can be told apart. Both give the same event for the same line.

Which events are counted, and what sets a quota, is data: both have parameters that the meters decide (`meter_sql.py`).

A flat event, which has no properties, keeps its other fields as properties. The JSON reader gives only fields that it
is asked for, so it vouches for no flat event, but for one of a name in `bare_names`: a flat call of which no meter
reads a property keeps none, so that most of them are read fast, and are what they were before there were meters.
"""

import json

from orchestration.lake.meter_sql import HAS_QUOTAS, OWN_QUOTAS
from orchestration.lake.time_sql import EARLIEST, EVENT_AT, LATEST
from orchestration.usage import events
from orchestration.usage.events import Rejection

_PREFIX = "properties."
_ALL = (
    *events.NAME_FIELDS,
    *events.ID_FIELDS,
    events.SOURCE_FIELD,
    *events.ACCOUNT_FIELDS,
    *events.TIME_FIELDS,
    *events.WEIGHT_FIELDS,
    *events.QUOTA_FIELDS,
    *events.ENDPOINT_FIELDS,
    *events.STATUS_FIELDS,
)
_OUTER = tuple(name for name in _ALL if not name.startswith(_PREFIX))
_INNER = tuple(name.removeprefix(_PREFIX) for name in _ALL if name.startswith(_PREFIX))
_READ_INNER = tuple(name for name in _INNER if f"{_PREFIX}{name}" not in events.QUOTA_FIELDS)


def _read(*names: str) -> str:
    """The first of the named fields that is there and not null, as the JSON reader gives it: as text."""
    return f"coalesce({', '.join(name.replace(_PREFIX, 'inside.') for name in names)})"


def _text(*names: str) -> str:
    """The same from a line's JSON."""
    return f"coalesce({', '.join(_place(name, 'texts') for name in names)}, null)"


def _json(*names: str, null_counts: bool = False) -> str:
    """The same as JSON; with `null_counts` a null is an answer, not an absence."""
    tried = [_place(name, "fields") for name in names]
    if not null_counts:
        tried = [f"nullif({field}, 'null')" for field in tried]
    return f"coalesce({', '.join(tried)}, null)"


def _place(name: str, kind: str) -> str:
    inner = name.removeprefix(_PREFIX)
    return f"inner_{kind}[{_INNER.index(inner) + 1}]" if name != inner else f"{kind}[{_OUTER.index(name) + 1}]"


def _paths(names: tuple[str, ...]) -> str:
    return ", ".join(f"'$.{name}'" for name in names)


_CONTROL = r"[\x00-\x08\x0e-\x1f]"
_GZIP = r"chr(31) || '\x8b'"
"""As the collector keeps its bytes."""
_INTEGER_TYPES = "'UBIGINT', 'BIGINT', 'UHUGEINT', 'HUGEINT'"


def _whole_number(name: str) -> str:
    text, kind = f"{name}_text", f"{name}_type"
    return rf"""case
            when {kind} in ({_INTEGER_TYPES}) then try_cast({text} as bigint)
            when {kind} = 'VARCHAR' and regexp_full_match({text}, '\d+(\.0+)?')
                then try_cast(split_part({text}, '.', 1) as bigint)
            when {kind} = 'DOUBLE' and try_cast({text} as double) = floor(try_cast({text} as double))
                then try_cast(try_cast({text} as double) as bigint)
        end"""


_DROPPED = "json_extract_string(properties, '$.dropped')"
_IS_COUNTED = "list_contains($counted, event_name)"
_COLUMNS = ", ".join(f"{name}: 'VARCHAR'" for name in _OUTER) + "".join(
    f", {name}: 'JSON'" for name in events.PROPERTIES_FIELDS
)
_NAME_TYPES = ", ".join(f"json_type(raw, '$.{name}')" for name in events.NAME_FIELDS)
_INSIDE = "{" + ", ".join(f'"{name}": "VARCHAR"' for name in _READ_INNER) + "}"

_NO_PROPERTIES = json.dumps(dict.fromkeys(sorted({*events.FIELDS, *events.PROPERTIES_FIELDS})))

READ_LINES = rf"""
with line as (
    select *, cast(coalesce({", ".join(events.PROPERTIES_FIELDS)}) as varchar) as properties_text
    from read_json(
        $staged, format = 'newline_delimited', ignore_errors = true, maximum_object_size = $longest,
        columns = {{{_COLUMNS}}}
    )
),
extracted as (
    select
        *,
        case
            when starts_with(properties_text, '{{') then json_transform(properties_text, '{_INSIDE}')
            -- as a text: so do exports of warehouses write it
            when starts_with(properties_text, '"{{') and json_valid(json_extract_string(properties_text, '$'))
                then json_transform(json_extract_string(properties_text, '$'), '{_INSIDE}')
        end as inside
    from line
),
named as (
    select
        {_read(*events.NAME_FIELDS)} as event_name,
        {_read(*events.ID_FIELDS)} as own_id,
        {_read(events.SOURCE_FIELD)} as own_source,
        {_read(*events.ACCOUNT_FIELDS)} as account_id,
        {_read(*events.TIME_FIELDS)} as time_text,
        {_read(*events.WEIGHT_FIELDS)} as weight_text,
        {_read(*events.ENDPOINT_FIELDS)} as endpoint,
        try_cast({_read(*events.STATUS_FIELDS)} as integer) as status,
        properties_text as properties,
        properties_text is null or inside is not null as is_object,
        cast($ingested_at as timestamptz) as arrived_at
    from extracted
),
valued as (
    select
        *,
        {EVENT_AT} as event_at
    from named
),
vouched as (
    select
    event_name, own_id, own_source, account_id, event_at, time_text is not null as has_time,
    case when weight_text is null then 1 else try_cast(weight_text as bigint) end as sample_weight,
    endpoint, status, properties, hash(coalesce(own_source, ''), own_id) as id_hash,
    coalesce(
        {_IS_COUNTED}
        and (properties is not null or list_contains($bare, event_name))
        and (own_id is null or own_id <> '')
        and strlen(account_id) between 1 and {events.MAX_ACCOUNT_ID_BYTES}
        -- not what may have been a list, an object, a boolean or no whole number before it became text
        and case
            when account_id >= ':' then not (
                starts_with(account_id, '[') or starts_with(account_id, '{{')
                or account_id in ('true', 'false', 'NaN', 'Infinity')
            )
            else regexp_full_match(account_id, '\d+') or try_cast(account_id as double) is null
        end
        and is_object
        and event_at >= greatest({EARLIEST}, $kept_from) and event_at < {LATEST}
        and (weight_text is null or (
            regexp_full_match(weight_text, '\d{{1,9}}')
            and try_cast(weight_text as bigint) between 1 and {events.MAX_SAMPLE_WEIGHT}
        )),
        false
    ) as is_judged
    from valued
)
-- what the others hold is read again
select * replace (case when is_judged then properties end as properties) from vouched
"""
JUDGE_LINES = rf"""
create temp table judged as
with line as (
    select
        *, json_valid(raw) as is_json
    from lines
),
-- A list of events in one line, or the envelope of a request to the collector with its time of arrival.
opened as (
    select
        *,
        case when is_json and item = 0 then coalesce({_NAME_TYPES}) is null else false end as is_frame,
        case when is_frame then json_extract_string(
            raw, ['$.received_at', '$.line', '$.received_source', '$.received_key']
        ) end as envelope,
        cast(case
            when not is_frame then null
            when json_type(raw) = 'ARRAY' then json_extract(raw, '$[*]')
            when json_type(raw, '$.batch') = 'ARRAY' then json_extract(raw, '$.batch[*]')
        end as varchar[]) as events_of_line
    from line
),
each_event as (
    select
        seq, landed_file, origin, line_number, undecoded, events_of_line = [] as is_empty,
        case when coalesce(events_of_line, []) = [] then item
            else generate_subscripts(coalesce(nullif(events_of_line, []), [raw]), 1) end as item,
        unnest(coalesce(nullif(events_of_line, []), [
            -- text that the collector could not read
            case when envelope[1] is not null then coalesce(envelope[2], raw) else raw end
        ])) as raw,
        coalesce(try_cast(envelope[1] as timestamptz), arrived_at, cast($ingested_at as timestamptz)) as arrived_at,
        envelope[4] as received_key, envelope[3] as received_source
    from opened
),
-- The source of an event that names none is its project or its key. It is written into the event: where that is
-- refused, it has the same identity when it is judged again. The first of two fields with one name is read.
sourced as (
    select * replace (
        case when is_source_received
            then '{{"{events.SOURCE_FIELD}":' || to_json(received_source)
                || case when raw = '{{}}' then '}}' else ',' || substr(raw, 2) end
            else raw end as raw
    )
    from (
        select
            *,
            case
                when received_source is null or item = 0 or not starts_with(raw, '{{') then false
                when not contains(raw, '"{events.SOURCE_FIELD}"') then true
                else coalesce(json_extract_string(raw, '$.{events.SOURCE_FIELD}'), '') = ''
            end as is_source_received
        from each_event
    )
),
checked as (
    select *, json_valid(raw) as is_json
    from sourced
),
outer_fields as (
    select
        *,
        case when is_json then json_type(raw) = 'OBJECT' else false end as is_object,
        case when is_json then json_extract_string(raw, [{_paths(_OUTER)}]) end as texts,
        case when is_json then json_extract(raw, [{_paths(_OUTER)}]) end as fields,
        case when is_json then json_extract(raw, [{_paths(events.PROPERTIES_FIELDS)}]) end as insides
    from checked
),
sent as (
    select *, coalesce(nullif(insides[1], 'null'), nullif(insides[2], 'null')) as sent_properties
    from outer_fields
),
inner_fields as (
    select
        * exclude (sent_properties),
        json_extract_string(properties, [{_paths(_INNER)}]) as inner_texts,
        json_extract(properties, [{_paths(_INNER)}]) as inner_fields
    from (
        select
            *,
            case
                when json_type(sent_properties) = 'VARCHAR'
                    and json_type(try_cast(sent_properties ->> '$' as json)) = 'OBJECT'
                    then json(sent_properties ->> '$')
                when sent_properties is null and is_object
                    and not list_contains($bare, {_text(*events.NAME_FIELDS)})
                    then nullif(json_merge_patch(raw, '{_NO_PROPERTIES}'), '{{}}')
                else sent_properties
            end as properties
        from sent
    )
),
named as (
    select
        seq, item, landed_file, origin, line_number, raw, undecoded, is_json, is_object, is_empty, arrived_at,
        received_key, is_source_received,
        {_text(*events.NAME_FIELDS)} as event_name,
        nullif({_text(*events.ID_FIELDS)}, '') as own_id,
        {_text(events.SOURCE_FIELD)} as own_source,
        {_text(*events.ACCOUNT_FIELDS)} as account_id,
        json_type({_json(*events.ACCOUNT_FIELDS)}) as account_type,
        {_text(*events.TIME_FIELDS)} as time_text,
        {_text(*events.WEIGHT_FIELDS)} as weight_text,
        json_type({_json(*events.WEIGHT_FIELDS)}) as weight_type,
        {_text(*events.QUOTA_FIELDS)} as quota_text,
        json_type({_json(*events.QUOTA_FIELDS, null_counts=True)}) as quota_type,
        lower(replace(json_extract_string(properties, '$.metric'), '_', '-')) as metric,
        cast(properties as varchar) as properties,
        {_text(*events.ENDPOINT_FIELDS)} as endpoint,
        try_cast({_text(*events.STATUS_FIELDS)} as integer) as status
    from inner_fields
),
valued as (
    select
        *,
        {EVENT_AT} as event_at,
        {_whole_number("quota")} as quota,
        case when weight_type is null then 1 else {_whole_number("weight")} end as sample_weight,
        case when event_name = '{events.QUOTA_SET}' then {OWN_QUOTAS} end as own_quotas
    from (
        select * replace (
            -- a whole number that was written as a fraction, where a double is still exact
            case when account_type = 'DOUBLE' and regexp_full_match(account_id, '-?\d{{1,15}}\.0+')
                then split_part(account_id, '.', 1) else account_id end as account_id
        )
        from named
    )
),
reasoned as (
select
    *,
    case
        when is_empty then '{Rejection.EMPTY_LIST}'
        when not is_json
            and ((undecoded is not null and regexp_matches(raw, '{_CONTROL}')) or starts_with(raw, {_GZIP}))
            then '{Rejection.NOT_TEXT}'
        when not is_json and undecoded is not null then '{Rejection.INVALID_UTF8}'
        when not is_json then '{Rejection.INVALID_JSON}'
        when not is_object then '{Rejection.NOT_AN_OBJECT}'
        when event_name = '{events.EVENTS_DROPPED}' then '{Rejection.DROPPED}'
        -- bytes that are not UTF-8 are U+FFFD by now: in a name of a field, or where they may be two ids at once
        when undecoded is not null and (
            regexp_matches(raw, '\x{{FFFD}}[^"]*"\s*:')
            or contains(concat(event_name, own_id, own_source, account_id, time_text), chr(65533))
        ) then '{Rejection.INVALID_UTF8}'
        when not coalesce(list_contains($known, event_name), false) then '{Rejection.UNKNOWN_EVENT}'
        when account_id is null or account_id = '' then '{Rejection.MISSING_ACCOUNT}'
        -- a whole number beyond 64 bits has the type DOUBLE
        when (account_type not in ('VARCHAR', {_INTEGER_TYPES}) and not regexp_full_match(account_id, '-?\d+'))
            or strlen(account_id) > {events.MAX_ACCOUNT_ID_BYTES} then '{Rejection.INVALID_ACCOUNT}'
        when event_at is null or event_at < {EARLIEST} or event_at >= {LATEST} then '{Rejection.INVALID_TIME}'
        when event_name = '{events.QUOTA_SET}' and not {HAS_QUOTAS} then '{Rejection.INVALID_QUOTA}'
        when {_IS_COUNTED}
            and (sample_weight is null or sample_weight not between 1 and {events.MAX_SAMPLE_WEIGHT})
            then '{Rejection.INVALID_WEIGHT}'
        when {_IS_COUNTED} and event_at < $kept_from then '{Rejection.TOO_OLD}'
    end as reason
from valued
)
select
    seq, item, own_source, own_id, event_name, account_id, event_at, time_text is not null as has_time,
    case when {_IS_COUNTED} then sample_weight end as sample_weight,
    case when event_name = '{events.QUOTA_SET}' and quota between 0 and {events.MAX_QUOTA} then quota end as quota,
    endpoint, status, properties, landed_file, origin, line_number, arrived_at, reason,
    received_key, is_source_received,
    -- of an event that has a line for itself it can be looked up there
    case
        when reason in ('{Rejection.INVALID_UTF8}', '{Rejection.NOT_TEXT}') and item = 0 then coalesce(undecoded, raw)
        when reason is not null or item > 0 then raw
    end as raw,
    case when reason is not null then strlen(raw) end as lost_bytes,
    case
        when is_empty then 0
        when reason = '{Rejection.DROPPED}' then case
            when try_cast({_DROPPED} as bigint) between 1 and {events.MAX_EVENTS_DROPPED}
            then try_cast({_DROPPED} as bigint) else 1 end
        when reason = '{Rejection.NOT_TEXT}' then greatest(1, strlen(raw) // {events.TYPICAL_EVENT_BYTES})
        -- what names no event may hold several: objects without a line break, an envelope
        when reason is not null and (not is_json or not is_object or event_name is null)
            then greatest(1, len(regexp_extract_all(raw, $said)))
        when reason is not null then 1
    end as lost_events
from reasoned
"""
