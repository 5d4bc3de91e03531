{{ config(meta={"dagster": {"ref": {"name": "routing"}}}) }}
-- A sentence for each row of routing.csv that would contradict the facts or say nothing, and for what has no row.
with rules as (
    select * from {{ ref('routing') }}
),

permitted as (
    {{ permitted_advice() }}
),

known as (
    {{ known_reasons() }}
),

problems as (
    select
        rule,
        case
            when situation not in (select listed.situation from permitted as listed)
                then 'names an unknown situation: ' || situation
            when advice not in (select listed.advice from permitted as listed)
                then 'names an unknown advice: ' || advice
            when
                situation || ' ' || advice not in (
                    select listed.situation || ' ' || listed.advice from permitted as listed
                )
                then 'advises ' || advice || ', which ' || situation || ' does not permit'
            when reason is not null and reason not in (select listed.reason from known as listed)
                then 'names an unknown reason: ' || reason
            when severity is not null and severity not in ('ok', 'watch', 'warm', 'high', 'critical')
                then 'names an unknown severity: ' || severity
            when limit_kind is not null and limit_kind not in ('hard', 'soft', 'throttle', 'monitor')
                then 'names an unknown limit_kind: ' || limit_kind
            when meter is not null and meter not in (select listed.meter from {{ ref('meters') }} as listed)
                then 'names a meter that is not in meters.csv: ' || meter
            when coalesce(owner_role, '') not in ('sales', 'csm') then 'needs an owner_role: sales or csm'
            when by_days < 0 then 'needs by_days of 0 or more'
            when coalesce(trim(next_step), '') = '' then 'needs a next_step'
            when
                next_step like '%{next_plan}%'
                and situation not in (
                    select listed.situation from permitted as listed
                    where listed.has_next_plan
                )
                then 'offers {next_plan}, which ' || situation || ' may not have'
            when
                replace(replace(replace(next_step, '{next_plan}', ''), '{plan}', ''), '{unit}', '')
                like ('%' || '{' || '%')
                then 'has a placeholder in next_step that is none of {next_plan}, {plan} and {unit}'
        end as problem
    from rules
),

usual as (
    select situation
    from rules
    where
        reason is null
        and segment is null
        and severity is null
        and plan is null
        and meter is null
        and limit_kind is null
)

select 'Rule ' || cast(rule as varchar) || ' of routing.csv ' || problem || '.' as problem
from problems
where problem is not null
union all
select distinct 'routing.csv needs a row for ' || permitted.situation || ' without any other condition.' as problem
from permitted
where permitted.situation not in (select usual.situation from usual)
