"""The linter reads the project's macros by itself: a new one is known, and a mistake beside it is found."""

import shutil
import subprocess
import sys
from pathlib import Path

from orchestration.settings import PROJECT_ROOT

MACROS = """
{% macro halved(expression) %}{{ return(adapter.dispatch('halved')(expression)) }}{% endmacro %}
{% macro default__halved(expression) %}({{ expression }} // 2){% endmacro %}

{% macro halves(relation) -%}
    {%- set column = "units" %}
    select {{ halved(column) }} as units from {{ relation }}
{%- endmacro %}
"""
MODEL = """with halves as (
    {{ halves(ref('hourly_usage')) }}
),

final as (
    SELECT {{ halved('halves.units') }} as units
    from halves
)

select * from final
"""


def test_new_macro_needs_nothing_and_a_mistake_beside_it_is_found(tmp_path: Path) -> None:
    for name in ("pyproject.toml", ".sqlfluffignore"):
        shutil.copy(PROJECT_ROOT / name, tmp_path)
    shutil.copytree(
        PROJECT_ROOT / "dbt_project", tmp_path / "dbt_project", ignore=shutil.ignore_patterns("__pycache__")
    )
    (tmp_path / "dbt_project" / "macros" / "halves.sql").write_text(MACROS)
    model = tmp_path / "dbt_project" / "models" / "marts" / "halves.sql"

    model.write_text(MODEL)
    found = lint(model, tmp_path)
    assert [line.split("|")[2].strip() for line in found if line.startswith("L:")] == ["CP01"]

    model.write_text(MODEL.replace("SELECT", "select"))
    assert [line for line in lint(model, tmp_path) if line.startswith("L:")] == []


def lint(path: Path, folder: Path) -> list[str]:
    program = Path(sys.executable).with_name("sqlfluff")
    command = [program, "lint", "--disable-progress-bar", path]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout.splitlines()
