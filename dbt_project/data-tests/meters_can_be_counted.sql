{{ config(meta={"dagster": {"ref": {"name": "meters"}}}) }}
-- A sentence for each thing in meters.csv that cannot be counted as it says; `headroom meters check` knows more.
{%- set problems = [
    ("is_main and not " ~ adds_up("aggregation"), "is the main one, which adds up: its aggregation must be count or sum."),
    ("unit is null or unit_singular is null", "needs a unit and a unit_singular."),
    ("meter <> " ~ meter_of("meter"), "must be written in small letters, with - for _."),
    (adds_up("aggregation") ~ " and event_names is null", "adds up, so it needs event_names."),
    ("aggregation in ('max', 'unique') and event_names is null", "needs event_names."),
    ("event_names is not null and aggregation <> 'count' and value is null", "needs a value: the property to count."),
    ("aggregation = 'count' and value is not null", "counts events, so it has no value."),
    ("coalesce(decimals, 0) not between 0 and 6", "has decimals that are not 0 to 6."),
    ("aggregation in ('count', 'unique') and coalesce(decimals, 0) > 0", "counts whole ones, so its decimals are 0."),
    ("not " ~ adds_up("aggregation") ~ " and (coalesce(is_forecast, false) or group_by is not null or weights is not null)",
        "does not add up: leave is_forecast, group_by and weights empty."),
    ("quota_policy = 'reset' and not is_main", "cannot be reset by a changed quota: only the main meter can. Take carry or prorate."),
    ("coalesce(weights, 'endpoint_weights') <> 'endpoint_weights'", "has weights that are not endpoint_weights."),
    ("is_main and stripe_meter is not null", "is the main one: HEADROOM_STRIPE_METER names its meter at Stripe, leave stripe_meter empty."),
    ("is_billed and not is_main and stripe_meter is null", "is billed, so it needs a stripe_meter."),
    ("quota_property is not null and same_quota_property > 1", "has a quota_property that another meter has."),
    ("stripe_meter is not null and same_stripe_meter > 1", "has a stripe_meter that another meter has."),
] %}
with meters as (
    select
        *,
        count(*) over (partition by quota_property) as same_quota_property,
        count(*) over (partition by stripe_meter) as same_stripe_meter
    from {{ ref('meters') }}
),

main_meters as (
    select count(*) as row_count
    from meters
    where is_main
),

problems as (
    {% for condition, problem in problems %}
        select
            {{ loop.index }} as number,
            '{{ problem }}' as problem
        {% if not loop.last %}union all{% endif %}
    {% endfor %}
)

select 'meters.csv needs is_main = true in one row, not in ' || cast(row_count as varchar) || '.' as problem
from main_meters
where row_count <> 1

union all

select 'The meter ' || meters.meter || ' ' || problems.problem as problem
from meters
cross join problems
where
    case problems.number
        {% for condition, problem in problems %}
            when {{ loop.index }} then {{ condition }}
        {% endfor %}
    end
