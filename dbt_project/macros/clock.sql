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

{# Events up to here count; later ones are kept and count when their time has come (definitions D9). #}
{% macro counted_until() %}{{ return(as_of() + modules.datetime.timedelta(minutes=5)) }}{% endmacro %}

{% macro period_start() %}
    {{ return(as_of().replace(day=1, hour=0, minute=0, second=0, microsecond=0)) }}
{% endmacro %}

{% macro period_end() %}
    {{ return((period_start() + modules.datetime.timedelta(days=32)).replace(day=1)) }}
{% endmacro %}

{% macro previous_period_start() %}
    {{ return((period_start() - modules.datetime.timedelta(days=1)).replace(day=1)) }}
{% endmacro %}

{# Midnight of the business day, in UTC. Where DST skips midnight, the first moment of the day. #}
{% macro business_day_start() %}
    {%- set zone = modules.pytz.timezone(var("timezone")) -%}
    {%- set local = modules.pytz.utc.localize(as_of()).astimezone(zone) -%}
    {%- set midnight = modules.datetime.datetime(local.year, local.month, local.day) -%}
    {{ return(zone.normalize(zone.localize(midnight)).astimezone(modules.pytz.utc).replace(tzinfo=none)) }}
{% endmacro %}

{# ISO weekday of today in UTC, 1 is Monday. #}
{% macro as_of_weekday() %}{{ return(as_of().isoweekday()) }}{% endmacro %}

{# Days, with fraction, from now until the end of the period. #}
{% macro days_until_period_end() %}{{ return((period_end() - as_of()).total_seconds() / 86400) }}{% endmacro %}

{# SQL: how many days with the ISO weekday `weekday` are left in the period after today. #}
{% macro remaining_days(weekday) %}
    {%- set days_left = (period_end().date() - as_of().date()).days - 1 -%}
    case {{ weekday }}
    {%- for number in range(1, 8) -%}
        {#- the first such day is this many days ahead, 1 to 7 -#}
        {%- set ahead = (number - as_of_weekday() - 1) % 7 + 1 %}
        when {{ number }} then {{ (days_left - ahead) // 7 + 1 if days_left >= ahead else 0 }}
    {%- endfor %}
    end
{%- endmacro %}
