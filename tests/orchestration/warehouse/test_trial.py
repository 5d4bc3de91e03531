"""A trial of changed seeds: which nodes it builds. That it builds them is in tests/.../defs/test_digest.py."""

from orchestration.warehouse.trial import _between

NODES = {
    "seed.p.thresholds": ("seed", "thresholds"),
    "seed.p.plans": ("seed", "plans"),
    "model.p.stg": ("model", "stg"),
    "model.p.crossings": ("model", "crossings"),
    "model.p.utilization": ("model", "utilization"),
    "model.p.quality": ("model", "quality"),
    "test.p.thresholds_make_sense": ("test", "thresholds_make_sense"),
    "test.p.crossings_agree": ("test", "crossings_agree"),
}
PARENTS = {
    "model.p.crossings": ["seed.p.thresholds", "model.p.stg"],
    "model.p.utilization": ["model.p.crossings", "seed.p.plans"],
    "model.p.quality": ["model.p.utilization"],
    "test.p.thresholds_make_sense": ["seed.p.thresholds"],
    "test.p.crossings_agree": ["seed.p.thresholds", "model.p.crossings"],
}


def test_trial_builds_changed_seeds_their_tests_and_the_way_to_outputs() -> None:
    children: dict[str, list[str]] = {}
    for child, parents in PARENTS.items():
        for parent in parents:
            children.setdefault(parent, []).append(child)
    nodes = {key: {"resource_type": kind, "name": name} for key, (kind, name) in NODES.items()}
    manifest = {"nodes": nodes, "parent_map": PARENTS, "child_map": children}

    found = _between(manifest, ["thresholds"], ["utilization"])

    assert found == [
        "model.p.crossings",
        "model.p.utilization",
        "seed.p.thresholds",
        "test.p.thresholds_make_sense",
    ]
