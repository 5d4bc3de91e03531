{# The warehouse follows the project: what an earlier project has built and this one has not is in nobody's way. #}

{# Before each build: drop tables and views of models and seeds that the project no longer has, what a killed build left
   half done, and a view in the place of a seed, which dbt itself refuses to replace. Only in the schema of the models:
   only dbt writes there. #}
{% macro drop_removed() %}
    {%- if execute -%}
        {%- set kinds = {} -%}
        {%- for name in bookkeeping() -%}{%- do kinds.update({name: "table"}) -%}{%- endfor -%}
        {%- for node in graph.nodes.values() if node.resource_type in ("model", "seed", "snapshot") -%}
            {%- do kinds.update({node.alias: node.resource_type}) -%}
        {%- endfor -%}
        {%- for row in built_relations() -%}
            {%- if row.name not in kinds or (kinds[row.name] == "seed" and row.type == "view") -%}
                {%- do adapter.drop_relation(api.Relation.create(
                    database=target.database, schema=target.schema, identifier=row.name, type=row.type
                )) -%}
                {%- do log("dropped the " ~ row.type ~ " " ~ row.name ~ ": the project has no such model", info=true) -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{% endmacro %}

{# Before each build by hand of a part: what it reads and does not build has to be there, or one sentence says what to
   do in place of an error for each model and test. #}
{% macro require_built() %}
    {%- if execute -%}
        {%- set read = [] -%}
        {%- for name in selected_resources -%}
            {#- a unit test reads what its model reads -#}
            {%- set node = graph.nodes.get("model." ~ name.split(".")[1:3] | join(".") if name.startswith("unit_test.") else name) -%}
            {%- for parent in (node.depends_on.nodes if node else []) if parent not in selected_resources -%}
                {#- what a model only comes after, it does not read -#}
                {%- set before = "-- depends_on: {{ ref('" ~ parent.split(".")[2] ~ "') }}" -%}
                {%- if graph.nodes.get(parent) and before not in node.raw_code -%}
                    {%- do read.append(graph.nodes[parent].alias) -%}
                {%- endif -%}
            {%- endfor -%}
        {%- endfor -%}
        {%- if read and not flags.DEFER -%}
            {%- set built = built_relations() | map(attribute="name") | list -%}
            {%- set missing = read | unique | reject("in", built) | sort -%}
            {%- if missing -%}
                {%- do exceptions.raise_compiler_error(
                    "The warehouse lacks " ~ missing[0] ~ (" and " ~ (missing | length - 1) ~ " more tables"
                    if missing | length > 1 else "") ~ " that this selection reads: run `dbt build` or `headroom run` once."
                ) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}

{# What a build keeps for the next one, beside the models: warehouse/duckdb.py leaves it out of the published copy. #}
{% macro bookkeeping() %}{{ return(["recount_progress", "crossing_moments"]) }}{% endmacro %}

{% macro built_relations() %}{{ return(adapter.dispatch('built_relations')()) }}{% endmacro %}
{# Views first: they read the tables. #}
{% macro default__built_relations() %}
    {%- set found -%}
        select view_name as name, 'view' as type from duckdb_views()
        where not internal and database_name = '{{ target.database }}' and schema_name = '{{ target.schema }}'
        union all
        select table_name, 'table' from duckdb_tables()
        where not internal and database_name = '{{ target.database }}' and schema_name = '{{ target.schema }}'
        order by type desc, name
    {%- endset -%}
    {{ return(run_query(found).rows) }}
{% endmacro %}
