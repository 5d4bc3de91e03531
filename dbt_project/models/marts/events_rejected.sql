select
    landed_file,
    line_number,
    item,
    reason,
    line,
    rejected_at,
    column_name,
    value,
    problem
from {{ ref('stg_rejected_lines') }}
