"""Lake to marts: the dbt models as assets, their tests as blocking checks."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from orchestration.defs.dagster_dbt_alone import (
    DagsterDbtTranslator,
    DagsterDbtTranslatorSettings,
    dbt_assets,
    get_asset_check_key_for_test,
)
from orchestration.defs.resources import MODELS_STEP, OWNERS, Project, failing_in_a_sentence
from orchestration.messages import environment
from orchestration.messages.environment import Cause
from orchestration.settings import Settings
from orchestration.usage.formatting import counted
from orchestration.warehouse import seeds
from orchestration.warehouse.dbt import NodeResult

FIGURES = {
    "utilization_mtd": ("accounts", "accounts_at_threshold", "accounts_without_quota"),
    "events_rejected": ("rejected_lines",),
}
"""Columns of data_quality that are worth a plot on an asset's page."""
SOURCES_OF_ONE_ASSET = DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True)
"""One asset copies all of what the ledger has: two sources of dbt."""


class Translator(DagsterDbtTranslator):
    """The dbt project says which group a model is in; its description is its page, without the SQL."""

    def __init__(self, settings: DagsterDbtTranslatorSettings) -> None:
        super().__init__(settings)
        self._specs: dict[str, dg.AssetSpec] = {}

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> dg.AssetSpec:
        """Of one manifest. Dagster asks for a node's once for each test, and once for what reads it."""
        if unique_id not in self._specs:
            self._specs[unique_id] = self._spec(manifest, unique_id, project)
        return self._specs[unique_id]

    def _spec(self, manifest: Mapping[str, Any], unique_id: str, project: Any) -> dg.AssetSpec:
        node = self.get_resource_props(manifest, unique_id)
        spec = super().get_asset_spec(manifest, unique_id, project)
        if node["resource_type"] == "source":
            return spec
        group = node["config"]["group"]
        return spec.replace_attributes(group_name=group, owners=OWNERS, description=node["description"].strip() or None)


def rule(test: Mapping[str, Any]) -> str | None:
    """What a test of dbt's own kinds asks for, and what to do when it fails; None of the others."""
    terms = test.get("test_metadata", {})
    kind, column = terms.get("name"), str(terms.get("kwargs", {}).get("column_name")).replace(" || ' ' || ", " and ")
    of, _, name = str(test.get("attached_node")).partition(".headroom.")
    rules = {
        "unique": f"No two rows of {name} have the same {column}.",
        "not_null": f"Each row of {name} has a value in {column}.",
        "accepted_values": f"{column} of {name} is one of: {_quoted(test)}.",
    }
    if kind not in rules:
        return None
    where = f"the file {name}.csv in dbt_project/seeds" if of == "seed" else f"the model {name} or its inputs"
    return f"{rules[kind]} If the check fails, nothing is published or sent: repair {where}, and run again."


def _quoted(test: Mapping[str, Any]) -> str:
    values = test["test_metadata"]["kwargs"].get("values", [])
    return ", ".join(str(value) if value != "" else "nothing" for value in values)


