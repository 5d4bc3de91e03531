{{ config(meta={"dagster": {"ref": {"name": "stg_subjects"}}}) }}
-- At any time a subject belongs to at most one account, and an account is billed to at most one customer.
with ranges as (
    select
        'stg_subjects' as model_name,
        subject as id,
        valid_from,
        valid_until
    from {{ ref('stg_subjects') }}

    union all

    select
        'stg_customers' as model_name,
        account_id as id,
        valid_from,
        valid_until
    from {{ ref('stg_customers') }}
),

followed as (
    select
        *,
        lead({{ nullable('valid_from') }}) over (partition by model_name, id order by valid_from, valid_until)
            as next_valid_from
    from ranges
)

select * from followed
where valid_from >= valid_until or next_valid_from < valid_until
