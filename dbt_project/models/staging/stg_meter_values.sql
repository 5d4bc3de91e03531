-- depends_on: {{ ref('meters') }}
-- One select for each meter: which events it counts, and what of them, is data. Each reads the lake by itself: what
-- two of them read in common, an engine would keep in memory as a whole before it looks at what is asked for.
with subjects as (
    select * from {{ ref('stg_subjects') }}
),

weights as (
    {{ weight_ranges() }}
),

metered as (
    {%- for meter in metered() %}
    {%- set scale = 10 ** (meter.decimals or 0) | int %}
    select
        source.*,
        {{ text_literal(meter.meter) }} as meter,
        '{{ meter.aggregation }}' as aggregation,
        {{ 'true' if meter.weights else 'false' }} as is_weighted,
        {%- if meter.aggregation == 'count' %}
        cast(null as varchar) as sent_value,
        cast(null as varchar) as problem,
        cast(1 as bigint) as steps
        {%- elif meter.aggregation == 'unique' %}
        {{ json_scalar('source.properties', meter.value) }} as sent_value,
        {{ key_problem(json_scalar('source.properties', meter.value)) }} as problem,
        cast(null as bigint) as steps
        {%- else %}
        {{ json_text('source.properties', meter.value) }} as sent_value,
        {{ value_problem(json_text('source.properties', meter.value), scale) }} as problem,
        {{ steps(json_text('source.properties', meter.value), scale) }} as steps
        {%- endif %}
    from {{ source('lake', 'raw_events') }} as source
    where
        source.event_at <= {{ lake_timestamp(utc_literal(counted_until())) }}
        -- says no more than the line before, but by it the files of later days are not even opened
        and source.event_date <= {{ date_literal(counted_until()) }}
        and source.event_date >= {{ kept_from() }}
        and source.event_name in ({{ text_list(names_of(meter.event_names)) }})
        {%- if meter.counts_from %}
        and source.event_date >= date '{{ meter.counts_from }}'
        {%- endif %}
        {{- is_in_filter('source.properties', meter.filter) }}
    {{ "union all" if not loop.last }}
    {%- else %}
    select
        source.*,
        '' as meter,
        '' as aggregation,
        false as is_weighted,
        cast(null as varchar) as sent_value,
        cast(null as varchar) as problem,
        cast(null as bigint) as steps
    from {{ source('lake', 'raw_events') }} as source
    where false
    {%- endfor %}
)

select
    coalesce(subjects.account_id, metered.account_id) as account_id,
    metered.meter as meter,
    metered.aggregation as aggregation,
    metered.account_id as subject,
    metered.source as source, -- noqa: RF04
    metered.event_id,
    {{ utc_timestamp('metered.event_at') }} as event_at,
    metered.event_at as lake_at,
    metered.event_date as event_date,
    date_trunc('hour', {{ utc_timestamp('metered.event_at') }}) as hour_start,
    {{ utc_timestamp('metered.ingested_at') }} as ingested_at,
    metered.sample_weight as sample_weight,
    case when metered.is_weighted then coalesce(weights.weight, 1) else 1 end as endpoint_weight,
    metered.sent_value as sent_value,
    metered.problem as problem,
    metered.steps as steps,
    metered.sample_weight * case when metered.is_weighted then coalesce(weights.weight, 1) else 1 end * metered.steps
        as units,
    metered.endpoint as endpoint,
    metered.properties as properties,
    metered.batch as batch
from metered
-- few of them, and on the right side: profiles.yml
left join subjects
    on
        metered.account_id = subjects.subject
        and metered.event_at >= {{ lake_timestamp('subjects.valid_from') }}
        and metered.event_at < {{ lake_timestamp('subjects.valid_until') }}
left join weights
    on
        metered.endpoint = weights.endpoint
        and metered.event_date >= weights.effective_from
        and metered.event_date < weights.effective_until
