{{ config(meta={"dagster": {"ref": {"name": "plans"}}}) }}
-- A sentence for each thing in plans.csv that has no price, or more than one.
{%- set problems = [
    ("row_count > 1", "is there more than once for the same meter"),
    ("meter is null or base_price is null or currency is null", "needs a meter, a base_price and a currency"),
    ("lowest_base_price <> highest_base_price",
        "has another base_price for another meter; it belongs to the whole plan"),
    ("currency <> first_currency", "has another currency than other plans; there can be only one"),
    ("next_plan is not null and not has_next_plan", "has a next_plan that is not in plans.csv with the same meter"),
    ("meter is not null and not has_meter", "is of a meter that is not in meters.csv"),
    ("included_steps <> floor(included_steps) or package_steps <> floor(package_steps)",
        "has included_units or package_units with more places than its meter has decimals"),
    ("price_in_last_places <> floor(price_in_last_places)",
        "has a unit_price with more places than 12 less the decimals of its meter"),
    ("leads_back", "leads back to itself by next_plan; the dearest plan has none"),
    ("base_price < 0 or unit_price < 0 or package_price < 0 or included_units < 0 or rate_limit_per_second < 0",
        "has a negative number"),
    ("coalesce(pricing, '') not in ('none', 'flat', 'graduated', 'volume', 'package')",
        "has a pricing that is none of none, flat, graduated, volume, package"),
    ("coalesce(limit_kind, '') not in ('hard', 'soft', 'throttle', 'monitor')",
        "has a limit_kind that is none of hard, soft, throttle, monitor"),
    ("limit_kind = 'throttle' and coalesce(rate_limit_per_second, 0) <= 0",
        "slows calls down past the quota, so it needs a rate_limit_per_second above 0"),
    ("coalesce(limit_kind, '') <> 'throttle' and rate_limit_per_second = 0",
        "has a rate_limit_per_second of 0, which lets nothing through: empty is unlimited"),
    ("limit_kind = 'hard' and pricing <> 'none'",
        "has a hard limit, so there is no overage to price: pricing must be none"),
    ("(unit_price is not null) <> (pricing = 'flat')", "needs a unit_price with flat, and must have none otherwise"),
    ("(coalesce(package_units, 0) > 0 and package_price is not null) <> (pricing = 'package')
        or (package_units is not null or package_price is not null) <> (pricing = 'package')",
        "needs package_units above 0 and a package_price with package, and must have none otherwise"),
    ("has_tiers <> (pricing in ('graduated', 'volume'))",
        "needs tiers in plan_tiers.csv with graduated or volume, and must have none otherwise"),
] %}
with recursive catalogue as (
    select * from {{ ref('plans') }}
),

known_meters as (
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

tiered as (
    select distinct
        plan,
        meter
    from {{ ref('plan_tiers') }}
),

one_way_up as (
    select
        plan,
        meter,
        min(next_plan) as next_plan
    from catalogue
    group by plan, meter
),

-- From each plan upwards, as many steps as there are plans.
ways_up as (
    select
        plan,
        meter,
        next_plan,
        1 as steps
    from one_way_up
    where next_plan is not null
    union all
    select
        ways_up.plan,
        ways_up.meter,
        higher.next_plan,
        ways_up.steps + 1 as steps
    from ways_up
    inner join one_way_up as higher on ways_up.next_plan = higher.plan and ways_up.meter = higher.meter
    where
        higher.next_plan is not null
        and ways_up.steps < (select count(all_plans.plan) from one_way_up as all_plans)
),

cycles as (
    select distinct
        plan,
        meter
    from ways_up
    where plan = next_plan
),

facts as (
    select
        catalogue.plan as plan,
        catalogue.meter as meter,
        catalogue.base_price,
        catalogue.currency,
        catalogue.included_units,
        catalogue.pricing,
        catalogue.unit_price,
        catalogue.package_units,
        catalogue.package_price,
        catalogue.limit_kind,
        catalogue.rate_limit_per_second,
        catalogue.next_plan as next_plan,
        count(*) over (partition by catalogue.plan, catalogue.meter) as row_count,
        min(catalogue.base_price) over (partition by catalogue.plan) as lowest_base_price,
        max(catalogue.base_price) over (partition by catalogue.plan) as highest_base_price,
        min(catalogue.currency) over () as first_currency,
        known_meters.meter is not null as has_meter,
        catalogue.included_units * known_meters.steps as included_steps,
        catalogue.package_units * known_meters.steps as package_steps,
        cast(catalogue.unit_price as decimal(38, 12)) * known_meters.last_places as price_in_last_places,
        higher.plan is not null as has_next_plan,
        cycles.plan is not null as leads_back,
        tiered.plan is not null as has_tiers
    from catalogue
    left join known_meters on catalogue.meter = known_meters.meter
    left join one_way_up as higher on catalogue.next_plan = higher.plan and catalogue.meter = higher.meter
    left join cycles on catalogue.plan = cycles.plan and catalogue.meter = cycles.meter
    left join tiered on catalogue.plan = tiered.plan and catalogue.meter = tiered.meter
),

-- A problem is a row here and a condition below, so that facts is read once: in a union ClickHouse does not find what
-- is recursive.
problems as (
    {% for condition, problem in problems %}
        select
            {{ loop.index }} as number,
            '{{ problem }}' as problem
        {% if not loop.last %}union all{% endif %}
    {% endfor %}
)

select distinct 'The plan ' || facts.plan || ' ' || problems.problem || '.' as problem
from facts
cross join problems
where
    case problems.number
        {% for condition, problem in problems %}
            when {{ loop.index }} then {{ condition }}
        {% endfor %}
    end
