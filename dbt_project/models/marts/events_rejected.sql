select
    landed_file,
    line_number,
    item,
    reason,
    line,
    rejected_at,
    column_name,
    value,
    problem,
    lost_bytes,
    lost_events
from {{ ref('stg_rejected_lines') }}
