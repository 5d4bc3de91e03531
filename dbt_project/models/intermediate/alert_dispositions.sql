-- The answer that holds: the last one that nobody withdrew. Of two read at once, the one that says more than contacted.
with dispositions as (
    select * from {{ ref('stg_dispositions') }}
    where withdrawn_at is null
),

final as (
    select
        message_key,
        account_id,
        meter,
        disposition,
        said_at as dispositioned_at
    from dispositions
    qualify
        row_number() over (
            partition by message_key, account_id, meter
            order by said_at desc, case when disposition = 'contacted' then 1 else 0 end asc, source asc
        ) = 1
)

select * from final
