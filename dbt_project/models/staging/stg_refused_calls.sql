with source as (
    select * from {{ source('lake', 'raw_events') }}
),

subjects as (
    select * from {{ ref('stg_subjects') }}
)

select
    coalesce(subjects.account_id, source.account_id) as account_id,
    source.account_id as subject,
    source.source,
    source.event_id,
    {{ utc_timestamp('source.event_at') }} as event_at,
    source.event_at as lake_at,
    source.event_date,
    date_trunc('hour', {{ utc_timestamp('source.event_at') }}) as hour_start,
    {{ utc_timestamp('source.ingested_at') }} as ingested_at,
    source.sample_weight,
    source.endpoint as endpoint,
    source.properties,
    source.batch
from source
-- few of them, and on the right side: profiles.yml
left join subjects
    on
        source.account_id = subjects.subject
        and source.event_at >= {{ lake_timestamp('subjects.valid_from') }}
        and source.event_at < {{ lake_timestamp('subjects.valid_until') }}
where
    source.event_name = 'api_call_refused'
    and source.event_at <= {{ lake_timestamp(utc_literal(counted_until())) }}
    -- says no more than the line before, but by it the files of later days are not even opened
    and source.event_date <= {{ date_literal(counted_until()) }}
    and source.event_date >= {{ kept_from() }}
