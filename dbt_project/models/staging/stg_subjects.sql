-- A table, although it only renames: the build counts by what its fingerprint was made of (macros/recount.sql), and the
-- copy that is published must not point into the lake.
{{ config(materialized="table") }}

with source as (
    select * from {{ source('lake', 'raw_subjects') }}
)

select
    subject,
    account_id,
    coalesce({{ utc_timestamp('valid_from') }}, timestamp '1970-01-01 00:00:00') as valid_from,
    coalesce({{ utc_timestamp('valid_until') }}, timestamp '9999-12-31 00:00:00') as valid_until
from source
