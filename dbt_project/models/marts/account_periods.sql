{%- set keeps_all = kept_from() == date_literal(since_ever()) -%}
{%- set is_cut = "false" if keeps_all else "(start_at < " ~ midnight(kept_from()) ~ ")" -%}
with known_accounts as (
    select * from {{ ref('quota_current') }}
    where {{ is_main('meter') }}
),

first_seen as (
    select
        account_id,
        min(usage_date) as first_date
    from {{ ref('daily_usage') }}
    group by account_id
),

first_quotas as (
    select
        account_id,
        cast(min(effective_at) as date) as first_date
    from {{ ref('quota_history') }}
    group by account_id
),

-- What the accounts file says, and since when there is anything to count.
terms as (
    select
        known_accounts.account_id as account_id,
        coalesce(known_accounts.period_kind, 'month') as period_kind,
        known_accounts.period_anchor,
        known_accounts.period_ends_on,
        least(
            coalesce(first_seen.first_date, {{ date_literal(as_of()) }}),
            coalesce(first_quotas.first_date, {{ date_literal(as_of()) }}),
            {{ date_literal(as_of()) }}
        ) as first_date
    from known_accounts
    left join first_seen on known_accounts.account_id = first_seen.account_id
    left join first_quotas on known_accounts.account_id = first_quotas.account_id
),

-- Months from the anchor's day of the month, or from the first; the month before the first date may reach into it.
months as (
    select
        *,
        case when period_kind = 'cycle' then extract(day from period_anchor) else 1 end as anchor_day,
        {{ months_from(month_before('first_date'), date_literal(as_of())) }} as month_start
    from terms
    where period_kind <> 'lifetime'
),

cycles as (
    select
        account_id,
        period_kind,
        period_anchor,
        period_ends_on,
        first_date,
        {{ day_of_month('month_start', 'anchor_day') }} as start_date,
        {{ day_of_month(month_after('month_start'), 'anchor_day') }} as end_date
    from months
),

dates as (
    select
        account_id,
        first_date,
        start_date,
        end_date,
        case when period_kind = 'cycle' then 'billing anchor' else 'calendar month' end as period_source
    from cycles
    where period_kind not in ('trial', 'stripe')

    union all

    select
        account_id,
        first_date,
        start_date,
        least(end_date, period_anchor) as end_date,
        'calendar month' as period_source
    from cycles
    where period_kind = 'trial' and start_date < period_anchor

    union all

    select
        account_id,
        first_date,
        period_anchor as start_date,
        period_ends_on as end_date,
        'trial' as period_source
    from terms
    where period_kind = 'trial'

    union all

    select
        account_id,
        first_date,
        greatest(start_date, period_ends_on) as start_date,
        end_date,
        'calendar month' as period_source
    from cycles
    where period_kind = 'trial' and end_date > period_ends_on

    union all

    select
        account_id,
        first_date,
        case when period_anchor <= {{ date_literal(as_of()) }} then period_anchor else first_date end as start_date,
        cast(null as date) as end_date,
        'lifetime' as period_source
    from terms
    where period_kind = 'lifetime'
),

-- Of an account that follows Stripe: each period of the subscription, to the second. Where none is known, calendar
-- months take its place, from the end of the one before up to the beginning of the next.
subscriptions as (
    select
        periods.account_id,
        periods.period_start,
        periods.period_end
    from {{ ref('subscription_periods') }} as periods
    inner join terms on periods.account_id = terms.account_id
    where terms.period_kind = 'stripe'
),

turns as (
    select
        account_id,
        period_end as start_at
    from subscriptions
    union distinct
    select
        account_id,
        {{ midnight('start_date') }} as start_at
    from cycles
    where period_kind = 'stripe'
    union distinct
    select
        account_id,
        {{ midnight('end_date') }} as start_at
    from cycles
    where period_kind = 'stripe'
),

beginnings as (
    select
        account_id,
        period_start as start_at,
        'stripe subscription' as period_source
    from subscriptions

    union all

    select
        turns.account_id,
        turns.start_at as start_at,
        'calendar month (no subscription)' as period_source
    from turns
    left join subscriptions
        on
            turns.account_id = subscriptions.account_id
            and turns.start_at >= subscriptions.period_start
            and turns.start_at < subscriptions.period_end
    where subscriptions.account_id is null
),

followed as (
    select
        account_id,
        start_at,
        lead({{ nullable('start_at') }}) over (partition by account_id order by start_at) as end_at,
        period_source
    from beginnings
),

spans as (
    select
        account_id,
        first_date,
        {{ midnight('start_date') }} as start_at,
        coalesce({{ midnight('end_date') }}, {{ utc_literal(for_ever()) }}) as end_at,
        period_source
    from dates

    union all

    select
        followed.account_id,
        terms.first_date,
        followed.start_at,
        followed.end_at,
        followed.period_source
    from followed
    inner join terms on followed.account_id = terms.account_id
    where followed.end_at is not null
),

-- Of one that began before the calls that are kept only a part can be counted: it is left out. The running one is cut
-- off there.
periods as (
    select
        account_id,
        case when {{ is_cut }} then {{ midnight(kept_from()) }} else start_at end as period_start,
        end_at as period_end,
        period_source,
        {{ is_cut }} as is_cut
    from spans
    where
        start_at <= {{ utc_literal(as_of()) }}
        and end_at > {{ midnight('first_date') }}
        and (not {{ is_cut }} or end_at > {{ utc_literal(as_of()) }})
),

-- Where the policy is reset, a changed quota of calls starts usage anew, from the hour in which it took effect.
resets as (
    select distinct
        periods.account_id as account_id,
        date_trunc('hour', history.effective_at) as period_start,
        periods.period_end,
        'quota change' as period_source,
        periods.is_cut
    from {{ ref('quota_history') }} as history
    inner join known_accounts on history.account_id = known_accounts.account_id
    inner join periods
        on
            history.account_id = periods.account_id
            and date_trunc('hour', history.effective_at) > periods.period_start
            and date_trunc('hour', history.effective_at) < periods.period_end
    where
        {{ is_main('history.meter') }}
        and history.quota_version > 1
        and known_accounts.quota_policy = 'reset'
),

parts as (
    select * from periods
    union all
    select * from resets
),

bounded as (
    select
        account_id,
        period_start,
        coalesce(
            lead({{ nullable('period_start') }}) over (partition by account_id, period_end order by period_start),
            period_end
        ) as period_end,
        period_source,
        is_cut
    from parts
),

final as (
    select
        bounded.account_id as account_id,
        bounded.period_start,
        bounded.period_end,
        bounded.period_source as source, -- noqa: RF04
        bounded.period_start <= {{ utc_literal(as_of()) }} and bounded.period_end > {{ utc_literal(as_of()) }}
            as is_current,
        bounded.is_cut,
        known_accounts.is_listed
    from bounded
    inner join known_accounts on bounded.account_id = known_accounts.account_id
    -- a quota change that is ahead of the clock ends the running period, and begins one that is not there yet
    where bounded.period_start <= {{ utc_literal(as_of()) }}
)

select * from final
