-- Only calls that count can explain growth: what a gate refused is in none of these numbers.
with growing as (
    select
        account_id,
        through_date,
        calls_7d,
        calls_before_7d,
        calls_7d - calls_before_7d as extra_calls,
        -- of both weeks: where only one tells its errors, their growth is not known
        (calls_with_status_7d - refused_calls_7d) * 100 >= calls_7d * {{ var('retry_storm_min_status_pct') }}
        and (calls_with_status_before_7d - refused_calls_before_7d) * 100
        >= calls_before_7d * {{ var('retry_storm_min_status_pct') }} as has_known_status,
        (retryable_calls_7d - refused_calls_7d) - (retryable_calls_before_7d - refused_calls_before_7d)
            as extra_retryable_calls
    from {{ ref('error_rates') }}
    where calls_7d > calls_before_7d
),

endpoints as (
    select
        account_id,
        endpoint,
        cast(
            sum(case when usage_date >= {{ date_literal(days_ago(7)) }} then calls else -calls end) as bigint
        ) as extra_calls
    from {{ ref('daily_usage_by_endpoint') }}
    where
        usage_date >= {{ date_literal(days_ago(14)) }}
        and usage_date < {{ date_literal(days_ago(0)) }}
    group by account_id, endpoint
),

top_endpoints as (
    select
        account_id,
        endpoint,
        extra_calls
    from endpoints
    qualify row_number() over (partition by account_id order by extra_calls desc, endpoint asc) = 1
),

subjects as (
    select distinct subject from {{ ref('stg_subjects') }}
),

-- Only of ids that the subjects file maps: without one there is nothing to tell apart, and no call is read.
keys as (
    select
        calls.account_id,
        calls.subject,
        cast(
            sum(
                case
                    when calls.event_date >= {{ date_literal(days_ago(7)) }} then calls.sample_weight
                    else -calls.sample_weight
                end
            ) as bigint
        ) as extra_calls
    from {{ ref('stg_api_calls') }} as calls
    inner join subjects on calls.subject = subjects.subject
    where
        calls.event_date >= {{ date_literal(days_ago(14)) }}
        and calls.event_date < {{ date_literal(days_ago(0)) }}
    group by calls.account_id, calls.subject
),

top_keys as (
    select
        account_id,
        subject,
        extra_calls
    from keys
    qualify row_number() over (partition by account_id order by extra_calls desc, subject asc) = 1
),

final as (
    select
        growing.account_id as account_id,
        growing.through_date,
        growing.calls_7d,
        growing.calls_before_7d,
        growing.extra_calls as extra_calls,
        case when growing.has_known_status then growing.extra_retryable_calls end as extra_error_calls,
        cast(
            case
                when growing.has_known_status
                    then {{ ratio(
                        'greatest(least(growing.extra_retryable_calls, growing.extra_calls), 0)', 'growing.extra_calls'
                    ) }}
            end as decimal(7, 6)
        ) as error_share_ratio,
        top_endpoints.endpoint as top_endpoint,
        top_endpoints.extra_calls as top_endpoint_extra_calls,
        top_keys.subject as top_subject,
        top_keys.extra_calls as top_subject_extra_calls,
        case
            when growing.has_known_status
                then
                    growing.extra_calls >= {{ var('retry_storm_min_extra_calls') }}
                    and growing.extra_calls * 100 >= growing.calls_before_7d * {{ var('retry_storm_min_growth_pct') }}
                    and growing.extra_retryable_calls * 100
                    >= growing.extra_calls * {{ var('retry_storm_min_error_pct') }}
        end as is_retry_storm
    from growing
    left join top_endpoints on growing.account_id = top_endpoints.account_id
    left join top_keys on growing.account_id = top_keys.account_id
)

select * from final
