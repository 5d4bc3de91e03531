with quotas as (
    select
        *,
        -- of a lifetime there is no end to forecast
        period_end < {{ utc_literal(for_ever()) }} as has_end,
        case
            when period_end < {{ utc_literal(for_ever()) }}
                then greatest({{ days_between(date_literal(as_of()), 'period_end') }}, 1)
        end as days_to_end,
        -- Stripe's periods begin and end within a day: how much of today is in the period, and of its last day
        cast(
            {{ seconds_between(
                'greatest(period_start, ' ~ utc_literal(days_ago(0)) ~ ')',
                'least(period_end, ' ~ utc_literal(days_ago(-1)) ~ ')',
            ) }} as double
        ) / 86400 as today_ratio,
        cast(
            {{ seconds_between(
                utc_literal(as_of()),
                'least(period_end, ' ~ utc_literal(days_ago(-1)) ~ ')',
            ) }} as double
        ) / 86400 as today_left_days,
        case
            when period_end >= {{ utc_literal(days_ago(-1)) }} and period_end < {{ utc_literal(for_ever()) }}
                then cast({{ seconds_between(midnight('cast(period_end as date)'), 'period_end') }} as double) / 86400
            else 0
        end as last_day_ratio,
        case
            when period_end < {{ utc_literal(for_ever()) }} then {{ iso_weekday('cast(period_end as date)') }}
        end as last_weekday
    from {{ ref('period_quotas') }}
    where is_current
),

usage as (
    select * from {{ ref('period_usage') }}
),

-- Units still expected in the period, and how far each of the seven days from tomorrow on gets.
expected as (
    select
        weekdays.account_id,
        weekdays.meter,
        weekdays.iso_weekday,
        weekdays.forecast_method,
        weekdays.level_7d,
        weekdays.expected_units,
        weekdays.expected_units
        * {{ weekdays_ahead('weekdays.iso_weekday', 'quotas.days_to_end') }} as expected_later_units,
        case
            when weekdays.iso_weekday = quotas.last_weekday
                then cast(weekdays.expected_units as double) * quotas.last_day_ratio
        end as expected_last_day_units,
        (weekdays.iso_weekday - {{ as_of_weekday() }} + 6) % 7 as days_ahead
    from {{ ref('expected_usage') }} as weekdays
    inner join quotas
        on
            weekdays.account_id = quotas.account_id
            and weekdays.meter = quotas.meter
),

forecasts as (
    select
        account_id,
        meter,
        max(forecast_method) as forecast_method,
        max(level_7d) as level_7d,
        cast(max(case when iso_weekday = {{ as_of_weekday() }} then expected_units end) as double)
            as expected_today_units,
        cast(sum(expected_later_units) as double) + coalesce(max(expected_last_day_units), 0)
            as expected_later_units,
        cast(sum(expected_units) as double) as weekly_units
    from expected
    group by account_id, meter
),

facts as (
    select
        quotas.account_id as account_id,
        quotas.meter as meter,
        quotas.period_start,
        quotas.period_end,
        quotas.period_source,
        quotas.has_end,
        quotas.plan,
        quotas.quota_state,
        quotas.quota,
        quotas.quota_version,
        quotas.quota_policy,
        quotas.unit,
        quotas.aggregation,
        usage.used_today,
        usage.used_same_point_last_period,
        usage.sample_ratio,
        usage.ci95_pct,
        usage.late_calls_24h,
        usage.last_call_at,
        not {{ adds_up('quotas.aggregation') }} as is_gauge,
        -- what was never read of a gauge is unknown; all others start at nothing
        case when quotas.aggregation <> 'latest' then coalesce(usage.used_mtd, 0) else usage.used_mtd end as used_mtd,
        case
            when {{ adds_up('quotas.aggregation') }} and not {{ is_forecast('quotas.meter') }} then 'none'
            else coalesce(forecasts.forecast_method, 'too early')
        end as forecast_method,
        forecasts.level_7d,
        quotas.today_left_days,
        coalesce(usage.used_complete, 0) as used_complete,
        forecasts.expected_today_units * quotas.today_ratio as expected_today_units,
        -- the projection and the days to the cap read today alike: it brings what it has or what is expected of it
        case
            when forecasts.expected_today_units is not null
                then
                    greatest(
                        forecasts.expected_today_units * quotas.today_ratio
                        - cast(coalesce(usage.used_mtd, 0) - coalesce(usage.used_complete, 0) as double),
                        0
                    )
        end as today_left_units,
        forecasts.expected_later_units,
        forecasts.weekly_units
    from quotas
    left join usage
        on
            quotas.account_id = usage.account_id
            and quotas.meter = usage.meter
    left join forecasts
        on
            quotas.account_id = forecasts.account_id
            and quotas.meter = forecasts.meter
),

remainders as (
    select
        *,
        case when quota_state = 'limited' then quota - used_mtd end as remaining
    from facts
),

