{# What units cost on a plan. Exact in decimals with 12 places; whoever shows an amount rounds it once, with cents(). #}

{# SQL: one row per plan, meter and step of its price, counted in units above the included ones. Inside a step one unit
   more costs unit_price more, whatever the pricing, so value_before is all that tells graduated and volume apart. #}
{% macro price_steps() %}
    select
        plan,
        meter,
        cast(0 as bigint) as units_before,
        cast(9223372036854775807 as bigint) as last_unit,
        cast(0 as decimal(38, 12)) as value_before,
        {{ step_price("case when pricing = 'flat' then unit_price else 0 end", "meter") }} as unit_price,
        case when pricing = 'package' then cast(package_units * {{ scale_of("meter") }} as bigint) else 1 end
            as package_units,
        cast(case when pricing = 'package' then package_price else 0 end as decimal(18, 12)) as package_price
    from {{ ref('plans') }}
    where pricing in ('none', 'flat', 'package')
    union all
    select
        tiers.plan,
        tiers.meter,
        tiers.units_before,
        coalesce(tiers.up_to_units, 9223372036854775807) as last_unit,
        cast(
            case
                when plans.pricing = 'volume' then {{ price_of('tiers.units_before', 'tiers.unit_price') }}
                else coalesce(
                    sum({{ price_of('tiers.up_to_units - tiers.units_before', 'tiers.unit_price') }} + tiers.flat_price)
                        over (
                            partition by tiers.plan, tiers.meter order by tiers.tier_number
                            rows between unbounded preceding and 1 preceding
                        ),
                    0
                )
            end + tiers.flat_price as decimal(38, 12)
        ) as value_before,
        tiers.unit_price,
        cast(1 as bigint) as package_units,
        cast(0 as decimal(18, 12)) as package_price
    from (
        select
            plan,
            meter,
            tier_number,
            coalesce(
                lag(cast(up_to_units * {{ scale_of("meter") }} as bigint))
                    over (partition by plan, meter order by tier_number),
                0
            ) as units_before,
            cast(up_to_units * {{ scale_of("meter") }} as bigint) as up_to_units,
            {{ step_price("unit_price", "meter") }} as unit_price,
            coalesce(flat_price, 0) as flat_price
        from {{ ref('plan_tiers') }}
    ) as tiers
    inner join {{ ref('plans') }} as plans on tiers.plan = plans.plan and tiers.meter = plans.meter
    where plans.pricing in ('graduated', 'volume')
{% endmacro %}

{# SQL: whether the price step is the one in which the last of the units is. No unit at all is in the first. #}
{% macro is_priced_by(units, step) -%}
    case when {{ units }} = 0 then 1 else {{ units }} end between {{ step }}.units_before + 1 and {{ step }}.last_unit
{%- endmacro %}

{# SQL: the exact price of that many units above the included ones, in their price step. A hard limit sells none of
   them, and no unit costs nothing, whatever the price of a tier as a whole. Null without a price step. #}
{% macro overage_price(units, step, limit_kind) -%}
    case
        when {{ step }}.last_unit is null then null
        when {{ units }} = 0 or ({{ units }} > 0 and {{ limit_kind }} = 'hard') then cast(0 as decimal(38, 12))
        when {{ units }} > 0
            then
                {{ step }}.value_before
                + {{ price_of(units ~ " - " ~ step ~ ".units_before", step ~ ".unit_price") }}
                + {{ price_of(ceiling_division(units, step ~ ".package_units"), step ~ ".package_price") }}
    end
{%- endmacro %}

{# SQL: units * price; 19 + 18 digits, which is what a decimal holds. #}
{% macro price_of(units, price) %}cast({{ units }} as decimal(19, 0)) * {{ price }}{% endmacro %}

{# SQL: the price of one step of the meter, exactly: a meter with three decimals leaves nine to its prices. #}
{% macro step_price(unit_price, meter) -%}
    {%- set scaled = [] -%}
    {%- for each in meters() if each.decimals -%}{%- do scaled.append(each) -%}{%- endfor -%}
    cast(
        {{ unit_price }}
        {%- if scaled %} * case {{ meter }}
            {%- for each in scaled %} when {{ text_literal(each.meter) }} then cast(0.{{ "0" * ((each.decimals | int) - 1) }}1 as decimal(7, 6)){% endfor %}
            else cast(1 as decimal(7, 6))
        end
        {%- endif %} as decimal(18, 12)
    )
{%- endmacro %}
