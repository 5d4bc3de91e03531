with source as (
    select * from {{ source('lake', 'rejected_lines') }}
)

select
    landed_file,
    line_number,
    reason,
    line,
    {{ utc_timestamp('rejected_at') }} as rejected_at
from source
