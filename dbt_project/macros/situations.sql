{# Which advice each situation of account_situations permits, so that a row of routing.csv cannot contradict the facts;
   the first is the usual one. #}
{% macro situations() %}
    {{ return({
        "internal": ["none"],
        "snoozed": ["none"],
        "resolved": ["none", "csm_check_in"],
        "help_needed": ["help_first"],
        "trial": ["call_help", "help_first", "watch"],
        "limit_not_enforced": ["call_help", "help_first", "renewal_talk", "watch"],
        "no_larger_plan": ["call_help", "help_first"],
        "refused_now": ["call_upgrade", "call_help"],
        "refused_soon": ["call_upgrade", "offer_upgrade", "call_help"],
        "upgrade_cheaper": ["call_upgrade", "offer_upgrade", "tell_overage", "call_help", "renewal_talk"],
        "staying_cheaper": ["tell_overage", "do_not_pitch", "renewal_talk", "watch", "none"],
        "price_unknown": ["tell_overage", "call_help", "renewal_talk", "watch"],
        "terms_unknown": ["call_help", "renewal_talk", "watch"],
        "will_not_run_out": ["watch", "renewal_talk", "none"],
        "too_early": ["watch", "renewal_talk", "none"],
        "dropping": ["csm_check_in", "call_help", "watch", "none"],
        "dormant": ["csm_check_in", "call_help", "watch", "none"],
    }) }}
{% endmacro %}

{# The situations in which there is a plan to move up to. #}
{% macro situations_with_next_plan() %}
    {{ return(["refused_now", "refused_soon", "upgrade_cheaper", "staying_cheaper"]) }}
{% endmacro %}

{# The codes of account_situations.reasons, in their order, by the fact of that model that each stands for. #}
{% macro reasons() %}
    {{ return({
        "internal": "is_internal",
        "snoozed": "is_snoozed",
        "quota_raised": "is_raised",
        "dropping": "is_dropping",
        "dormant": "is_dormant",
        "retry_storm": "is_at_threshold and is_retry_storm",
        "failed_calls": "is_at_threshold and is_failing",
        "trial": "is_trial",
        "gauge": "is_gauge",
        "hard_limit": "is_at_threshold and is_hard",
        "soft_limit": "is_at_threshold and limit_kind = 'soft'",
        "throttle_limit": "is_at_threshold and limit_kind = 'throttle'",
        "monitor_limit": "is_at_threshold and limit_kind = 'monitor'",
        "limit_unknown": "is_at_threshold and limit_kind is null",
        "pay_per_use": "is_at_threshold and is_pay_per_use",
        "over_quota": "is_over",
        "served_past_limit": "is_served_past_limit",
        "runs_out": "is_at_threshold and is_running_out and not is_over",
        "will_not_run_out": "is_at_threshold and not is_running_out and not is_unforeseen",
        "no_forecast": "is_at_threshold and is_unforeseen",
        "no_next_plan": "is_at_threshold and next_plan is null",
        "upgrade_cheaper": "is_price_asked and is_upgrade_cheaper",
        "staying_cheaper": "is_price_asked and is_staying_cheaper",
        "same_cost": "is_price_asked and is_same_cost",
        "renewal_soon": "is_renewal_soon",
        "pace_matters": "is_at_threshold and not is_pace_news",
    }) }}
{% endmacro %}

{# The closed list of what can be advised. #}
{% macro advices() %}
    {{ return([
        "call_upgrade", "call_help", "offer_upgrade", "tell_overage", "help_first",
        "do_not_pitch", "watch", "renewal_talk", "csm_check_in", "none",
    ]) }}
{% endmacro %}
