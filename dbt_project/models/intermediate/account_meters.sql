{{ config(materialized="view") }} -- names that other tables have

-- The main meter is everybody's, another one of those of whom it was ever heard.
with heard_of as (
    select
        account_id,
        meter
    from {{ ref('hourly_usage') }}
    group by account_id, meter
    union distinct
    select
        account_id,
        meter
    from {{ ref('event_values') }}
    where problem is null
    union distinct
    select
        account_id,
        meter
    from {{ ref('meter_events') }}
    where
        (event_name = 'quota_set' and aggregation is not null)
        or (aggregation = 'latest' and (used_units is not null or limit_units is not null))
),

final as (
    select
        account_id,
        meter
    from heard_of
    union distinct
    select
        account_id,
        {{ text_literal(main_meter()) }} as meter
    from heard_of
    union distinct
    select
        account_id,
        {{ text_literal(main_meter()) }} as meter
    from {{ ref('meter_events') }}
    where event_name = 'usage.limit_reached'
    union distinct
    select
        account_id,
        {{ text_literal(main_meter()) }} as meter
    from {{ ref('stg_accounts') }}
)

select * from final
