{{ config(meta={"dagster": {"ref": {"name": "plan_tiers"}}}) }}
-- A sentence for each thing in plan_tiers.csv by which a unit would have no price, or more than one.
{%- set problems = [
    ("tier_number is null or tier_number <> tier_position", "breaks the order 1, 2, 3"),
    ("up_to_units is null and not is_last", "has no end (up_to_units), and another tier comes after it"),
    ("up_to_units is not null and is_last",
        "is the last one and ends: up_to_units must be empty, or units above it have no price"),
    ("up_to_units <= units_before", "ends at or before the end of the tier before it"),
    ("unit_price is null or unit_price < 0 or flat_price < 0", "needs a unit_price, and no price may be negative"),
    ("steps <> floor(steps)", "has up_to_units with more places than its meter has decimals"),
    ("price_in_last_places <> floor(price_in_last_places)",
        "has a unit_price with more places than 12 less the decimals of its meter"),
    ("not has_plan", "is of a plan that is not in plans.csv with this meter"),
] %}
with known_meters as (
    select
        meter,
        case coalesce(decimals, 0)
            {% for places in range(7) %}
                when {{ places }} then cast({{ 10 ** places }} as decimal(13, 0))
            {% endfor %}
        end as steps,
        case coalesce(decimals, 0)
            {% for places in range(7) %}
                when {{ places }} then cast({{ 10 ** (12 - places) }} as decimal(13, 0))
            {% endfor %}
        end as last_places
    from {{ ref('meters') }}
),

known_plans as (
    select distinct
        plan,
        meter
    from {{ ref('plans') }}
),

facts as (
    select
        tiers.plan as plan,
        tiers.tier_number as tier_number,
        tiers.up_to_units as up_to_units,
        tiers.unit_price as unit_price,
        tiers.flat_price as flat_price,
        row_number() over tiers_of_plan as tier_position,
        lead(tiers.tier_number) over tiers_of_plan is null as is_last,
        coalesce(lag(tiers.up_to_units) over tiers_of_plan, 0) as units_before,
        tiers.up_to_units * known_meters.steps as steps,
        cast(tiers.unit_price as decimal(38, 12)) * known_meters.last_places as price_in_last_places,
        known_plans.plan is not null as has_plan
    from {{ ref('plan_tiers') }} as tiers
    left join known_plans on tiers.plan = known_plans.plan and tiers.meter = known_plans.meter
    left join known_meters on tiers.meter = known_meters.meter
    window tiers_of_plan as (partition by tiers.plan, tiers.meter order by tiers.tier_number)
)

{% for condition, problem in problems %}
    select distinct
        'Tier ' || coalesce(cast(tier_number as varchar), '?') || ' of the plan ' || plan || ' {{ problem }}.'
            as problem
    from facts
    where {{ condition }}
    {% if not loop.last %}union all{% endif %}
{% endfor %}