def build_models(project: Project) -> dg.AssetsDefinition:
    """The dbt assets; parses the dbt project first where it changed."""
    manifest, translator = project.dbt().manifest(), Translator(SOURCES_OF_ONE_ASSET)
    for node in manifest["nodes"].values():
        if node["resource_type"] == "test":  # what it means and what to do, where its failure shows
            node["meta"] = {"description": node["description"].strip() or rule(node), **node.get("meta", {})}

    @dbt_assets(manifest=manifest, dagster_dbt_translator=translator, name=MODELS_STEP)
    def models(context: dg.AssetExecutionContext, project: Project) -> Iterator[Any]:
        settings, dbt, engine = project.settings, project.dbt(), project.engine()
        keys = {
            unique_id: translator.get_asset_spec(manifest, unique_id, None).key
            for unique_id, node in manifest["nodes"].items()
            if node["resource_type"] in ("model", "seed")
        }
        checks = {
            unique_id: get_asset_check_key_for_test(manifest, translator, unique_id, project=None)
            for unique_id, node in manifest["nodes"].items()
            if node["resource_type"] == "test"
        }
        selected = [node for node, key in keys.items() if key in context.selected_asset_keys]
        selected += [node for node, key in checks.items() if key in context.selected_asset_check_keys]
        is_all = len(selected) == len(keys) + len(checks)
        wanted = None if is_all else [manifest["nodes"][node]["name"] for node in selected]
        _require_readable_seeds(context, settings.dbt_project, seeds.types_of(manifest["nodes"], selected))
        with failing_in_a_sentence():
            engine.load(project.lake(), context.log.info)
        results = dbt.build(settings.now(), settings.timezone, wanted, settings.bill_sampled)
        built = {each.unique_id: each for each in results if each.unique_id in keys and each.status == "success"}
        tables = {
            node: manifest["nodes"][node]["name"]
            for node in built
            if manifest["nodes"][node]["config"]["materialized"] in ("table", "incremental", "seed")
        }
        names = list(tables.values())
        with failing_in_a_sentence():
            rows, quality = engine.inspect(names)
        for unique_id, result in built.items():
            name = manifest["nodes"][unique_id]["name"]
            metadata: dict[str, Any] = {"seconds": result.seconds}
            if name in rows:
                metadata["dagster/row_count"] = rows[name]
            metadata |= {figure: quality[figure] for figure in FIGURES.get(name, ()) if figure in quality}
            yield dg.MaterializeResult(asset_key=keys[unique_id], metadata=metadata)
        for result in results:
            if result.unique_id in checks and result.status != "skipped":
                yield _check_result(checks[result.unique_id], result)
        failed = sorted(  # dbt ends them in any order
            (result for result in results if result.status in ("error", "fail", "runtime error")),
            key=lambda result: result.unique_id.split("."),
        )
        if failed:
            raise dg.Failure(why(failed, settings), allow_retries=False)

    return models


def why(failed: Sequence[NodeResult], settings: Settings) -> str:
    """What failed, and what to do: checks that found rows are another matter than SQL that does not run."""
    checks = [result for result in failed if result.status == "fail"]
    tests = [result for result in failed if result.status != "fail" and result.unique_id.startswith("test.")]
    models = len(failed) - len(checks) - len(tests)
    counts = [
        f"{counted(count, noun)} {verb}"
        for count, noun, verb in (
            (models, "model", "could not be built"),
            (len(tests), "check", "could not run"),
            (len(checks), "check", "failed"),
        )
        if count
    ]
    said = environment.sentence([Cause("Error", result.message) for result in failed], settings)
    if said:
        todo = f"{said[0].upper()}{said[1:]}."
    elif models or tests:
        todo = "Correct the named SQL or seed in dbt_project, and run again."
    else:
        todo = f"To see all rows: `duckdb -readonly {settings.warehouse}`. Repair their source, and run again."
    lines = "\n".join(f"- {result.unique_id.split('.')[2]}: {result.message}" for result in failed)
    return f"{' and '.join(counts)}; nothing was published or sent:\n{lines}\n{todo}"


def _require_readable_seeds(
    context: dg.AssetExecutionContext, folder: Path, types: Mapping[str, Mapping[str, str]]
) -> None:
    """Before dbt reads them, whose errors name neither the file nor the cell."""
    found = seeds.examine(folder, types)
    if found.unknown:
        context.log.warning(f"unknown columns of seeds: {', '.join(found.unknown)}")
    if found.problems:
        lines = "\n".join(f"- {problem}" for problem in found.problems)
        raise dg.Failure(
            f"The seeds in {folder} have errors; nothing was published or sent:\n{lines}\nRepair, and run again.",
            allow_retries=False,
        )


def _check_result(key: Any, result: NodeResult) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=result.status == "pass",
        severity=dg.AssetCheckSeverity.WARN if result.status == "warn" else dg.AssetCheckSeverity.ERROR,
        metadata={"failed_rows": result.failures or 0, "message": result.message},
    )
