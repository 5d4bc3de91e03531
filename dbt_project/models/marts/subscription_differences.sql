-- A changed quota that sets usage back to 0 begins no invoice: it is no difference.
with running as (
    select
        account_id,
        max(case when source <> 'quota change' then period_start end) as period_start,
        max(case when is_current then period_end end) as period_end,
        max_by(source, case when source <> 'quota change' then period_start end) as period_source
    from {{ ref('account_periods') }}
    group by account_id
),

customers as (
    select
        account_id,
        stripe_customer_id
    from {{ ref('account_customers') }}
    where
        valid_from <= {{ utc_literal(as_of()) }}
        and valid_until > {{ utc_literal(as_of()) }}
),

invoiced as (
    select * from {{ ref('subscription_periods') }}
    where
        period_start <= {{ utc_literal(as_of()) }}
        and period_end > {{ utc_literal(as_of()) }}
),

billing as (
    select
        stripe_customer_id,
        count(distinct subscription_item_id) as item_count
    from {{ ref('stg_subscription_periods') }}
    where
        {{ is_main('meter') }}
        and status not in ('incomplete', 'incomplete_expired')
        and period_start <= {{ utc_literal(as_of()) }}
        and least(period_end, coalesce(ends_at, period_end)) > {{ utc_literal(as_of()) }}
    group by stripe_customer_id
),

compared as (
    select
        running.account_id as account_id,
        customers.stripe_customer_id as stripe_customer_id,
        invoiced.subscription_id,
        running.period_source as account_period_source,
        running.period_start as account_period_start,
        running.period_end as account_period_end,
        invoiced.period_start as subscription_period_start,
        invoiced.period_end as subscription_period_end,
        coalesce(billing.item_count, 0) as billing_items,
        running.period_source = 'calendar month (no subscription)' as is_fallback,
        running.period_start <> invoiced.period_start as is_another_start,
        running.period_end <> invoiced.period_end as is_another_end
    from running
    left join customers on running.account_id = customers.account_id
    left join invoiced on running.account_id = invoiced.account_id
    left join billing on customers.stripe_customer_id = billing.stripe_customer_id
),

judged as (
    select
        *,
        case
            when is_fallback and stripe_customer_id is null
                then
                    'The account follows Stripe and has no Stripe customer: its quota is of calendar months. Name the'
                    || ' customer in the accounts file.'
            when is_fallback
                then
                    'The account follows Stripe, and no subscription of its customer is known to bill calls now: its'
                    || ' quota is of calendar months. Give the customer a subscription with the metered price.'
            when billing_items > 1
                then
                    'Several subscription items bill this customer''s calls at the same time, so Stripe bills them more'
                    || ' than once. End all but one.'
            when is_another_start and is_another_end
                then
                    'The quota''s period and the invoice''s begin and end at different times. The quota follows the'
                    || ' account''s: set its period_kind to stripe for one period.'
            when is_another_start
                then
                    'The quota''s period and the invoice''s begin at different times. The quota follows the account''s:'
                    || ' set its period_kind to stripe for one period.'
            when is_another_end
                then
                    'The quota''s period and the invoice''s end at different times. The quota follows the account''s:'
                    || ' set its period_kind to stripe for one period.'
        end as difference
    from compared
),

final as (
    select
        account_id,
        stripe_customer_id,
        subscription_id,
        account_period_source,
        account_period_start,
        account_period_end,
        subscription_period_start,
        subscription_period_end,
        cast(billing_items as integer) as billing_items,
        difference
    from judged
    where difference is not null
)

select * from final
