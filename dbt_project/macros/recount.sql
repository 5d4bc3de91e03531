{# Which days hourly_usage counts again, and what is remembered of a build. The plan is made once in an invocation,
   from the one row of hourly_usage_progress: what the last build that was tested had counted. A build that was killed,
   or whose tests failed, is not remembered, and the next one counts and tests its days again. #}

{% macro recount_plan() %}
    {#- kept in the graph, which all nodes of an invocation share: the lake may grow meanwhile -#}
    {%- set key = "recount_plan " ~ invocation_id -%}
    {%- if execute and key not in graph -%}
        {%- do graph.update({key: make_recount_plan()}) -%}
    {%- endif -%}
    {{ return(graph.get(key, {})) }}
{% endmacro %}

{% macro make_recount_plan() %}
    {%- set model = graph.nodes["model.headroom.hourly_usage"] -%}
    {%- set staging = graph.nodes["model.headroom.stg_api_calls"] -%}
    {%- set version = local_md5(model.checksum.checksum ~ staging.checksum.checksum) -%}
    {%- set days = run_query(lake_days()).rows -%}
    {%- set last_batch = days | map(attribute="last_batch") | max -%}
    {%- set hour_number = ((as_of() - modules.datetime.datetime(1970, 1, 1)).total_seconds() // 3600) | int -%}
    {%- set plan = {
        "version": version,
        "last_batch": last_batch,
        "lake": lake_fingerprint(last_batch),
        "is_full": true,
        "since": none,
        "days": [],
        "extra_day": days[hour_number % (days | length)].day,
    } -%}
    {%- set table = adapter.get_relation(target.database, target.schema, "hourly_usage") -%}
    {%- set progress = recount_progress() -%}
    {%- if table and progress and not flags.FULL_REFRESH -%}
        {%- set last = run_query("select * from " ~ progress).rows -%}
        {%- if last and last[0].version == version and last[0].lake == (lake_fingerprint(last[0].last_batch) or none) -%}
            {%- set since = [last[0].counted_until, counted_until()] | min -%}
            {%- do plan.update({"is_full": false, "since": since.date().isoformat()}) -%}
            {%- for row in days if row.last_batch > last[0].last_batch -%}
                {%- do plan.days.append(row.day) -%}
            {%- endfor -%}
        {%- endif -%}
    {%- endif -%}
    {{ return(plan) }}
{% endmacro %}

{# SQL: whether the date is on a day that this build counts again. Since the clock of the last build: events that were
   ahead of it may count now, or, where the clock was set back, count no longer. #}
{% macro is_recounted(date_column) %}
    {%- set plan = recount_plan() -%}
    {%- if plan.get("is_full", true) -%} true
    {%- else -%}
        (
            {{ date_column }} >= date '{{ plan.since }}'
            {%- if plan.days %} or {{ date_column }} in (date '{{ plan.days | join("', date '") }}'){% endif %}
        )
    {%- endif -%}
{%- endmacro %}

{# SQL: whether the tests look at the date: what was counted again, and another day of the lake with each hour, so that
   a difference in an old day is found within as many hours as there are days. #}
{% macro is_tested(date_column) -%}
    ({{ is_recounted(date_column) }} or {{ date_column }} = date '{{ recount_plan().get("extra_day", "1970-01-01") }}')
{%- endmacro %}

{# Before hourly_usage is written, in the same transaction. A full count replaces the table, so it only forgets what
   is remembered of another lake or model, lest that should come back. #}
{% macro delete_recounted_days() %}
    {%- if execute -%}
        {%- if not recount_plan().is_full -%}
            delete from {{ this }} where {{ is_recounted("usage_date") }}
        {%- elif recount_progress() -%}
            delete from {{ recount_progress() }}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}

{# At the end of an invocation: remember it if it counted, and the tests of what it counted passed. If one failed,
   forget everything: the next build counts and tests all days, and goes on failing until the cause is gone. #}
{% macro remember_recount(results) %}
    {%- set tests = ["calls_are_distinct", "daily_usage_adds_up_to_the_calls"] -%}
    {%- set passed, failed = [], [] -%}
    {%- for result in results if result.node.name in tests + ["hourly_usage"] -%}
        {%- do (passed if result.status in ("success", "pass") else failed).append(result) -%}
    {%- endfor -%}
    {%- if passed | length == 3 -%}
        {%- set plan = recount_plan() -%}
        create or replace table {{ target.schema }}.hourly_usage_progress as
        select
            cast({{ plan.last_batch }} as bigint) as last_batch,
            '{{ plan.lake }}' as lake,
            {{ utc_literal(counted_until()) }} as counted_until,
            '{{ plan.version }}' as version
    {%- elif failed | selectattr("status", "equalto", "fail") | list and recount_progress() -%}
        delete from {{ recount_progress() }}
    {%- endif -%}
{% endmacro %}

{% macro recount_progress() %}
    {{ return(adapter.get_relation(target.database, target.schema, "hourly_usage_progress")) }}
{% endmacro %}

{# dbt asks this wherever a model could be built by increments. #}
{% macro should_full_refresh() %}
    {%- if execute and model.unique_id == "model.headroom.hourly_usage" -%}
        {{ return(recount_plan().is_full) }}
    {%- endif -%}
    {{ return(dbt.should_full_refresh()) }}
{% endmacro %}
