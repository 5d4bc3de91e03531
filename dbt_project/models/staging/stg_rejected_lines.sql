with source as (
    select * from {{ source('lake', 'rejected_lines') }}
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
    source.problem
from source
cross join replayed
where
    source.reason is not null
    -- rows of the accounts file have none: it is read anew each time
    and (source.generation is null or source.generation = replayed.generation)
