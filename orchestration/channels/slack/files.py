"""The files of a thread: a table as CSV, a chart as PNG."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.channels.slack.rich import cut
from orchestration.messages import charts
from orchestration.messages.picture import picture
from orchestration.usage.spreadsheet import spreadsheet


def chart_file(name: str, chart: Mapping[str, Any]) -> dict[str, str]:
    """A picture of an account's period. `name` is its name at Slack, unique in the thread."""
    said = charts.alternative(chart)
    return {
        "name": name,
        "title": f"{cut(chart['name'], 80)}: {said.partition('. ')[0]}",
        "alt_text": f"{cut(chart['name'], 80)}. {said}",
        "base64": base64.b64encode(picture(chart)).decode(),
    }


def table_file(name: str, title: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A CSV file, one line for each of `rows`. `name` is its name at Slack, unique in the thread."""
    return {"name": name, "title": title, "content": spreadsheet(rows)}
