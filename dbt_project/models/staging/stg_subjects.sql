-- A table, although it only renames: the build counts by what its fingerprint was made of (macros/recount.sql), and the
-- copy that is published must not point into the lake.
{{ config(materialized="table") }}

with source as (
    select * from {{ source('lake', 'raw_subjects') }}
)

select
    subject,
    account_id,
    coalesce({{ utc_timestamp('valid_from') }}, {{ utc_literal(since_ever()) }}) as valid_from,
    coalesce({{ utc_timestamp('valid_until') }}, {{ utc_literal(for_ever()) }}) as valid_until
from source
