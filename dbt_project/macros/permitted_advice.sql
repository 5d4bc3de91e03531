{# SQL: a row for each situation and each advice that it permits, and whether there is a plan to move up to. #}
{% macro permitted_advice() %}
    {%- for situation, permitted in situations().items() %}
    {%- set outer_last = loop.last %}
    {%- for advice in permitted %}
    select
        '{{ situation }}' as situation,
        '{{ advice }}' as advice,
        {{ 'true' if situation in situations_with_next_plan() else 'false' }} as has_next_plan
    {{ "union all" if not (outer_last and loop.last) }}
    {%- endfor %}
    {%- endfor %}
{% endmacro %}

{# SQL: a row for each code of account_situations.reasons. #}
{% macro known_reasons() %}
    {%- for reason in reasons() %}
    select '{{ reason }}' as reason
    {{ "union all" if not loop.last }}
    {%- endfor %}
{% endmacro %}
