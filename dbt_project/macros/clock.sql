{# The moments that a build depends on, all derived from `var('now')` and `var('timezone')`. Each returns a
   datetime in UTC without zone; write it into SQL with utc_literal(). #}

{% macro as_of() %}
    {%- if var("now") -%}
        {%- set moment = modules.datetime.datetime.fromisoformat(var("now")) -%}
    {%- else -%}
        {%- set moment = run_started_at -%}
    {%- endif -%}
    {{ return(moment.astimezone(modules.pytz.utc).replace(tzinfo=none)) }}
{% endmacro %}

{# Events up to here count; later ones are kept and count when their time has come
   (docs/meaning/definitions.md#future-events). #}
{% macro counted_until() %}{{ return(as_of() + modules.datetime.timedelta(minutes=5)) }}{% endmacro %}

{# IANA zone of the business day. The jobs pass the variable; by hand it is HEADROOM_TIMEZONE. #}
{% macro business_zone() %}{{ return(var("timezone") or env_var("HEADROOM_TIMEZONE", "") or "UTC") }}{% endmacro %}

{# Whether a business day may begin within a UTC hour: the zone's distance from UTC is or was no whole number of hours.
   Asked of the first day and the first of July of each year since 2000, before which no event counts. #}
{% macro business_days_split_hours() %}
    {%- set zone, split = modules.pytz.timezone(business_zone()), [] -%}
    {%- for year in range(2000, as_of().year + 2) -%}
        {%- for month in (1, 7) -%}
            {%- set offset = zone.utcoffset(modules.datetime.datetime(year, month, 1)) -%}
            {%- if offset.total_seconds() % 3600 -%}{%- do split.append(year) -%}{%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(split | length > 0) }}
{% endmacro %}

{# Whether sampled calls are billed, too. The jobs pass the variable; by hand it is HEADROOM_BILL_SAMPLED. #}
{% macro bills_sampled() %}
    {%- set said = (var("bill_sampled") or env_var("HEADROOM_BILL_SAMPLED", "")) | string | lower -%}
    {{ return(said in ("1", "true", "t", "yes", "y", "on")) }}
{% endmacro %}

{# Midnight of the business day, in UTC. Where DST skips midnight, the first moment of the day. #}
{% macro business_day_start() %}
    {%- set zone = modules.pytz.timezone(business_zone()) -%}
    {%- set local = modules.pytz.utc.localize(as_of()).astimezone(zone) -%}
    {%- set midnight = modules.datetime.datetime(local.year, local.month, local.day) -%}
    {{ return(zone.normalize(zone.localize(midnight)).astimezone(modules.pytz.utc).replace(tzinfo=none)) }}
{% endmacro %}

{# The midnight after it: a call that is ahead of the clock may be of the next day. #}
{% macro business_day_end() %}
    {%- set zone = modules.pytz.timezone(business_zone()) -%}
    {%- set local = modules.pytz.utc.localize(as_of()).astimezone(zone) -%}
    {%- set midnight = modules.datetime.datetime(local.year, local.month, local.day) + modules.datetime.timedelta(days=1) -%}
    {{ return(zone.normalize(zone.localize(midnight)).astimezone(modules.pytz.utc).replace(tzinfo=none)) }}
{% endmacro %}

{# Midnight UTC so many days before today: days_ago(7) up to but not days_ago(0) are the last 7 complete days. #}
{% macro days_ago(days) %}
    {{ return(as_of().replace(hour=0, minute=0, second=0, microsecond=0) - modules.datetime.timedelta(days=days)) }}
{% endmacro %}

{# ISO weekday of today in UTC, 1 is Monday. #}
{% macro as_of_weekday() %}{{ return(as_of().isoweekday()) }}{% endmacro %}

{# SQL: on how many days after today, and before the one that is `days` days ahead, the ISO weekday is `weekday`. #}
{% macro weekdays_ahead(weekday, days) -%}
    cast(floor(({{ days }} + 5 - ({{ weekday }} - {{ as_of_weekday() }} + 6) % 7) / 7.0) as integer)
{%- endmacro %}

{# SQL: the first UTC day that the lake keeps calls of; what is older does not count, whether it is removed yet or not.
   Asked once in an invocation, and kept in the graph, which all its nodes share; unit tests have no lake. #}
{% macro kept_from() %}
    {%- set key = "kept_from " ~ invocation_id -%}
    {%- if execute and model.resource_type != "unit_test" and key not in graph -%}
        {%- set day = lake_kept_from() -%}
        {%- do graph.update({key: modules.datetime.datetime(day.year, day.month, day.day) if day else since_ever()}) -%}
    {%- endif -%}
    {{ return(date_literal(graph.get(key, since_ever()))) }}
{% endmacro %}

{# Bounds of what has no beginning or no end. #}
{% macro since_ever() %}{{ return(modules.datetime.datetime(1970, 1, 1)) }}{% endmacro %}
{% macro for_ever() %}{{ return(modules.datetime.datetime(9999, 12, 31)) }}{% endmacro %}

{# SQL: the hours of a day as rows, 0 to 23. #}
{% macro hours_of_day() %}(values ({{ range(24) | join("), (") }})){% endmacro %}
