with source as (
    select
        *,
        -- A content that is read again has a row without a reason, with its first line: what was refused of it before,
        -- from there on, is forgotten. lake/quarantine.py has the same rule.
        min(case when reason is null then line_number end) over (
            partition by origin
            order by coalesce(batch, 0) desc, case when reason is null then 1 else 0 end
            rows between unbounded preceding and 1 preceding
        ) as read_again_from
    from {{ source('lake', 'rejected_lines') }}
),

replayed as (
    select max(generation) as generation from source
)

select
    source.landed_file,
    source.line_number,
    coalesce(source.item, 0) as item,
    source.reason,
    source.line,
    {{ utc_timestamp('source.rejected_at') }} as rejected_at,
    source.column_name,
    source.value,
    source.problem,
    source.lost_bytes,
    coalesce(source.lost_events, 1) as lost_events
from source
cross join replayed
where
    source.reason is not null
    -- rows of the accounts file have none: it is read anew each time
    and (source.generation is null or source.generation = replayed.generation)
    and (source.read_again_from is null or source.line_number < source.read_again_from)
