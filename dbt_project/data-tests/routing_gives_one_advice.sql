{{ config(meta={"dagster": {"ref": {"name": "routing"}}}) }}
-- A sentence for each row of routing.csv that would contradict the facts or say nothing, and for what has no row.
with rules as (
    select * from {{ ref('routing') }}
),

permitted as (
    {%- for situation, permitted in situations().items() %}
    {%- for advice in permitted %}
    select
        '{{ situation }}' as situation,
        '{{ advice }}' as advice
    union all
    {%- endfor %}
    {%- endfor %}
    select
        '' as situation,
        '' as advice
),

problems as (
    select
        rule,
        case
            when situation not in ('{{ situations() | join("', '") }}') then 'names an unknown situation: ' || situation
            when advice not in ('{{ advices() | join("', '") }}') then 'names an unknown advice: ' || advice
            when (situation, advice) not in (select p.situation, p.advice from permitted as p)
                then 'advises ' || advice || ', which ' || situation || ' does not permit'
            when reason is not null and reason not in ('{{ reasons() | join("', '") }}') then 'names an unknown reason: ' || reason
            when severity is not null and severity not in ('ok', 'watch', 'warm', 'high', 'critical')
                then 'names an unknown severity: ' || severity
            when limit_kind is not null and limit_kind not in ('hard', 'soft') then 'names an unknown limit_kind: ' || limit_kind
            when meter is not null and meter not in (select m.meter from {{ ref('meters') }} as m)
                then 'names a meter that is not in meters.csv: ' || meter
            when coalesce(owner_role, '') not in ('sales', 'csm') then 'needs an owner_role: sales or csm'
            when by_days < 0 then 'needs by_days of 0 or more'
            when coalesce(trim(next_step), '') = '' then 'needs a next_step'
            when
                next_step like '%{next_plan}%'
                and situation not in ('{{ situations_with_next_plan() | join("', '") }}')
                then 'offers {next_plan}, which ' || situation || ' may not have'
            when
                replace(replace(replace(next_step, '{next_plan}', ''), '{plan}', ''), '{unit}', '') like '%' || '{' || '%'
                then 'has a placeholder in next_step that is none of {next_plan}, {plan} and {unit}'
        end as problem
    from rules
),

without_rule as (
    select distinct permitted.situation as situation
    from permitted
    where
        permitted.situation <> ''
        and permitted.situation not in (
            select usual.situation
            from rules as usual
            where
                usual.reason is null
                and usual.segment is null
                and usual.severity is null
                and usual.plan is null
                and usual.meter is null
                and usual.limit_kind is null
        )
)

select 'Rule ' || cast(rule as varchar) || ' of routing.csv ' || problem || '.' as problem
from problems
where problem is not null
union all
select 'routing.csv needs a row for ' || situation || ' without any other condition.' as problem
from without_rule
