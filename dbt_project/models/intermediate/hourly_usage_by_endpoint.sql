-- Counted like hourly_usage, and after it: macros/recount.sql.
-- depends_on: {{ ref('hourly_usage') }}
{{ config(
    materialized="incremental",
    incremental_strategy="append",
    on_schema_change="fail",
    pre_hook=["{{ mark_recount() }}", "{{ delete_recounted() }}"],
) }}

with calls as (
    select
        account_id,
        event_date,
        hour_start,
        coalesce(endpoint, '') as endpoint,
        -- gRPC codes and a client's 0 or 999 are sent as well; they say nothing here
        case when status between 100 and 599 then status end as status,
        sample_weight,
        0 as refused_weight
    from {{ ref('stg_api_calls') }}
    where
        {{ is_recounted('event_date', 'lake_at', in_lake=true) }}
        -- what a concurrent run ingests meanwhile is counted next time, with all of its hours
        and batch <= {{ recount_plan().last_batch or 0 }}
),

-- What a gate refused is an answer, and no usage.
refused_calls as (
    select
        account_id,
        event_date,
        hour_start,
        coalesce(endpoint, '') as endpoint,
        429 as status,
        0 as sample_weight,
        sample_weight as refused_weight
    from {{ ref('stg_refused_calls') }}
    where
        {{ is_recounted('event_date', 'lake_at', in_lake=true) }}
        and batch <= {{ recount_plan().last_batch or 0 }}
),

answers as (
    select
        *,
        sample_weight + refused_weight as answer_weight
    from (
        select * from calls
        union all
        select * from refused_calls
    ) as answered
),

final as (
    select
        account_id,
        event_date as usage_date,
        hour_start,
        endpoint,
        cast(sum(sample_weight) as bigint) as calls,
        cast(sum(case when status is not null then answer_weight else 0 end) as bigint) as calls_with_status,
        cast(sum(case when status = 429 then answer_weight else 0 end) as bigint) as throttled_calls,
        cast(
            sum(case when status between 400 and 499 and status <> 429 then sample_weight else 0 end) as bigint
        ) as client_error_calls,
        cast(sum(case when status >= 500 then sample_weight else 0 end) as bigint) as server_error_calls,
        cast(sum(refused_weight) as bigint) as refused_calls,
        {{ account_hash('account_id') }} as account_hash
    from answers
    group by account_id, event_date, hour_start, endpoint
)

select * from final
