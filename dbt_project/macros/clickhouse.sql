{# What dialect.sql says, in ClickHouse's words, in the same order. Timestamps are DateTime64(6, 'UTC') there: a
   DateTime ends in 2106 and has no fraction. A column that cannot be null gives '' or 0, not null, where a window
   has no row: `nullable`. #}

{% macro clickhouse__utc_timestamp(expression) %}{{ expression }}{% endmacro %}

{% macro clickhouse__lake_timestamp(expression) %}{{ expression }}{% endmacro %}

{% macro clickhouse__utc_literal(moment) -%}
toDateTime64('{{ moment.strftime("%Y-%m-%d %H:%M:%S.%f") }}', 6, 'UTC')
{%- endmacro %}

{% macro clickhouse__midnight(date_expression) %}toDateTime64({{ date_expression }}, 6, 'UTC'){% endmacro %}

{% macro clickhouse__nullable(expression) %}toNullable({{ expression }}){% endmacro %}

{% macro clickhouse__business_date(expression) %}toDate({{ expression }}, '{{ business_zone() }}'){% endmacro %}

{% macro clickhouse__plus_days(expression, days) -%}
({{ expression }} + toIntervalSecond(toInt64(floor(({{ days }}) * 86400))))
{%- endmacro %}

{% macro clickhouse__plus_hours(expression, hours) %}({{ expression }} + toIntervalHour({{ hours }})){% endmacro %}

{% macro clickhouse__days_from(first_date, last_date) -%}
arrayJoin(
    arrayMap(
        day -> toDate(day), range(toUInt32(assumeNotNull({{ first_date }})), toUInt32(assumeNotNull({{ last_date }})) + 1)
    )
)
{%- endmacro %}

{% macro clickhouse__account_hash(column) -%}
toInt32(toInt64(reinterpretAsUInt32(reverse(substring(MD5({{ column }}), 1, 4)))) - 2147483648)
{%- endmacro %}

{% macro clickhouse__json_text(column, field) -%}
{%- set path = "'" ~ field.split(".") | join("', '") ~ "'" -%}
case JSONType({{ column }}, {{ path }})
    when 'Null' then null
    when 'String' then JSONExtractString({{ column }}, {{ path }})
    else JSONExtractRaw({{ column }}, {{ path }})
end
{%- endmacro %}

{% macro clickhouse__json_scalar(column, field) -%}
{%- set path = "'" ~ field.split(".") | join("', '") ~ "'" -%}
case
    when JSONType({{ column }}, {{ path }}) in ('Null', 'Array', 'Object') then null
    when JSONType({{ column }}, {{ path }}) = 'String' then JSONExtractString({{ column }}, {{ path }})
    else JSONExtractRaw({{ column }}, {{ path }})
end
{%- endmacro %}

{% macro clickhouse__json_has_one(column, field) -%}
coalesce(JSONHas({{ column }}, '{{ field.split(".") | join("', '") }}'), 0)
{%- endmacro %}

{% macro clickhouse__text_literal(text) %}'{{ text | replace("\\", "\\\\") | replace("'", "\\'") }}'{% endmacro %}

{% macro clickhouse__is_number(text) %}match({{ text }}, '^-?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]+)?$'){% endmacro %}

{% macro clickhouse__decimal_of(text) %}toDecimal256OrNull({{ text }}, 18){% endmacro %}

{% macro clickhouse__meter_of(metric) %}lowerUTF8(replace({{ metric }}, '_', '-')){% endmacro %}

{% macro clickhouse__whole_number(text) -%}
toInt64OrNull(
    case when match({{ text }}, '^[0-9]{1,18}(\\.0+)?$') then splitByChar('.', assumeNotNull({{ text }}))[1] end
)
{%- endmacro %}

{% macro clickhouse__iso_weekday(date_expression) %}toInt32(toDayOfWeek({{ date_expression }})){% endmacro %}

{# Every row is divided, those that a `case` leaves out as well: by null in place of 0. The remainder by a 64 bit number
   has 64 bits. #}
{% macro clickhouse__percentage(part, whole) -%}
(
    toDecimal128(intDiv(toInt128({{ part }}) * 100, nullif({{ whole }}, 0)), 0)
    + toDecimal128(
        intDiv(toInt128(toInt128({{ part }}) * 100 % nullif({{ whole }}, 0)) * 1000000, nullif({{ whole }}, 0)), 0
    )
    * toDecimal128('0.000001', 6)
)
{%- endmacro %}

{% macro clickhouse__ratio(part, whole) -%}
(toDecimal128(intDiv(toInt128({{ part }}) * 1000000, nullif({{ whole }}, 0)), 0) * toDecimal128('0.000001', 6))
{%- endmacro %}

{% macro clickhouse__rounded(expression) -%}
    {%- set millionths = "(" ~ expression ~ ") * 1000000" -%}
    {%- set half = "abs(" ~ millionths ~ " - trunc(" ~ millionths ~ ")) >= 0.5" -%}
(
    toDecimal128(
        accurateCastOrNull(trunc({{ millionths }}) + sign({{ millionths }}) * ({{ half }}), 'Int128'), 0
    )
    * toDecimal128('0.000001', 6)
)
{%- endmacro %}

{% macro clickhouse__ceiling_division(part, whole) %}intDiv({{ part }} + {{ whole }} - 1, nullif({{ whole }}, 0)){% endmacro %}

{% macro clickhouse__hours_between(start, end) %}age('hour', {{ start }}, {{ end }}){% endmacro %}

{% macro clickhouse__joined_text(text, order) -%}
arrayStringConcat(arrayMap(pair -> pair.2, arraySort(groupArray(tuple({{ order }}, {{ text }})))))
{%- endmacro %}

{% macro clickhouse__sampling_variance(weight, units) -%}
toDecimal128(sum(toInt128({{ weight }}) * ({{ weight }} - 1) * {{ units }} * {{ units }}), 0)
{%- endmacro %}

{% macro clickhouse__lake_kept_from() %}
    {%- set loaded = adapter.get_relation(none, target.schema, "kept_from") -%}
    {{ return(run_query("select kept_from from " ~ loaded).rows[0][0] if loaded else none) }}
{% endmacro %}

{% macro clickhouse__touched_hours(batch) %}
    select distinct
        toString(event_date) as day,
        date_trunc('hour', event_at) as touched_hour
    from {{ source('lake', 'raw_events') }}
    where batch > {{ batch }}
    order by touched_hour
{% endmacro %}

{# With the lake's first batch, which has no call: there is always a day. #}
{% macro clickhouse__lake_days() %}
    select * from (
        select
            toString(event_date) as day,
            max(batch) as last_batch
        from {{ source('lake', 'raw_events') }}
        group by event_date
        union all
        select '1970-01-01' as day, 0 as last_batch
    )
    order by day
{% endmacro %}

{% macro clickhouse__lake_fingerprint(batch) %}
    {%- set loaded = "select fingerprint from " ~ target.schema ~ ".loaded_batches where batch = " ~ batch -%}
    {{ return(run_query(loaded).rows | map(attribute=0) | first | default("", true)) }}
{% endmacro %}

{% macro clickhouse__rows_fingerprint(relation) -%}
lower(hex(MD5(arrayStringConcat(arraySort(groupArray(toString(tuple({{ relation }}.*))))))))
{%- endmacro %}

{% macro clickhouse__months_from(first_date, last_date) -%}
arrayJoin(
    arrayMap(
        months -> addMonths(toStartOfMonth(assumeNotNull({{ first_date }})), months),
        range(dateDiff('month', assumeNotNull({{ first_date }}), {{ last_date }}) + 1)
    )
)
{%- endmacro %}

{% macro clickhouse__weighted_mean(value, weight) -%}
toInt64(intDiv(sum(toInt128({{ value }}) * {{ weight }}), nullif(sum({{ weight }}), 0)))
{%- endmacro %}

{% macro clickhouse__quantile(expression, share) -%}
quantileExactInclusive({{ share }})(toFloat64({{ expression }}))
{%- endmacro %}

{% macro clickhouse__replaced_table(relation) -%}
create or replace table {{ relation }} engine = MergeTree order by tuple() as
{%- endmacro %}

{% macro clickhouse__changed_rows(relation, changes) -%}
alter table {{ relation }} update {{ changes }} where true settings mutations_sync = 2
{%- endmacro %}

{# A seed's empty fields are null. #}
{% macro clickhouse__create_csv_table(model, agate_table) %}
    {%- set columns = [] -%}
    {%- for name in agate_table.column_names -%}
        {%- do columns.append(name ~ " Nullable(" ~ model.config.column_types[name] ~ ")") -%}
    {%- endfor -%}
    {%- set sql = "create table " ~ this ~ " (" ~ columns | join(", ") ~ ") engine = MergeTree order by tuple()" -%}
    {%- call statement("_") -%}{{ sql }}{%- endcall -%}
    {{ return(sql) }}
{% endmacro %}

{# What dbt_project.yml sets for models holds for tests, too. #}
{% macro clickhouse__get_test_sql(main_sql, fail_calc, warn_if, error_if, limit) -%}
{{ dbt.clickhouse__get_test_sql(main_sql, fail_calc, warn_if, error_if, limit) }} {{ clickhouse__settings() }}
{%- endmacro %}

{% macro clickhouse__get_unit_test_sql(main_sql, expected_fixture_sql, expected_column_names) -%}
{{ dbt.default__get_unit_test_sql(main_sql, expected_fixture_sql, expected_column_names) }} {{ clickhouse__settings() }}
{%- endmacro %}

{% macro clickhouse__get_empty_subquery_sql(select_sql, select_sql_header=none) -%}
{{ dbt.default__get_empty_subquery_sql(select_sql, select_sql_header) }} {{ clickhouse__settings() }}
{%- endmacro %}

{% macro clickhouse__settings() %}settings prefer_column_name_to_alias = 1{% endmacro %}

{# There the loader's tables are in the same database, and perhaps those of others: nothing is dropped. The published
   copy has the tables of the project and no others. #}
{% macro clickhouse__built_relations() %}{{ return([]) }}{% endmacro %}
