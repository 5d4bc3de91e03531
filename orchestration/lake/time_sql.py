"""The SQL that reads the time of an event: `EVENT_AT`, from its text `time_text` and the arrival `arrived_at`.

Which ways to write a time are read, and why others are not, is in `usage/events.py`. A time that is none of them, or
lies outside of the bounds, is refused by `event_sql.py`.
"""

from orchestration.usage import events

EARLIEST = f"timestamptz '{events.EARLIEST_TIME:%Y-%m-%d}'"
LATEST = f"cast($ingested_at as timestamptz) + interval {events.MAX_DAYS_AHEAD} day"

_COMMON = "case strlen(time_text)"
for _rest in (
    " __:__:__",
    "T__:__:__Z",
    "T__:__:__.___Z",
    "T__:__:__+00:00",
    "T__:__:__.______Z",
    "T__:__:__.______+00:00",
):
    _COMMON += f" when {10 + len(_rest)} then time_text like '____-__-__{_rest}'"
_COMMON += " end"
_AS_THE_CAST = (
    "[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-5][0-9]([.][0-9]+)?)?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?)?"
)
# Another one as the cast takes it: a capital T and Z, a point, no blank before the offset.
_CAPITAL = r"regexp_replace(replace(upper(time_text), ',', '.'), ' ?(UTC|GMT|Z|[+-][0-9:]*)$', '\1')"
_REWRITTEN = rf"regexp_replace({_CAPITAL}, '(UTC|GMT)$', 'Z')"
_WITH_SECONDS = rf"regexp_replace({_REWRITTEN}, '^(....)(..)(..)T(..)(..)($|[^0-9])', '\1\2\3T\4\500\6')"
_SEPARATED = rf"regexp_replace({_WITH_SECONDS}, '^(....)(..)(..)T(..)(..)(..)', '\1-\2-\3T\4:\5:\6')"
_NUMBER, _WHOLE = "try_cast(time_text as double)", "try_cast(time_text as bigint)"

EVENT_AT = f"""
        coalesce(case
            when time_text is null then arrived_at
            -- Much the most common ways to write a time need no further look. Others do: the cast takes 'today',
            -- 'infinity' and its own idea of an abbreviated zone.
            when {_COMMON} then try_cast(time_text as timestamptz)
            when regexp_full_match(time_text, '{_AS_THE_CAST}') then try_cast(time_text as timestamptz)
            when regexp_full_match(time_text, '{events.EPOCH}') then case
                when contains(time_text, '.') then to_timestamp(
                    {_NUMBER} / case when {_NUMBER} < 1e11 then 1 when {_NUMBER} < 1e14 then 1e3 else 1e6 end
                )
                else make_timestamptz(case
                    when {_WHOLE} < {10**11} then {_WHOLE} * {10**6}
                    when {_WHOLE} < {10**14} then {_WHOLE} * {10**3}
                    when {_WHOLE} < {10**17} then {_WHOLE}
                    else {_WHOLE} // {10**3} end)
                end
            when regexp_full_match(time_text, '{events.ISO_TIME}') then try_cast({_REWRITTEN} as timestamptz)
            when regexp_full_match(time_text, '{events.BASIC_ISO_TIME}') then try_cast({_SEPARATED} as timestamptz)
        end, case
            -- a leap second
            when substr(time_text, 15, 5) = '59:60' and regexp_full_match(time_text, '{events.ISO_TIME}')
                then try_cast(replace({_REWRITTEN}, '59:60', '59:59') as timestamptz) + interval 1 second
        end)"""
