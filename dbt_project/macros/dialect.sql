{# Everything that differs between engines, and nothing else. A model that needs an engine's own function gets a
   macro here, with a `default__` (DuckDB) and, where it differs, a `clickhouse__` version in clickhouse.sql. #}

{% macro utc_timestamp(expression) %}{{ return(adapter.dispatch('utc_timestamp')(expression)) }}{% endmacro %}
{# A lake timestamp as a timestamp without zone that reads in UTC, whatever the session's zone is. By its microseconds:
   `at time zone` asks a calendar for each row, which was more than half of the work of counting ten million calls. #}
{% macro default__utc_timestamp(expression) %}make_timestamp(epoch_us({{ expression }})){% endmacro %}

{% macro lake_timestamp(expression) %}{{ return(adapter.dispatch('lake_timestamp')(expression)) }}{% endmacro %}
{# The other way round. Compared with it, no row of the lake is converted: that is half the time of a plain count. #}
{% macro default__lake_timestamp(expression) %}({{ expression }} at time zone 'UTC'){% endmacro %}

{% macro utc_literal(moment) %}{{ return(adapter.dispatch('utc_literal')(moment)) }}{% endmacro %}
{% macro default__utc_literal(moment) %}timestamp '{{ moment.strftime("%Y-%m-%d %H:%M:%S.%f") }}'{% endmacro %}

{% macro midnight(date_expression) %}{{ return(adapter.dispatch('midnight')(date_expression)) }}{% endmacro %}
{# The first moment of a UTC day. #}
{% macro default__midnight(date_expression) %}cast({{ date_expression }} as timestamp){% endmacro %}

{% macro nullable(expression) %}{{ return(adapter.dispatch('nullable')(expression)) }}{% endmacro %}
{# What lag() and lead() look at, where the engine must be told that there may be no such row. #}
{% macro default__nullable(expression) %}{{ expression }}{% endmacro %}

{% macro business_date(expression) %}{{ return(adapter.dispatch('business_date')(expression)) }}{% endmacro %}
{# The calendar day of the business zone on which a UTC timestamp falls. #}
{% macro default__business_date(expression) -%}
cast(({{ expression }} at time zone 'UTC') at time zone '{{ business_zone() }}' as date)
{%- endmacro %}

{% macro plus_days(expression, days) %}{{ return(adapter.dispatch('plus_days')(expression, days)) }}{% endmacro %}
{# A UTC timestamp plus a fractional number of days, exact to the second. #}
{% macro default__plus_days(expression, days) -%}
({{ expression }} + to_seconds(cast(floor(({{ days }}) * 86400) as bigint)))
{%- endmacro %}

{% macro plus_hours(expression, hours) %}{{ return(adapter.dispatch('plus_hours')(expression, hours)) }}{% endmacro %}
{# A UTC timestamp plus a whole number of hours. #}
{% macro default__plus_hours(expression, hours) %}({{ expression }} + interval '1 hour' * ({{ hours }})){% endmacro %}

{% macro days_from(first_date, last_date) %}{{ return(adapter.dispatch('days_from')(first_date, last_date)) }}{% endmacro %}
{# One row for each date from first to last, both included. #}
{% macro default__days_from(first_date, last_date) -%}
cast(unnest(generate_series({{ first_date }}, {{ last_date }}, interval 1 day)) as date)
{%- endmacro %}

{% macro account_hash(column) %}{{ return(adapter.dispatch('account_hash')(column)) }}{% endmacro %}
{# Of the hours of a million accounts, those of one are found by four bytes a row: in a twelfth of the time of its id. The
   first 32 bits of the MD5 of the id, less 2^31: the same on each engine, for ever, as an integer with a sign. #}
{% macro default__account_hash(column) -%}
cast(cast('0x' || left(md5({{ column }}), 8) as bigint) - 2147483648 as integer)
{%- endmacro %}

{% macro json_text(column, field) %}{{ return(adapter.dispatch('json_text')(column, field)) }}{% endmacro %}
{% macro default__json_text(column, field) %}json_extract_string({{ column }}, '$.{{ field }}'){% endmacro %}

{% macro json_scalar(column, field) %}{{ return(adapter.dispatch('json_scalar')(column, field)) }}{% endmacro %}
{# The same of a text, a number or a boolean; null for a list and an object. #}
{% macro default__json_scalar(column, field) -%}
case
    when json_type({{ column }}, '$.{{ field }}') in ('ARRAY', 'OBJECT') then null
    else json_extract_string({{ column }}, '$.{{ field }}')
end
{%- endmacro %}

{% macro json_has(column, fields) -%}
({%- for field in fields %}{{ adapter.dispatch('json_has_one')(column, field) }}{{ " or " if not loop.last }}{% else %}false{% endfor -%})
{%- endmacro %}
{% macro default__json_has_one(column, field) %}coalesce(json_exists({{ column }}, '$.{{ field }}'), false){% endmacro %}

{% macro text_literal(text) %}{{ return(adapter.dispatch('text_literal')(text)) }}{% endmacro %}
{% macro default__text_literal(text) %}'{{ text | replace("'", "''") }}'{% endmacro %}

{% macro is_number(text) %}{{ return(adapter.dispatch('is_number')(text)) }}{% endmacro %}
{# Whether the text is a decimal number, with an exponent or without. #}
{% macro default__is_number(text) -%}
regexp_full_match({{ text }}, '-?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]+)?')
{%- endmacro %}

{% macro decimal_of(text) %}{{ return(adapter.dispatch('decimal_of')(text)) }}{% endmacro %}
{# The text as a decimal with 18 places, exactly; null where it has more than 20 digits before the point. #}
{% macro default__decimal_of(text) %}try_cast({{ text }} as decimal(38, 18)){% endmacro %}

{% macro meter_of(metric) %}{{ return(adapter.dispatch('meter_of')(metric)) }}{% endmacro %}
{# The name of the meter that a sender's metric is of. #}
{% macro default__meter_of(metric) %}lower(replace({{ metric }}, '_', '-')){% endmacro %}

{% macro whole_number(text) %}{{ return(adapter.dispatch('whole_number')(text)) }}{% endmacro %}
{# The text as an integer where it is a whole number of at most 18 digits (12, 12.0), else null. #}
{% macro default__whole_number(text) -%}
cast(case when regexp_full_match({{ text }}, '[0-9]{1,18}(\.0+)?') then split_part({{ text }}, '.', 1) end as bigint)
{%- endmacro %}

{% macro iso_weekday(date_expression) %}{{ return(adapter.dispatch('iso_weekday')(date_expression)) }}{% endmacro %}
{# 1 is Monday, 7 is Sunday. #}
{% macro default__iso_weekday(date_expression) %}cast(isodow({{ date_expression }}) as integer){% endmacro %}

{% macro percentage(part, whole) %}{{ return(adapter.dispatch('percentage')(part, whole)) }}{% endmacro %}
{# part / whole * 100 as a decimal with six places, cut off and never rounded up: 79.9999999 stays below 80. Whole
   and fraction are divided as integers, because a decimal division is a floating one here. `whole` is positive. #}
{% macro default__percentage(part, whole) -%}
(
    cast(cast({{ part }} as hugeint) * 100 // {{ whole }} as decimal(18, 0))
    + cast((cast({{ part }} as hugeint) * 100 % {{ whole }}) * 1000000 // {{ whole }} as decimal(7, 0))
    * cast(0.000001 as decimal(7, 6))
)
{%- endmacro %}

{% macro ratio(part, whole) %}{{ return(adapter.dispatch('ratio')(part, whole)) }}{% endmacro %}
{# part / whole as a decimal with six places, cut off: 1 only where part is the whole. `whole` is positive. #}
{% macro default__ratio(part, whole) -%}
(cast(cast({{ part }} as hugeint) * 1000000 // {{ whole }} as decimal(18, 0)) * cast(0.000001 as decimal(7, 6)))
{%- endmacro %}

{% macro rounded(expression) %}{{ return(adapter.dispatch('rounded')(expression)) }}{% endmacro %}
{# A floating number as a decimal with six places, half a step away from zero. A decimal, so that sums do not depend on
   the order in which threads add up. #}
{% macro default__rounded(expression) %}cast({{ expression }} as decimal(24, 6)){% endmacro %}

{% macro ceiling_division(part, whole) %}{{ return(adapter.dispatch('ceiling_division')(part, whole)) }}{% endmacro %}
{# The smallest integer that is not below part / whole; both are positive integers. #}
{% macro default__ceiling_division(part, whole) %}(({{ part }} + {{ whole }} - 1) // {{ whole }}){% endmacro %}

{% macro cents(amount) %}{{ return(adapter.dispatch('cents')(amount)) }}{% endmacro %}
{# An exact amount that is not negative, in whole cents; half a cent is a cent. #}
{% macro default__cents(amount) %}cast(round({{ amount }}, 2) as decimal(28, 2)){% endmacro %}

{% macro date_literal(moment) %}{{ return(adapter.dispatch('date_literal')(moment)) }}{% endmacro %}
{# The UTC day of a moment. A literal, not a cast: by it the engine decides before reading which files it needs. #}
{% macro default__date_literal(moment) %}date '{{ moment.strftime("%Y-%m-%d") }}'{% endmacro %}

{% macro hours_between(start, end) %}{{ return(adapter.dispatch('hours_between')(start, end)) }}{% endmacro %}
{# Whole hours from one timestamp to a later one; what is left of an hour is cut off. #}
{% macro default__hours_between(start, end) %}date_sub('hour', {{ start }}, {{ end }}){% endmacro %}

{% macro joined_text(text, order) %}{{ return(adapter.dispatch('joined_text')(text, order)) }}{% endmacro %}
{# The texts of a group, one after the other in this order, with nothing between them. #}
{% macro default__joined_text(text, order) %}string_agg({{ text }}, '' order by {{ order }}){% endmacro %}

{% macro sampling_variance(weight, units) %}{{ return(adapter.dispatch('sampling_variance')(weight, units)) }}{% endmacro %}
{# The variance of a sum of sampled weights that count `units` each, w * (w - 1) * units^2: exact, and zero
   where all weights are 1 (docs/meaning/definitions.md#sampled-events). #}
{% macro default__sampling_variance(weight, units) -%}
cast(sum(cast({{ weight }} as hugeint) * ({{ weight }} - 1) * {{ units }} * {{ units }}) as decimal(38, 0))
{%- endmacro %}

{% macro lake_days() %}{{ return(adapter.dispatch('lake_days')()) }}{% endmacro %}
{# One row per UTC day with calls (as text) and the last batch that brought some; from the names, no file is opened. #}
{% macro default__lake_days() %}
    select
        replace(string_split(file, '/')[-2], 'event_date=', '') as day,
        max(cast(string_split(file, '/')[-4] as bigint)) as last_batch
    from glob('{{ lake_folder() }}/batches/*/calls/*/*.parquet')
    group by day
    order by day
{% endmacro %}

{% macro touched_hours(batch) %}{{ return(adapter.dispatch('touched_hours')(batch)) }}{% endmacro %}
{# The UTC hours with events of later batches than that one, and the day of each as text. #}
{% macro default__touched_hours(batch) %}
    {%- set files = run_query("select file from glob('" ~ lake_folder() ~ "/batches/*/calls/*/*.parquet') where cast(string_split(file, '/')[-4] as bigint) > " ~ batch).rows -%}
    select distinct
        cast(event_date as varchar) as day,
        date_trunc('hour', {{ utc_timestamp('event_at') }}) as touched_hour
    from read_parquet([{% for row in files %}{{ text_literal(row.file) }}{{ ", " if not loop.last }}{% endfor %}], hive_partitioning = true)
    where batch > {{ batch }}
    order by touched_hour
{% endmacro %}

{% macro lake_kept_from() %}{{ return(adapter.dispatch('lake_kept_from')()) }}{% endmacro %}
{# The date in the source kept_from; none in a lake that an earlier version has made. #}
{% macro default__lake_kept_from() %}
    {%- set path = lake_folder() ~ "/kept_from.parquet" -%}
    {%- if not run_query("select file from glob('" ~ path ~ "')").rows -%}{{ return(none) }}{%- endif -%}
    {{ return(run_query("select kept_from from read_parquet('" ~ path ~ "')").rows[0][0]) }}
{% endmacro %}

{% macro lake_fingerprint(batch) %}{{ return(adapter.dispatch('lake_fingerprint')(batch)) }}{% endmacro %}
{# A text that is another one in a lake whose batch of that number is not the same one; empty where it is missing. #}
{% macro default__lake_fingerprint(batch) %}
    {%- set manifest = lake_folder() ~ "/batches/" ~ "%06d" % batch ~ "/manifest.json" -%}
    {%- if not run_query("select file from glob('" ~ manifest ~ "')").rows -%}{{ return("") }}{%- endif -%}
    {{ return(run_query("select md5(content) from read_text('" ~ manifest ~ "')").rows[0][0]) }}
{% endmacro %}

{% macro rows_fingerprint(relation) %}{{ return(adapter.dispatch('rows_fingerprint')(relation)) }}{% endmacro %}
{# A text that is another one where the rows of the relation, in whatever order, are not the same. #}
{% macro default__rows_fingerprint(relation) -%}
md5(string_agg(cast({{ relation }} as varchar), '' order by cast({{ relation }} as varchar)))
{%- endmacro %}

{% macro replaced_table(relation) %}{{ return(adapter.dispatch('replaced_table')(relation)) }}{% endmacro %}
{# What stands before the query whose rows are the table from now on, at once and as a whole. #}
{% macro default__replaced_table(relation) %}create or replace table {{ relation }} as{% endmacro %}

{% macro changed_rows(relation, changes) %}{{ return(adapter.dispatch('changed_rows')(relation, changes)) }}{% endmacro %}
{# A statement that changes all rows, and is done when it answers. #}
{% macro default__changed_rows(relation, changes) %}update {{ relation }} set {{ changes }}{% endmacro %}

{% macro lake_folder() %}{{ return(graph.sources["source.headroom.lake.raw_events"].meta.folder) }}{% endmacro %}

{% macro months_from(first_date, last_date) %}{{ return(adapter.dispatch('months_from')(first_date, last_date)) }}{% endmacro %}
{# One row for the first day of each month from first_date's to last_date's, both included. #}
{% macro default__months_from(first_date, last_date) -%}
cast(unnest(generate_series(date_trunc('month', {{ first_date }}), {{ last_date }}, interval 1 month)) as date)
{%- endmacro %}

{% macro month_before(date_expression) %}{{ return(adapter.dispatch('month_before')(date_expression)) }}{% endmacro %}
{% macro default__month_before(date_expression) %}cast({{ date_expression }} - interval 1 month as date){% endmacro %}

{% macro month_after(date_expression) %}{{ return(adapter.dispatch('month_after')(date_expression)) }}{% endmacro %}
{% macro default__month_after(date_expression) %}cast({{ date_expression }} + interval 1 month as date){% endmacro %}

{% macro day_of_month(month_start, day) %}{{ return(adapter.dispatch('day_of_month')(month_start, day)) }}{% endmacro %}
{# That day of the month, or its last day where it is shorter. #}
{% macro default__day_of_month(month_start, day) -%}
({{ month_start }} + cast(least({{ day }}, extract(day from last_day({{ month_start }}))) as integer) - 1)
{%- endmacro %}

{% macro days_between(first, last) %}{{ return(adapter.dispatch('days_between')(first, last)) }}{% endmacro %}
{# Days from the date `first` to that of `last`. #}
{% macro default__days_between(first, last) %}(cast({{ last }} as date) - cast({{ first }} as date)){% endmacro %}

{% macro seconds_between(start, end) %}{{ return(adapter.dispatch('seconds_between')(start, end)) }}{% endmacro %}
{# Whole seconds from one timestamp to a later one. #}
{% macro default__seconds_between(start, end) %}date_diff('second', {{ start }}, {{ end }}){% endmacro %}

{% macro weighted_mean(value, weight) %}{{ return(adapter.dispatch('weighted_mean')(value, weight)) }}{% endmacro %}
{# The mean of whole numbers by whole weights, cut off to a whole number; exact beyond 64 bits on the way. #}
{% macro default__weighted_mean(value, weight) -%}
cast(sum(cast({{ value }} as hugeint) * {{ weight }}) // sum({{ weight }}) as bigint)
{%- endmacro %}

{% macro quantile(expression, share) %}{{ return(adapter.dispatch('quantile')(expression, share)) }}{% endmacro %}
{# The value below which that share of the group is, between two values in proportion; nulls do not count. In
   ClickHouse it is quantileExactInclusive(share)(expression). #}
{% macro default__quantile(expression, share) %}quantile_cont(cast({{ expression }} as double), {{ share }}){% endmacro %}
