with subjects as (
    select * from {{ ref('stg_subjects') }}
),

-- Usage under an account that no file knows is that of a subject that was no account's at the time.
known_accounts as (
    select account_id from {{ ref('stg_accounts') }}
    union distinct
    select account_id from subjects
),

final as (
    select
        hourly.account_id as subject,
        hourly.account_id in (select subjects.subject from subjects) as is_mapped_at_other_times,
        cast(sum(coalesce(hourly.calls, hourly.events)) as bigint) as calls,
        cast(
            sum(
                case
                    when hourly.usage_date >= {{ date_literal(days_ago(30)) }}
                        then coalesce(hourly.calls, hourly.events)
                    else 0
                end
            ) as bigint
        ) as calls_30d,
        min(hourly.hour_start) as first_hour_start,
        max(hourly.last_call_at) as last_call_at
    from {{ ref('hourly_usage') }} as hourly
    left join known_accounts on hourly.account_id = known_accounts.account_id
    where
        known_accounts.account_id is null
        -- without a subjects file every id is an account
        and exists (select 1 from subjects)
    group by hourly.account_id
)

select * from final