-- docs/meaning/definitions.md#days-to-cap: today, then whole weeks from tomorrow on, then the day of the week in which
-- the rest is used up. The weeks leave a rest, for its last unit comes on a day with calls. The expectation has six
-- places, and its sum may be short of a thousandth of a unit.
weeks_to_cap as (
    select
        account_id,
        meter,
        remaining - today_left_units as later_units,
        weekly_units,
        ceil((remaining - today_left_units - 0.001) / weekly_units) - 1 as whole_weeks
    from remainders
    where weekly_units > 0 and remaining > today_left_units + 0.001
),

rests as (
    select
        *,
        later_units - whole_weeks * weekly_units as rest
    from weeks_to_cap
),

last_weeks as (
    select
        rests.account_id as account_id,
        rests.meter as meter,
        rests.whole_weeks,
        rests.rest,
        expected.days_ahead,
        cast(expected.expected_units as double) as expected_units,
        cast(
            sum(expected.expected_units) over (partition by rests.account_id, rests.meter order by expected.days_ahead)
            as double
        ) as units_by_day_end
    from expected
    inner join rests
        on
            expected.account_id = rests.account_id
            and expected.meter = rests.meter
),

days_to_cap as (
    select
        account_id,
        meter,
        min(
            whole_weeks * 7 + days_ahead
            -- not below 0: the rest is used up before a later day begins, which must not win
            + greatest(0, least(1, (rest - units_by_day_end + expected_units) / expected_units))
        ) as days_after_today
    from last_weeks
    where expected_units > 0 and units_by_day_end >= rest - 0.001
    group by account_id, meter
),

-- What does not add up moves by decisions, not by days: what it shows is all that can be said
-- (docs/meaning/definitions.md#projection).
timed as (
    select
        remainders.*,
        case
            when remainders.remaining <= 0 then 0
            when remainders.is_gauge or remainders.today_left_units is null then null
            when remainders.remaining <= remainders.today_left_units + 0.001
                then
                    remainders.today_left_days
                    * least(1, cast(remainders.remaining as double) / remainders.today_left_units)
            else
                cast({{ seconds_between(utc_literal(as_of()), utc_literal(days_ago(-1))) }} as double) / 86400
                + days_to_cap.days_after_today
        end as days_left
    from remainders
    left join days_to_cap
        on
            remainders.account_id = days_to_cap.account_id
            and remainders.meter = days_to_cap.meter
),

projected as (
    select
        timed.*,
        cast(
            case
                when timed.is_gauge then timed.used_mtd
                else
                    timed.used_complete
                    + greatest(
                        timed.used_mtd - timed.used_complete, cast(floor(timed.expected_today_units + 0.5) as bigint)
                    )
                    + cast(floor(timed.expected_later_units + 0.5) as bigint)
            end as bigint
        ) as projected_eom,
        choices.mean_abs_error_pct,
        choices.rest_p10_ratio,
        choices.rest_p90_ratio
    from timed
    left join {{ ref('forecast_choice') }} as choices
        on
            timed.account_id = choices.account_id
            and timed.meter = choices.meter
),

-- The projection decides whether the cap is hit in the period. It is of whole units: where half a unit makes it reach
-- the quota, the cap is hit at the very end.
capped as (
    select
        *,
        case
            when remaining <= 0 then true
            when remaining is null or is_gauge or today_left_units is null then null
            when has_end then projected_eom >= quota
            else coalesce(days_left < 36500, false)
        end as hits_cap_in_period
    from projected
),

dated as (
    select
        *,
        case
            when hits_cap_in_period and has_end
                then
                    least(
                        coalesce(days_left, 36500),
                        cast({{ seconds_between(utc_literal(as_of()), 'period_end') }} as double) / 86400
                    )
            else days_left
        end as days_to_cap
    from capped
),

final as (
    select
        account_id,
        meter,
        period_start,
        period_end,
        plan,
        quota_state,
        quota,
        cast(used_mtd as bigint) as used_mtd,
        cast(remaining as bigint) as remaining,
        level_7d,
        projected_eom,
        cast(used_mtd + floor((projected_eom - used_mtd) * rest_p10_ratio) as bigint) as projected_low,
        cast(used_mtd + ceil((projected_eom - used_mtd) * rest_p90_ratio) as bigint) as projected_high,
        case when is_gauge then 'last value' else forecast_method end as forecast_method,
        case when projected_eom is not null then mean_abs_error_pct end as forecast_mape,
        cast(
            case
                when remaining <= 0 then 0
                when remaining > 0 then remaining / nullif(level_7d, 0)
            end as double
        ) as days_to_cap_at_current_rate,
        cast(days_to_cap as double) as days_to_cap,
        case
            when remaining <= 0 then {{ business_date(utc_literal(as_of())) }}
            -- a century ahead is no forecast, and past the range of timestamps it is an error; a day that ends with the
            -- last unit is the day of the cap, not the one that begins then
            when days_to_cap < 36500
                then {{ business_date(plus_days(utc_literal(as_of()), 'greatest(days_to_cap - 1.0 / 86400, 0)')) }}
        end as hits_cap_on,
        hits_cap_in_period,
        unit,
        aggregation,
        period_source,
        quota_version,
        quota_policy,
        used_today,
        used_same_point_last_period,
        sample_ratio,
        ci95_pct,
        late_calls_24h,
        last_call_at
    from dated
)

select * from final
