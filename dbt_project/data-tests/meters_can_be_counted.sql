{{ config(meta={"dagster": {"ref": {"name": "meters"}}}) }}
-- A sentence for each thing in meters.csv that cannot be counted as it says.
select 'meters.csv needs the row api-calls,sum: calls are what is counted.' as problem
from (
    select count(*) as row_count
    from {{ ref('meters') }}
    where
        meter = 'api-calls'
        and aggregation = 'sum'
) as counted
where row_count = 0

union all

select
    'The meter ' || meter || ' '
    || case
        when aggregation = 'sum' then 'must be latest: only api-calls are added up.'
        when quota_policy = 'reset' then 'is a gauge, which no changed quota resets: carry or prorate.'
        when unit is null then 'needs a unit.'
        when stripe_meter is not null and aggregation <> 'latest'
            then 'has a stripe_meter: HEADROOM_STRIPE_METER names the one of calls, leave it empty.'
        else 'must be written in small letters, with - for _.'
    end as problem
from {{ ref('meters') }}
where
    (aggregation = 'sum' and meter <> 'api-calls')
    or (quota_policy = 'reset' and meter <> 'api-calls')
    or unit is null
    or (stripe_meter is not null and aggregation <> 'latest')
    or meter <> {{ meter_of('meter') }}
