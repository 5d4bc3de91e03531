"""The names of the tests: short enough for a line of pytest's report, and clear which test of a folder is meant."""

import ast
from collections import defaultdict
from pathlib import Path

TESTS = Path(__file__).parent
MOST_CHARACTERS = 70


def names_of(module: Path) -> list[str]:
    """Its test functions, also those of classes and async ones."""
    functions = (
        node
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return [function.name for function in functions if function.name.startswith("test_")]


def unfit_names(tests: Path) -> list[str]:
    """A line for each name that is too long, and for each that a folder has twice."""
    unfit, modules = [], defaultdict(list)
    for module in sorted(tests.rglob("test_*.py")):
        for name in names_of(module):
            modules[module.parent, name].append(module.name)
            if len(name) > MOST_CHARACTERS:
                unfit.append(f"{module.relative_to(tests)}: {name} has {len(name)} characters")
    return unfit + [f"{name} is in {' and in '.join(found)}" for (_, name), found in modules.items() if len(found) > 1]


def test_names_of_tests_are_short_and_distinct_in_each_folder() -> None:
    assert "test_names_of_tests_are_short_and_distinct_in_each_folder" in names_of(Path(__file__))
    assert unfit_names(TESTS) == []


def test_name_of_a_test_is_unfit_when_it_is_one_character_too_long(tmp_path: Path) -> None:
    fits, exceeds = (f"test_{'x' * (count - len('test_'))}" for count in (70, 71))
    folder = tmp_path / "lake"
    folder.mkdir()
    (folder / "test_lake.py").write_text(f"def {fits}(): ...\nclass TestLake:\n    async def {exceeds}(self): ...\n")

    assert unfit_names(tmp_path) == [f"lake/test_lake.py: {exceeds} has 71 characters"]


def test_name_of_a_test_is_unfit_when_another_of_its_folder_has_it(tmp_path: Path) -> None:
    for folder, module in (("lake", "test_a"), ("lake", "test_b"), ("ledger", "test_a")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{module}.py").write_text("def test_same(): ...\n")

    assert unfit_names(tmp_path) == ["test_same is in test_a.py and in test_b.py"]
