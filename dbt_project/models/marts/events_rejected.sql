select
    landed_file,
    line_number,
    item,
    reason,
    line,
    rejected_at
from {{ ref('stg_rejected_lines') }}
