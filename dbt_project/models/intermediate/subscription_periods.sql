-- Usage of a subscription that ended within a period is invoiced up to then.
with items as (
    select
        stripe_customer_id,
        subscription_id,
        subscription_item_id,
        status as subscription_status,
        is_trial,
        period_start,
        least(period_end, coalesce(ends_at, period_end)) as period_end,
        coalesce(ends_at, {{ utc_literal(for_ever()) }}) as ends_at
    from {{ ref('stg_subscription_periods') }}
    where
        {{ is_main('meter') }}
        and status not in ('incomplete', 'incomplete_expired')
),

-- Of several that bill at the same time one leads: that which goes on longest, then the oldest.
ranked as (
    select
        stripe_customer_id,
        subscription_item_id,
        row_number() over (
            partition by stripe_customer_id
            order by max(ends_at) desc, min(period_start) asc, subscription_item_id asc
        ) as place
    from items
    group by stripe_customer_id, subscription_item_id
),

placed as (
    select
        items.*,
        ranked.place
    from items
    inner join ranked
        on
            items.stripe_customer_id = ranked.stripe_customer_id
            and items.subscription_item_id = ranked.subscription_item_id
),

-- A period ends where one that leads begins, and is none where that has begun.
led as (
    select
        trailing_ones.stripe_customer_id,
        trailing_ones.subscription_item_id,
        trailing_ones.period_start,
        min(leading_ones.period_start) as led_from
    from placed as trailing_ones
    inner join placed as leading_ones
        on
            trailing_ones.stripe_customer_id = leading_ones.stripe_customer_id
            and trailing_ones.place > leading_ones.place
            and trailing_ones.period_start < leading_ones.period_end
            and trailing_ones.period_end > leading_ones.period_start
    group by trailing_ones.stripe_customer_id, trailing_ones.subscription_item_id, trailing_ones.period_start
),

customers_periods as (
    select
        placed.stripe_customer_id,
        placed.subscription_id,
        placed.subscription_status,
        placed.is_trial,
        placed.period_start,
        least(placed.period_end, coalesce(led.led_from, placed.period_end)) as period_end
    from placed
    left join led
        on
            placed.stripe_customer_id = led.stripe_customer_id
            and placed.subscription_item_id = led.subscription_item_id
            and placed.period_start = led.period_start
),

-- Of an account those of its customer, while that is the one that it is billed to.
final as (
    select
        customers.account_id,
        periods.stripe_customer_id,
        periods.subscription_id,
        periods.subscription_status,
        periods.is_trial,
        greatest(periods.period_start, customers.valid_from) as period_start,
        least(periods.period_end, customers.valid_until) as period_end
    from customers_periods as periods
    inner join {{ ref('account_customers') }} as customers
        on
            periods.stripe_customer_id = customers.stripe_customer_id
            and periods.period_start < customers.valid_until
            and periods.period_end > customers.valid_from
    where periods.period_start < periods.period_end
)

select * from final
