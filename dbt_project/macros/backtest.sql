{# SQL: one row per forecast that forecast_backtest makes again: on three days of each of the last three complete
   calendar months in UTC. Day 8 has one week behind it, 15 and 22 have two and three. #}
{% macro forecast_points() %}
    {%- set months = [as_of().replace(day=1, hour=0, minute=0, second=0, microsecond=0)] -%}
    {%- for _ in range(3) -%}
        {%- do months.append((months[-1] - modules.datetime.timedelta(days=1)).replace(day=1)) -%}
    {%- endfor -%}
    {%- for number in range(1, 4) -%}
        {%- for day in (8, 15, 22) %}
    select
        {{ utc_literal(months[number]) }} as period_start,
        {{ date_literal(months[number]) }} as first_date,
        {{ date_literal(months[number - 1]) }} as end_date,
        {{ day }} as forecast_day,
        {{ date_literal(months[number].replace(day=day)) }} as forecast_on
            {%- if not (loop.last and number == 3) %}
    union all
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
{% endmacro %}
