with days as (
    select
        account_id,
        calls,
        calls_with_status,
        throttled_calls,
        client_error_calls,
        server_error_calls,
        refused_calls,
        usage_date >= {{ date_literal(days_ago(7)) }} as is_last_week
    from {{ ref('daily_usage_by_endpoint') }}
    where
        usage_date >= {{ date_literal(days_ago(14)) }}
        and usage_date < {{ date_literal(days_ago(0)) }}
),

weeks as (
    select
        account_id,
        is_last_week,
        cast(sum(calls) as bigint) as calls,
        cast(sum(calls_with_status) as bigint) as calls_with_status,
        cast(sum(throttled_calls) as bigint) as throttled_calls,
        cast(sum(client_error_calls) as bigint) as client_error_calls,
        cast(sum(server_error_calls) as bigint) as server_error_calls,
        cast(sum(refused_calls) as bigint) as refused_calls
    from days
    group by account_id, is_last_week
),

measured as (
    select
        account_id,
        is_last_week,
        calls,
        calls_with_status,
        refused_calls,
        throttled_calls + server_error_calls as retryable_calls,
        case
            when calls_with_status > 0
                then {{ ratio('(throttled_calls + client_error_calls + server_error_calls)', 'calls_with_status') }}
        end as error_ratio,
        case
            when calls_with_status > 0
                then {{ ratio('(throttled_calls + server_error_calls)', 'calls_with_status') }}
        end as retryable_ratio,
        case when calls_with_status > 0 then {{ ratio('throttled_calls', 'calls_with_status') }} end as throttled_ratio
    from weeks
),

last_week as (
    select * from measured
    where is_last_week
),

week_before as (
    select * from measured
    where not is_last_week
),

final as (
    select
        coalesce(last_week.account_id, week_before.account_id) as account_id,
        {{ date_literal(days_ago(1)) }} as through_date,
        coalesce(last_week.calls, 0) as calls_7d,
        coalesce(last_week.calls_with_status, 0) as calls_with_status_7d,
        coalesce(last_week.refused_calls, 0) as refused_calls_7d,
        coalesce(last_week.retryable_calls, 0) as retryable_calls_7d,
        cast(last_week.error_ratio as decimal(7, 6)) as error_ratio_7d,
        cast(last_week.retryable_ratio as decimal(7, 6)) as retryable_ratio_7d,
        cast(last_week.throttled_ratio as decimal(7, 6)) as throttled_ratio_7d,
        coalesce(last_week.calls_with_status, 0) >= {{ var('error_rates_min_calls') }} as has_enough_calls_7d,
        coalesce(week_before.calls, 0) as calls_before_7d,
        coalesce(week_before.calls_with_status, 0) as calls_with_status_before_7d,
        coalesce(week_before.refused_calls, 0) as refused_calls_before_7d,
        coalesce(week_before.retryable_calls, 0) as retryable_calls_before_7d,
        cast(week_before.error_ratio as decimal(7, 6)) as error_ratio_before_7d,
        cast(week_before.retryable_ratio as decimal(7, 6)) as retryable_ratio_before_7d,
        cast(week_before.throttled_ratio as decimal(7, 6)) as throttled_ratio_before_7d,
        coalesce(week_before.calls_with_status, 0) >= {{ var('error_rates_min_calls') }} as has_enough_calls_before_7d
    from last_week
    full outer join week_before on last_week.account_id = week_before.account_id
)

select * from final
