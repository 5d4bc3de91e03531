with forecasts as (
    select * from {{ ref('cap_forecasts') }}
),

plans as (
    select * from {{ ref('plans') }}
),

price_steps as (
    select * from ({{ price_steps() }}) as steps
),

-- Prepaid credit is a customer's: all of its accounts show it.
credit as (
    select
        customers.account_id as account_id,
        credit.currency as currency,
        credit.remaining as remaining,
        credit.burns_down_at as burns_down_at
    from {{ ref('stg_prepaid_credit') }} as credit
    inner join {{ ref('account_customers') }} as customers
        on
            credit.stripe_customer_id = customers.stripe_customer_id
            and customers.valid_from <= {{ utc_literal(as_of()) }}
            and customers.valid_until > {{ utc_literal(as_of()) }}
),

-- What the base price includes: the quota in force, which may be negotiated. Where each unit is paid for (0 included)
-- a quota is only a limit. Null is everything.
terms as (
    select
        forecasts.account_id,
        forecasts.meter as meter,
        forecasts.period_start,
        forecasts.period_end,
        forecasts.plan as plan,
        plans.plan is not null as is_in_catalogue,
        plans.currency as currency,
        plans.base_price as base_price,
        case when forecasts.quota_state = 'blocked' then 'hard' else plans.limit_kind end as limit_kind,
        plans.pricing as pricing,
        coalesce(plans.included_units = 0, false) as is_pay_per_use,
        case when plans.included_units = 0 then 0 else forecasts.quota end as included_units,
        forecasts.quota_state,
        forecasts.used_mtd,
        forecasts.projected_eom,
        forecasts.hits_cap_in_period,
        next_plans.plan as next_plan,
        next_plans.base_price as next_plan_base_price,
        next_plans.limit_kind as next_plan_limit_kind,
        cast(next_plans.included_units * {{ scale_of('forecasts.meter') }} as bigint) as next_plan_included_units
    from forecasts
    left join plans on forecasts.plan = plans.plan and forecasts.meter = plans.meter
    left join plans as next_plans on plans.next_plan = next_plans.plan and plans.meter = next_plans.meter
),

units as (
    select
        *,
        case
            when quota_state = 'unknown' or used_mtd is null then null
            when used_mtd > included_units then used_mtd - included_units
            else 0
        end as overage_units,
        case
            when quota_state = 'unknown' or projected_eom is null then null
            when projected_eom > included_units then projected_eom - included_units
            else 0
        end as projected_overage_units,
        case
            when quota_state = 'unknown' or projected_eom is null or next_plan is null then null
            when projected_eom > next_plan_included_units then projected_eom - next_plan_included_units
            else 0
        end as next_plan_overage_units
    from terms
),

-- Each amount is rounded once. Differences are those of rounded amounts, as between two invoices.
amounts as (
    select
        units.account_id,
        units.meter as meter,
        units.period_start,
        units.period_end,
        units.plan as plan,
        units.is_in_catalogue,
        units.currency,
        units.base_price,
        units.limit_kind,
        units.pricing,
        units.is_pay_per_use,
        units.included_units,
        units.quota_state,
        units.used_mtd,
        units.projected_eom,
        units.hits_cap_in_period,
        units.next_plan,
        units.next_plan_base_price,
        units.next_plan_limit_kind,
        units.overage_units,
        units.projected_overage_units,
        units.next_plan_overage_units,
        {{ cents(overage_price('units.overage_units', 'so_far', 'units.limit_kind')) }} as overage_value,
        {{ cents(overage_price('units.projected_overage_units', 'at_end', 'units.limit_kind')) }}
            as projected_overage_value,
        {{ cents(overage_price('units.next_plan_overage_units', 'on_next', 'units.next_plan_limit_kind')) }}
            as next_plan_overage_value,
        units.limit_kind = 'hard' and units.projected_overage_units > 0 as is_refused,
        units.next_plan_limit_kind = 'hard' and units.next_plan_overage_units > 0 as is_refused_on_next_plan
    from units
    left join price_steps as so_far
        on
            units.plan = so_far.plan
            and units.meter = so_far.meter
            and {{ is_priced_by('units.overage_units', 'so_far') }}
    left join price_steps as at_end
        on
            units.plan = at_end.plan
            and units.meter = at_end.meter
            and {{ is_priced_by('units.projected_overage_units', 'at_end') }}
    left join price_steps as on_next
        on
            units.next_plan = on_next.plan
            and units.meter = on_next.meter
            and {{ is_priced_by('units.next_plan_overage_units', 'on_next') }}
),

costs as (
    select
        *,
        cast(base_price + projected_overage_value as decimal(28, 2)) as projected_cost,
        cast(next_plan_base_price + next_plan_overage_value as decimal(28, 2)) as next_plan_cost
    from amounts
),

credited as (
    select
        costs.*,
        credit.remaining as remaining_credit,
        credit.burns_down_at as credit_burns_down_at
    from costs
    left join credit
        on
            costs.account_id = credit.account_id
            and lower(costs.currency) = credit.currency
            and {{ is_main('costs.meter') }}
),

final as (
    select
        account_id,
        meter,
        period_start,
        period_end,
        plan,
        limit_kind,
        currency,
        base_price,
        included_units,
        used_mtd,
        overage_units,
        overage_value,
        projected_eom,
        projected_overage_units,
        projected_overage_value,
        projected_cost,
        is_refused,
        next_plan,
        next_plan_base_price,
        next_plan_cost,
        is_refused_on_next_plan,
        cast(next_plan_base_price - base_price as decimal(18, 2)) as next_plan_delta_mrr,
        cast(next_plan_cost - projected_cost as decimal(28, 2)) as next_plan_delta,
        case when not is_refused and not is_refused_on_next_plan then next_plan_cost > projected_cost end
            as is_staying_cheaper,
        case
            when not is_in_catalogue or quota_state = 'unknown' then null
            when quota_state <> 'limited' then ''
            when hits_cap_in_period and limit_kind = 'hard' then 'will be blocked'
            when hits_cap_in_period and limit_kind = 'throttle' then 'will be slowed down'
            when hits_cap_in_period and limit_kind = 'monitor' and pricing = 'none' then ''
            when hits_cap_in_period and not is_pay_per_use then 'overage starts'
            when hits_cap_in_period is not null or projected_eom is not null then ''
        end as cost_of_waiting,
        case
            when plan is null then 'no plan'
            when not is_in_catalogue then 'plan not in the catalogue'
            when quota_state = 'unknown' then 'quota unknown'
            when projected_eom is null and used_mtd is null then 'no reading'
            when projected_eom is null and period_end = {{ utc_literal(for_ever()) }} then 'period has no end'
            when projected_eom is null then 'forecast too early'
            else ''
        end as missing,
        cast(remaining_credit as decimal(18, 2)) as remaining_credit,
        credit_burns_down_at
    from credited
)

select * from final
