{# The first UTC hour that begins at the timestamp or after it: an hour counts in the period in which it begins. #}
{% macro first_hour(timestamp) -%}
case
    when date_trunc('hour', {{ timestamp }}) = {{ timestamp }} then date_trunc('hour', {{ timestamp }})
    else {{ plus_hours("date_trunc('hour', " ~ timestamp ~ ")", 1) }}
end
{%- endmacro %}
