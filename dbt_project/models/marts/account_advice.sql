with situations as (
    select
        *,
        {{ business_date(utc_literal(as_of())) }} as today
    from {{ ref('account_situations') }}
),

-- Of the rules that apply the one with the most conditions, of equally many the first.
chosen as (
    select
        situations.*,
        routing.rule as rule, -- noqa: RF04
        routing.advice as advice,
        routing.next_step as routed_step,
        routing.by_days as by_days,
        routing.owner_role as owner_role
    from situations
    inner join {{ ref('routing') }} as routing on situations.situation = routing.situation
    where
        (routing.reason is null or ',' || situations.reasons || ',' like '%,' || routing.reason || ',%')
        and (routing.segment is null or routing.segment = situations.segment)
        and (routing.severity is null or routing.severity = situations.severity)
        and (routing.plan is null or routing.plan = situations.plan)
        and (routing.meter is null or routing.meter = situations.meter)
        and (routing.limit_kind is null or routing.limit_kind = situations.limit_kind)
    qualify
        row_number() over (
            partition by situations.account_id, situations.meter
            order by
                case when routing.reason is null then 0 else 1 end
                + case when routing.segment is null then 0 else 1 end
                + case when routing.severity is null then 0 else 1 end
                + case when routing.plan is null then 0 else 1 end
                + case when routing.meter is null then 0 else 1 end
                + case when routing.limit_kind is null then 0 else 1 end desc,
                routing.rule asc
        ) = 1
),

-- A call that should prevent refusals is due before the cap, a talk about the renewal before the renewal.
dated as (
    select
        *,
        today + by_days as planned_on,
        case
            when advice = 'renewal_talk' then renewal_on
            when reasons like '%runs_out%' then hits_cap_on
        end as latest_on
    from chosen
),

final as (
    select
        account_id,
        meter,
        situation,
        advice,
        reasons,
        replace(
            replace(
                replace(routed_step, '{next_plan}', coalesce(next_plan, 'larger')), '{plan}', coalesce(plan, 'current')
            ),
            '{unit}', coalesce({{ unit_name('unit') }}, 'units')
        ) as next_step,
        case when latest_on < planned_on then latest_on else planned_on end as by_when,
        coalesce(
            case when owner_role = 'csm' then coalesce(csm, owner) else owner end,
            nullif('{{ var("fallback_owner") }}', '')
        ) as owner, -- noqa: RF04
        value,
        currency,
        is_announced,
        rule
    from dated
)

select * from final
