"""What assets work with: settings that are read once, and again where they changed."""

from pathlib import Path

import pytest

from orchestration import settings
from orchestration.defs.resources import Project
from orchestration.settings import Settings


def test_settings_are_read_again_only_where_they_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADROOM_DATA", str(tmp_path))
    monkeypatch.delenv("HEADROOM_TIMEZONE", raising=False)
    monkeypatch.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    loads: list[None] = []
    load = settings.load
    monkeypatch.setattr(settings, "load", lambda: loads.append(None) or load())
    project = Project()

    assert [project.settings.timezone for _ in range(3)] == ["UTC"] * 3
    assert len(loads) == 1
    (tmp_path / ".env").write_text("HEADROOM_TIMEZONE=Europe/Berlin")
    assert project.settings.timezone == "Europe/Berlin"
    (tmp_path / ".env").write_text("HEADROOM_TIMEZONE=Europe/Vienna")
    assert project.settings.timezone == "Europe/Vienna"
    monkeypatch.setenv("HEADROOM_TIMEZONE", "Asia/Tokyo")
    assert project.settings.timezone == "Asia/Tokyo"
    assert len(loads) == 4
