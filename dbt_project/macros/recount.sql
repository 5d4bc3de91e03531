{# Which hours are counted again, and what is remembered of a build. One plan serves all recounted models. It is made
   once in an invocation, from the one row of recount_progress: what the last build that counted and tested all of them
   had counted. A build that was killed, whose tests failed or that counted only some of them is not remembered, and
   the next one counts and tests its hours again: an hour counted twice is the same hour. #}

{# The models that are counted by touched hour. Each depends on the one before, by `depends_on` where it does not read
   it: two at once would change recount_progress at once, and hold the groups of two counts in memory. #}
{% macro recounted_models() %}{{ return(["hourly_usage", "hourly_usage_by_endpoint", "hourly_usage_by_property", "event_values"]) }}{% endmacro %}

{# What has to pass for a build to be remembered. #}
{% macro recount_tests() %}
    {{ return(["calls_are_distinct", "daily_usage_adds_up_to_the_calls", "endpoints_add_up_to_daily_usage"]) }}
{% endmacro %}

{% macro recount_plan() %}
    {#- kept in the graph, which all nodes of an invocation share: the lake may grow meanwhile -#}
    {%- set key = "recount_plan " ~ invocation_id -%}
    {%- if execute and key not in graph -%}
        {%- do graph.update({key: make_recount_plan()}) -%}
    {%- endif -%}
    {{ return(graph.get(key, {})) }}
{% endmacro %}

{% macro make_recount_plan() %}
    {%- set checksums, missing = [], [] -%}
    {%- do checksums.append(graph.nodes["model.headroom.threshold_crossings"].checksum.checksum) -%}
    {%- for name in ["stg_api_calls", "stg_refused_calls", "stg_meter_values"] + recounted_models() -%}
        {%- do checksums.append(graph.nodes["model.headroom." ~ name].checksum.checksum) -%}
        {%- if not adapter.get_relation(target.database, target.schema, name) -%}
            {%- do missing.append(name) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do checksums.append(graph.nodes["seed.headroom.endpoint_weights"].checksum.checksum) -%}
    {%- do checksums.append(meters_fingerprint()) -%}
    {%- do checksums.append(subjects_fingerprint()) -%}
    {#- hourly_usage has the calls of an hour that are of the next business day -#}
    {%- do checksums.append(business_zone() if business_days_split_hours() else "") -%}
    {%- set version = local_md5(checksums | join(" ")) -%}
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
        "spans": [],
        "extra_day": days[hour_number % (days | length)].day,
        "previous_mark": "",
    } -%}
    {%- do plan.update({"mark": recount_mark(version, plan.lake, counted_until())}) -%}
    {%- set progress = recount_progress() -%}
    {%- if progress and not missing and not flags.FULL_REFRESH -%}
        {%- set last = run_query("select * from " ~ progress).rows -%}
        {#- a lake that keeps more than it did was put back: days that had gone from the counts are there again -#}
        {%- if
            last and last[0].version == version and last[0].lake == (lake_fingerprint(last[0].seen_batch) or none)
            and date_literal(last[0].kept_from) <= kept_from()
        -%}
            {%- set since = [last[0].counted_until.replace(tzinfo=none), counted_until()] | min -%}
            {%- do plan.update({
                "is_full": false,
                "since": since.replace(minute=0, second=0, microsecond=0),
                "previous_mark": recount_mark(version, last[0].lake, last[0].counted_until),
            }) -%}
            {%- set newest = days | map(attribute="last_batch") | max -%}
            {%- if newest > last[0].last_batch -%}
                {%- do add_touched(plan, run_query(touched_hours(last[0].last_batch)).rows) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endif -%}
    {{ return(plan) }}
{% endmacro %}

{# Of what stg_subjects says, in whatever order: usage of a subject that is mapped late moves to its account. #}
{% macro subjects_fingerprint() %}
    {%- set subjects = adapter.get_relation(target.database, target.schema, "stg_subjects") -%}
    {{ return(run_query("select " ~ rows_fingerprint("subjects") ~ " from " ~ subjects ~ " as subjects").rows[0][0] if subjects else "") }}
{% endmacro %}

{# Hours that follow one another are one span. A day with many spans is counted as a whole: a condition for each would
   cost more. #}
{% macro add_touched(plan, hours) %}
    {%- set an_hour = modules.datetime.timedelta(hours=1) -%}
    {%- for day in hours | groupby("day") -%}
        {%- set spans = [] -%}
        {%- for row in day.list -%}
            {%- if spans and spans[-1].until == row.touched_hour -%}
                {%- do spans[-1].update({"until": row.touched_hour + an_hour}) -%}
            {%- else -%}
                {%- do spans.append({"since": row.touched_hour, "until": row.touched_hour + an_hour}) -%}
            {%- endif -%}
        {%- endfor -%}
        {%- if spans | length > 6 -%}
            {%- do plan.days.append(day.grouper) -%}
        {%- else -%}
            {%- do plan.spans.extend(spans) -%}
        {%- endif -%}
    {%- endfor -%}
{% endmacro %}

{# The UTC days of the spans, as text. #}
{% macro days_of_spans(plan) %}
    {{ return(plan.spans | map(attribute="since") | map("string") | map("truncate", 10, true, "", 0) | list) }}
{% endmacro %}

{# SQL: whether the moment, of that UTC day, is in an hour that this build counts again. Since the clock of the last
   build: events that were ahead of it may count now, or, where the clock was set back, count no longer. Days that the
   lake does not keep any more: nothing is found of them, so they go. `in_lake` says that the moment has a time zone: by
   literals the engine decides before reading what it needs, so the days are named apart. #}
{% macro is_recounted(date_column, at_column, in_lake=false) %}
    {%- set plan = recount_plan() -%}
    {%- if plan.get("is_full", true) -%} true
    {%- elif in_lake -%} {{ is_in_lake_spans(date_column, at_column, plan.days, plan.spans) }}
    {%- else -%}
        {%- set dates = plan.days + days_of_spans(plan) -%}
        (
            (
                {{ date_column }} >= {{ date_literal(plan.since) }}
                or {{ date_column }} < {{ kept_from() }}
                {%- if dates %} or {{ date_column }} in (date '{{ dates | unique | join("', date '") }}'){% endif %}
            )
            and (
                {{ at_column }} >= {{ moment_literal(plan.since, in_lake) }}
                or {{ date_column }} < {{ kept_from() }}
                {%- if plan.days %} or {{ date_column }} in (date '{{ plan.days | join("', date '") }}'){% endif %}
                {%- for span in plan.spans %}
                or (
                    {{ at_column }} >= {{ moment_literal(span.since, in_lake) }}
                    and {{ at_column }} < {{ moment_literal(span.until, in_lake) }}
                )
                {%- endfor %}
            )
        )
    {%- endif -%}
{%- endmacro %}

{# The same of the lake's calls: days and hours as spans of the moment alone, for an `or` of two columns has the engine
   read every moment of a day. The models of staging leave out days that are not kept. #}
{% macro is_in_lake_spans(date_column, at_column, days, spans) %}
    {%- set plan, parse, a_day = recount_plan(), modules.datetime.datetime.fromisoformat, modules.datetime.timedelta(days=1) -%}
    {%- set dates, all_spans = days + days_of_spans(plan), spans + [] -%}
    {%- for day in days -%}{%- do all_spans.append({"since": parse(day), "until": parse(day) + a_day}) -%}{%- endfor -%}
    (
        (
            {{ date_column }} >= {{ date_literal(plan.since) }}
            {%- if dates %} or {{ date_column }} in (date '{{ dates | unique | join("', date '") }}'){% endif %}
        )
        and (
            {{ at_column }} >= {{ moment_literal(plan.since, true) }}
            {%- for span in all_spans %}
            or (
                {{ at_column }} >= {{ moment_literal(span.since, true) }}
                and {{ at_column }} < {{ moment_literal(span.until, true) }}
            )
            {%- endfor %}
        )
    )
{%- endmacro %}

{% macro moment_literal(moment, in_lake) -%}
    {{ lake_timestamp(utc_literal(moment)) if in_lake else utc_literal(moment) }}
{%- endmacro %}

{# SQL: whether the tests look at the moment: at what was counted again, and at another day of the lake with each hour, so
   that a difference in an old day is found within as many hours as there are days. #}
{% macro is_tested(date_column, at_column, in_lake=false) -%}
    {%- set plan = recount_plan() -%}
    {%- if in_lake and not plan.get("is_full", true) -%}
    {{ is_in_lake_spans(date_column, at_column, plan.days + [plan.extra_day], plan.spans) }}
    {%- else -%}
    (
        {{ is_recounted(date_column, at_column, in_lake) }}
        or {{ date_column }} = date '{{ plan.get("extra_day", "1970-01-01") }}'
    )
    {%- endif -%}
{%- endmacro %}

{# SQL: whether the tests look at the day as a whole, for it has an hour that was counted again. #}
{% macro is_tested_day(date_column) -%}
    {%- set plan = recount_plan() -%}
    {%- if plan.get("is_full", true) -%} true
    {%- else -%}
        {%- set dates = plan.days + days_of_spans(plan) + [plan.extra_day] -%}
        (
            {{ date_column }} >= {{ date_literal(plan.since) }}
            or {{ date_column }} in (date '{{ dates | unique | join("', date '") }}')
        )
    {%- endif -%}
{%- endmacro %}

{# Before a recounted model is written, in the same transaction: whatever becomes of this build, what is remembered must
   still hold for the table. After a full count it holds no longer. A count by increments has seen another lake: should
   that lose the batch again, nobody would know which hours it was in. And where the clock was set back, the hours since
   then lost calls that only a count from there on brings back. #}
{% macro mark_recount() %}
    {%- if execute and recount_progress() -%}
        {%- set plan = recount_plan() -%}
        {%- if plan.is_full -%}
            delete from {{ recount_progress() }} where true
        {%- else -%}
            {%- set changes = [
                "seen_batch = " ~ plan.last_batch,
                "lake = '" ~ plan.lake ~ "'",
                "kept_from = " ~ kept_from(),
                "counted_until = least(counted_until, " ~ utc_literal(counted_until()) ~ ")",
            ] -%}
            {{ changed_rows(recount_progress(), changes | join(", ")) }}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}

{# After that, in the same transaction too. A full count replaces the table. #}
{% macro delete_recounted() %}
    {%- if execute and not recount_plan().is_full -%}
        delete from {{ this }} where {{ is_recounted("usage_date", "hour_start") }}
    {%- endif -%}
{% endmacro %}

{# At the end of an invocation: remember it if it counted every recounted model, and the tests of what it counted
   passed. If one failed, forget everything: the next build counts and tests all hours, and goes on failing until the
   cause is gone. #}
{% macro remember_recount(results) %}
    {%- set needed = recount_tests() + recounted_models() -%}
    {%- set passed, failed = [], [] -%}
    {%- for result in results if result.node.name in needed -%}
        {%- do (passed if result.status in ("success", "pass") else failed).append(result) -%}
    {%- endfor -%}
    {%- if passed | length == needed | length -%}
        {%- set plan = recount_plan() -%}
        {{ replaced_table(target.schema ~ ".recount_progress") }}
        select
            cast({{ plan.last_batch }} as bigint) as last_batch,
            cast({{ plan.last_batch }} as bigint) as seen_batch,
            '{{ plan.lake }}' as lake,
            {{ utc_literal(counted_until()) }} as counted_until,
            {{ kept_from() }} as kept_from,
            '{{ plan.version }}' as version
    {%- elif failed | selectattr("status", "equalto", "fail") | list and recount_progress() -%}
        delete from {{ recount_progress() }} where true
    {%- endif -%}
{% endmacro %}

{# What a count had counted: by which rules, the lake up to a batch, and the clock. #}
{% macro recount_mark(version, lake, counted_until) %}
    {{ return(local_md5([version, lake, counted_until] | join(" "))) }}
{% endmacro %}

{# SQL: which call of an hour reached a threshold, as threshold_crossings has found for the last count that was
   remembered, in hours that this build does not count again: it still holds, and the hour's calls need not be read. #}
{% macro remembered_moments() %}
    {%- set moments = adapter.get_relation(target.database, target.schema, "crossing_moments") if execute -%}
    {%- set mark = recount_plan().get("previous_mark") -%}
    {%- if moments and mark %}
    select
        account_id,
        meter,
        hour_start,
        unit_of_hour,
        reached_at
    from {{ moments }}
    where
        counted_by = '{{ mark }}'
        and not {{ is_recounted("cast(hour_start as date)", "hour_start") }}
    {%- else %}
    select
        '' as account_id,
        '' as meter,
        {{ utc_literal(as_of()) }} as hour_start,
        0 as unit_of_hour,
        {{ utc_literal(as_of()) }} as reached_at
    where false
    {%- endif -%}
{% endmacro %}

{# After threshold_crossings is written: its moments, with the mark of the count that they belong to. The table is
   bookkeeping: no mart has it, and the published copy leaves it out. #}
{% macro remember_moments() %}
    {{ replaced_table(target.schema ~ ".crossing_moments") }}
    select distinct
        account_id,
        meter,
        hour_start,
        unit_of_hour,
        reached_at,
        '{{ recount_plan().get("mark", "") }}' as counted_by
    from {{ this }}
    where unit_of_hour is not null
{% endmacro %}

{# The table of what is remembered: the last batch counted everywhere, the last one that any count has seen and its
   fingerprint, the clock, the first day that was kept, and the models. None before the first build that was remembered. #}
{% macro recount_progress() %}
    {{ return(adapter.get_relation(target.database, target.schema, "recount_progress")) }}
{% endmacro %}

{# dbt asks this wherever a model could be built by increments, and of each seed. A seed is a few rows, and its columns
   are what its file names: into the table of yesterday's columns they would not go, or would go into the wrong ones. #}
{% macro should_full_refresh() %}
    {%- if model.resource_type == "seed" -%}{{ return(true) }}{%- endif -%}
    {%- if execute and model.resource_type == "model" and model.name in recounted_models() -%}
        {{ return(recount_plan().is_full) }}
    {%- endif -%}
    {{ return(dbt.should_full_refresh()) }}
{% endmacro %}
