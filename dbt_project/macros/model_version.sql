{# Eight hex digits that change when a model or a seed does: which rules a figure was made by. #}
{% macro model_version() %}
    {%- set checksums = [] -%}
    {%- for id, node in graph.get("nodes", {}).items() | sort if node.resource_type in ("model", "seed") -%}
        {%- do checksums.append(node.checksum.checksum) -%}
    {%- endfor -%}
    {{ return(local_md5(checksums | join(" "))[:8]) }}
{% endmacro %}
