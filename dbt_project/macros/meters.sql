{# What the seed meters says, and the SQL that counts by it. A model that asks for it reads the seed, by `depends_on`
   where it has no join with it. #}

{# The rows of the seed, the main meter first; none before it was loaded. Kept in the graph, as the recount plan is. #}
{% macro meters() %}
    {%- set key = "meters " ~ invocation_id -%}
    {%- if execute and key not in graph -%}
        {%- set seed = adapter.get_relation(target.database, target.schema, "meters") -%}
        {%- set rows = run_query("select * from " ~ seed ~ " order by is_main desc, meter").rows if seed else [] -%}
        {%- do graph.update({key: rows}) -%}
    {%- endif -%}
    {{ return(graph.get(key, [])) }}
{% endmacro %}

{# The meter of a quota that names none; every account has it. #}
{% macro main_meter() %}
    {%- for meter in meters() if meter.is_main -%}{{ return(meter.meter) }}{%- endfor -%}
    {{ return("") }}
{% endmacro %}

{# The meter that counts calls: errors, endpoints, retries and sampling are known of it alone. Empty without one. #}
{% macro calls_meter() %}
    {%- for meter in meters() -%}
        {%- if meter.aggregation == "count" and "api_call" in names_of(meter.event_names) and not meter.filter -%}
            {{ return(meter.meter) }}
        {%- endif -%}
    {%- endfor -%}
    {{ return("") }}
{% endmacro %}

{# The meters that are counted from events; of the others only quota_set and usage.limit_reached speak. #}
{% macro metered() %}
    {%- set found = [] -%}
    {%- for meter in meters() if meter.event_names -%}{%- do found.append(meter) -%}{%- endfor -%}
    {{ return(found) }}
{% endmacro %}

{# By which property usage of which meter is split: their names, in pairs. #}
{% macro grouped() %}
    {%- set found = [] -%}
    {%- for meter in metered() -%}
        {%- for property in names_of(meter.group_by) if not (meter.meter == calls_meter() and property == "endpoint") -%}
            {%- do found.append({"meter": meter.meter, "property": property}) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(found) }}
{% endmacro %}

{# The names in a cell, which have | between them. #}
{% macro names_of(cell) %}
    {%- set names = [] -%}
    {%- for name in (cell or "").split("|") if name.strip() -%}{%- do names.append(name.strip()) -%}{%- endfor -%}
    {{ return(names) }}
{% endmacro %}

{# SQL: a list of texts. #}
{% macro text_list(names) -%}
    {%- for name in names %}{{ text_literal(name) }}{{ ", " if not loop.last }}{% endfor -%}
{%- endmacro %}

{# SQL: whether the meter's filter takes an event with these properties: a=x|y;b=z. #}
{% macro is_in_filter(properties, filter) -%}
    {%- for part in (filter or "").split(";") if part.strip() %}
        and coalesce({{ json_text(properties, part.split("=")[0].strip()) }} in ({{ text_list(names_of(part.split("=", 1)[1])) }}), false)
    {%- endfor -%}
{%- endmacro %}

{# SQL: the steps that one unit of the meter has: 1000 with three decimals. #}
{% macro scale_of(meter) -%}
    {%- set scaled = [] -%}
    {%- for each in meters() if each.decimals -%}{%- do scaled.append(each) -%}{%- endfor -%}
    {%- if scaled -%}
        cast(case {{ meter }}{% for each in scaled %} when {{ text_literal(each.meter) }} then {{ 10 ** (each.decimals | int) }}{% endfor %} else 1 end as bigint)
    {%- else -%} cast(1 as bigint)
    {%- endif -%}
{%- endmacro %}

{# SQL: whether the meter adds up and is projected. #}
{% macro is_forecast(meter) -%}
    {%- set found = [] -%}
    {%- for each in meters() if each.aggregation in ("count", "sum") and each.is_forecast is not false -%}
        {%- do found.append(each.meter) -%}
    {%- endfor -%}
    {{ meter }} in ({{ text_list(found or [""]) }})
{%- endmacro %}

{# What one of a figure is: GB, or 0.001 GB. #}
{% macro step_of(unit, decimals) -%}
    case
        when coalesce({{ decimals }}, 0) > 0 then '0.' || repeat('0', {{ decimals }} - 1) || '1 ' || {{ unit }}
        else {{ unit }}
    end
{%- endmacro %}

{# SQL: the unit for people of what one of a figure is: GB of 0.001 GB. #}
{% macro unit_name(unit) -%}
    {%- set decimals = [] -%}
    {%- for meter in meters() if meter.decimals and meter.decimals not in decimals -%}
        {%- do decimals.append(meter.decimals) -%}
    {%- endfor -%}
    {{- "replace(" * (decimals | length) }}{{ unit }}
    {%- for places in decimals %}, '0.{{ "0" * (places - 1) }}1 ', ''){% endfor %}
{%- endmacro %}

{# SQL: why a text cannot be one of different values; null where it can. #}
{% macro key_problem(text) -%}
    case when coalesce({{ text }}, '') = '' then 'no value' when length({{ text }}) > 256 then 'too large' end
{%- endmacro %}

{# SQL: the text as a number of steps, where it is a number that can be counted; else null. #}
{% macro steps(text, scale) -%}
    case when {{ value_problem(text, scale) }} is null then cast({{ decimal_of(text) }} * {{ scale }} as bigint) end
{%- endmacro %}

{# SQL: why a text cannot be counted as a number of steps; null where it can. #}
{% macro value_problem(text, scale) -%}
    case
        when {{ text }} is null then 'no value'
        when not {{ is_number(text) }} then 'not a number'
        when coalesce({{ decimal_of(text) }} < 0, substr({{ text }}, 1, 1) = '-') then 'negative'
        when coalesce({{ decimal_of(text) }} > cast(1000000000000000 as decimal(38, 0)) / {{ scale }}, true) then 'too large'
        when {{ decimal_of(text) }} * {{ scale }} <> floor({{ decimal_of(text) }} * {{ scale }}) then 'too many places'
    end
{%- endmacro %}

{# The names of the events that are calls: those of the meter that counts them. #}
{% macro call_names() %}
    {%- for meter in meters() if meter.meter == calls_meter() -%}{{ return(names_of(meter.event_names)) }}{%- endfor -%}
    {{ return(["api_call", "api_request"]) }}
{% endmacro %}

{# A text that is another one where a meter counts otherwise: what its figures are called or billed by is left out. #}
{% macro meters_fingerprint() %}
    {%- set said = [] -%}
    {%- for meter in meters() -%}
        {%- for column in ["meter", "event_names", "aggregation", "value", "filter", "group_by", "decimals", "weights", "counts_from"] -%}
            {%- do said.append(meter[column] | string) -%}
        {%- endfor -%}
    {%- endfor -%}
    {{ return(local_md5(said | join(","))) }}
{% endmacro %}

{# SQL: endpoint_weights with the day on which each ends. #}
{% macro weight_ranges() %}
    select
        endpoint,
        effective_from,
        coalesce(
            lead({{ nullable('effective_from') }}) over (partition by endpoint order by effective_from),
            {{ date_literal(for_ever()) }}
        ) as effective_until,
        weight
    from {{ ref('endpoint_weights') }}
{% endmacro %}

{# SQL: whether usage of this aggregation adds up, hour by hour. What does not is a figure that is read: gauge_readings. #}
{% macro adds_up(aggregation) %}coalesce({{ aggregation }}, '') in ('count', 'sum'){% endmacro %}

{# SQL: whether that is the meter of calls, and so what is known of calls is known of it. #}
{% macro is_of_calls(meter) %}{{ meter }} = {{ text_literal(calls_meter()) }}{% endmacro %}

{# SQL: whether that is the main meter. #}
{% macro is_main(meter) %}{{ meter }} = {{ text_literal(main_meter()) }}{% endmacro %}

{# The properties of a quota_set that have quotas of certain meters. #}
{% macro quota_properties() %}
    {%- set found = [] -%}
    {%- for meter in meters() if meter.quota_property -%}{%- do found.append(meter.quota_property) -%}{%- endfor -%}
    {{ return(found) }}
{% endmacro %}

{# SQL: whether the meter is reported to Stripe, beside the main one, and counts in one of these ways. #}
{% macro is_billed_by(meter, aggregations) -%}
    {%- set found = [] -%}
    {%- for each in meters() if each.is_billed and each.stripe_meter and not each.is_main and each.aggregation in aggregations -%}
        {%- do found.append(each.meter) -%}
    {%- endfor -%}
    {{ meter }} in ({{ text_list(found or [""]) }})
{%- endmacro %}

{# SQL: the event name of the meter at Stripe. #}
{% macro stripe_meter_of(meter) -%}
    case {{ meter }}
        {%- for each in meters() if each.stripe_meter %} when {{ text_literal(each.meter) }} then {{ text_literal(each.stripe_meter) }}{% endfor %}
        {%- if not meters() | selectattr("stripe_meter") | list %} when '' then ''{% endif %}
    end
{%- endmacro %}

{# SQL: whether calls of that day count: from counts_from of their meter on. #}
{% macro is_counted_from_calls(date_column) -%}
    {%- set days = [] -%}
    {%- for each in meters() if each.meter == calls_meter() and each.counts_from -%}{%- do days.append(each.counts_from) -%}{%- endfor -%}
    {{ date_column ~ " >= date '" ~ days[0] ~ "'" if days else "true" }}
{%- endmacro %}

{# SQL: whether the properties have a quota of the meter by the name that it has for it. #}
{% macro has_quota_by_property(meter, properties) -%}
    (
        {%- for each in meters() if each.quota_property %}
        ({{ meter }} = {{ text_literal(each.meter) }} and {{ json_has(properties, [each.quota_property]) }}) or
        {%- endfor %} false
    )
{%- endmacro %}

{# SQL: an event's property as text. The endpoint has a column: a flat call has no properties. #}
{% macro property_of(property) -%}
    {{ "endpoint" if property == "endpoint" else json_text("properties", property) }}
{%- endmacro %}
