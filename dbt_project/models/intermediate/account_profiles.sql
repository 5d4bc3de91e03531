-- An account's attributes and errors in one row, so that the marts join them once.
with accounts as (
    select * from {{ ref('stg_accounts') }}
),

error_rates as (
    select * from {{ ref('error_rates') }}
),

retry_storms as (
    select * from {{ ref('retry_storms') }}
),

-- A snooze in a thread is of the whole account, whichever meter was alerted.
snoozes as (
    select
        account_id,
        cast({{ plus_days('max(dispositioned_at)', var('snooze_days')) }} as date) as snoozed_until
    from {{ ref('alert_dispositions') }}
    where disposition = 'snoozed'
    group by account_id
),

known as (
    select account_id from accounts
    union distinct
    select account_id from error_rates
),

final as (
    select
        known.account_id as account_id,
        accounts.account_name,
        accounts.owner,
        accounts.csm,
        accounts.contact_email,
        accounts.slack_channel,
        accounts.segment,
        accounts.renewal_on,
        accounts.is_trial,
        accounts.is_internal,
        accounts.is_test,
        coalesce(
            greatest(accounts.snoozed_until, snoozes.snoozed_until), accounts.snoozed_until, snoozes.snoozed_until
        ) as snoozed_until,
        accounts.mrr,
        accounts.stripe_customer_id,
        error_rates.error_ratio_7d,
        error_rates.throttled_ratio_7d,
        coalesce(error_rates.has_enough_calls_7d, false) as has_enough_calls_7d,
        coalesce(retry_storms.is_retry_storm, false) as is_retry_storm
    from known
    left join accounts on known.account_id = accounts.account_id
    left join snoozes on known.account_id = snoozes.account_id
    left join error_rates on known.account_id = error_rates.account_id
    left join retry_storms on known.account_id = retry_storms.account_id
)

select * from final
