"""The pages as files: the figures of the server, links that lead to files, and nothing that needs a server or a key."""

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import dagster as dg
import pytest
from typer.testing import CliRunner

from orchestration import settings
from orchestration.cli import main
from orchestration.defs import export as export_asset
from orchestration.defs.resources import Project
from orchestration.ledger import decided
from orchestration.messages.digest_message import digest_message
from orchestration.messages.message import to_json
from orchestration.pages import export
from orchestration.pages.export_folder import ExportError
from orchestration.pages.links import SLUG_CHARACTERS, account_file, file_part
from orchestration.settings import Settings
from orchestration.usage.formatting import printable
from orchestration.warehouse import published_copy
from tests.orchestration.pages.conftest import Site
from tests.support.builders import make_digest
from tests.support.pages_world import HOSTILE, NOW

ROW = re.compile(r'<tr data-account="([^"]*)" data-meter="([^"]*)">.*?data-used="(\d*)"', re.DOTALL)
METERS = """
    select account_id, meter, used_mtd,
        row_number() over (partition by account_id order by is_main desc, meter) as place
    from utilization_mtd
    where not is_internal and not is_test
"""
DAYS = ("2026-11-18", "2026-11-19", "2026-11-20")


@dataclass
class Exported:
    config: Settings
    folder: Path
    done: export.Export

    def text(self, file: str) -> str:
        return (self.folder / file).read_bytes().decode()

    def pages(self) -> list[Path]:
        return sorted(self.folder.rglob("*.html"))


@pytest.fixture(scope="module")
def exported(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Of the demo, three digests, of which the second names an account of it, the others one that it does not have."""
    config = settings.load()
    for on in DAYS:
        named = {"account_id": "a/b", "name": "a/b"} if on == DAYS[1] else {}
        digest = {**make_digest(**named), "date": on}
        with site.ledger.transaction() as connection:
            decided.record(connection, f"local|digest|{on}", to_json(digest_message(digest, ())), NOW)
    folder = tmp_path_factory.mktemp("export") / "out"
    return Exported(config, folder, export.export(config, folder))


class Parsed(HTMLParser):
    """The links and ids of a page, and the words of its main part without forms and menus."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()
        self._words: list[str] = []
        self._in: list[str] = []
        self.feed(text)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.links += [link for name in ("href", "src", "action") if (link := found.get(name))]
        self.ids.add(found.get("id") or "")
        if tag in ("main", "form", "nav"):
            self._in.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("main", "form", "nav"):
            self._in.remove(tag)

    def handle_data(self, data: str) -> None:
        if self._in == ["main"]:
            self._words.append(data)


def test_every_link_leads_to_a_file_of_the_export(exported: Exported) -> None:
    parsed = {path: Parsed(path.read_text(encoding="utf-8")) for path in exported.pages()}
    reached = set()
    for path, page in parsed.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme in ("https", "mailto", "data"):
                continue
            assert (parts.scheme, parts.netloc, parts.query) == ("", "", ""), link
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.name}: {link}"
            assert target.is_relative_to(exported.folder)
            assert not parts.fragment or parts.fragment in parsed[target].ids, f"{path.name}: {link}"
            reached.add(target)
    files = {path for path in exported.folder.rglob("*") if path.is_file()}
    assert {path.name for path in files - reached} == {"robots.txt", "export.json"}


def test_files_need_no_server_and_hold_no_key(exported: Exported, site: Site) -> None:
    for path in exported.pages():
        text = path.read_text(encoding="utf-8")
        for forbidden in ("<form", "<input", "<script", "<b>", "/k/", "/u/", "format=csv", "\u202e"):
            assert forbidden not in text, f"{path.name}: {forbidden}"
        assert 'content="noindex, nofollow"' in text
        assert "Counted 20 Nov 2026, 08:17" in text
        assert "Files of 20 Nov 2026, 08:17, without a search." in text


@pytest.mark.parametrize("name", ["top", "changes", "quality", "digests", *(f"digests/{on}" for on in DAYS)])
def test_page_says_what_the_served_one_says(exported: Exported, site: Site, name: str) -> None:
    served = Parsed(site.inside().get(f"/{name}").text)
    assert served.words == Parsed(exported.text(f"{name}.html")).words


def test_largest_accounts_of_each_meter_have_a_page(exported: Exported, site: Site) -> None:
    meters = published_copy.query(site.published, "select distinct meter from top_accounts_30d")
    for meter in (str(row["meter"]) for row in meters):
        file, asked = f"top.{file_part(meter)}", {"meter": meter}
        assert Parsed(site.inside().get("/top", params=asked).text).words == Parsed(exported.text(f"{file}.html")).words
        assert site.inside().get("/top?format=csv", params={**asked, "format": "csv"}).text == exported.text(
            f"{file}.csv"
        )


def test_account_page_says_what_the_served_one_says(exported: Exported, site: Site) -> None:
    client = site.inside()
    rows = published_copy.query(site.published, METERS)
    several = {row["account_id"] for row in rows if row["place"] == 2}
    looked_at = {*HOSTILE, *sorted(several)[:2]}
    assert len(looked_at) > len(HOSTILE)
    for row in rows:
        if row["account_id"] in looked_at:
            account_id, meter = row["account_id"], row["meter"]
            address = "/accounts/?id=..&" if account_id == ".." else f"/accounts/{quote(account_id, safe='')}?"
            served = Parsed(client.get(f"{address}meter={meter}").text)
            file = account_file(account_id, "" if row["place"] == 1 else meter)
            assert served.words == Parsed(exported.text(f"accounts/{file}")).words
    assert len(list((exported.folder / "accounts").iterdir())) == len(rows)


def test_tables_have_the_figures_of_the_mart(exported: Exported, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = published_copy.query(site.published, METERS)
    expected = sorted((printable(row["account_id"]), row["meter"], row["used_mtd"]) for row in rows)
    shown = ROW.findall(exported.text("index.html"))
    assert sorted((html.unescape(account), meter, int(used)) for account, meter, used in shown) == expected
    names = re.findall(r'<tr data-account="([^"]*)"', exported.text("accounts.html"))
    assert sorted(map(html.unescape, names)) == sorted({account for account, _, _ in expected})
    for file, address in (("utilization.csv", "/"), ("top.csv", "/top"), ("changes.csv", "/changes")):
        assert (exported.folder / file).read_bytes() == site.inside().get(f"{address}?format=csv").content
    assert json.loads(exported.text("export.json"))["as_of"] == NOW.isoformat()


def test_next_export_has_no_file_of_accounts_that_left(
    exported: Exported, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = exported.config, tmp_path / "out"
    monkeypatch.setattr(export, "ROWS", 2)
    monkeypatch.setattr(export, "DIGESTS", 2)
    export.export(config, folder, 4)
    before = {path.name for path in (folder / "accounts").iterdir()}
    done = export.export(config, folder, 3)
    after = {path.name for path in (folder / "accounts").iterdir()}
    assert after < before
    assert (done.accounts, done.accounts_in_all, done.digests) == (3, exported.done.accounts, 2)
    listed = (folder / "accounts.html").read_text()
    assert f"The first 3 of {done.accounts_in_all} accounts have a page, by what they need." in listed
    assert f"These are the first of {done.accounts_in_all} accounts by what they need." in listed
    last = -(-len(after) // 2)
    assert len(list(folder.glob("index*.html"))) == last > 1
    assert 'href="index-2.html" rel="next"' in (folder / "index.html").read_text()
    assert 'rel="next"' not in (folder / f"index-{last}.html").read_text()
    small = Exported(exported.config, folder, done)
    test_every_link_leads_to_a_file_of_the_export(small)


def test_export_into_a_place_of_our_own_is_refused(exported: Exported) -> None:
    config = exported.config
    for own in (config.landing, config.lake / "pages"):
        with pytest.raises(ExportError, match="where Headroom keeps its own files"):
            export.export(config, own)


def hostile_ids() -> Iterator[str]:
    yield from HOSTILE
    yield from (
        "",
        ".",
        "A/B",
        "a/B",
        "CON",
        "nul.html",
        "ä",
        "a\u0308",
        "ﬀ",
        "\ud800",
        "x" * 1_024,
        "X" * 1_024,
        "é" * 512,
    )


def test_names_of_files_are_safe_and_differ_without_case() -> None:
    files = [account_file(account_id, meter) for account_id in hostile_ids() for meter in ("", "tokens", "Tokens", "/")]
    assert len({file.casefold() for file in files if file}) == len(files)
    for file in files:
        assert re.fullmatch(r"([a-z0-9]+-)*[0-9a-f]{16}(\.([a-z0-9]+-)*[0-9a-f]{16})?\.html", file)
        assert len(file) <= 2 * (SLUG_CHARACTERS + 18) + 5
    assert account_file("acme").startswith("acme-")


def test_asset_and_command_write_the_same_pages(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_asset, by_command = tmp_path / "asset", tmp_path / "command"
    for name, value in (("DATA", exported.config.data), ("NOW", NOW.isoformat()), ("PAGES_EXPORT", by_asset)):
        monkeypatch.setenv(f"HEADROOM_{name}", str(value))
    monkeypatch.setattr(export_asset, "export", partial(export.export, most_accounts=1))

    result = materialize()
    [made] = result.asset_materializations_for_node("pages_export")
    said = CliRunner().invoke(main.app, ["pages", "export", "--to", str(by_command), "--accounts", "1"])
    assert (said.exit_code, said.stderr) == (0, "")
    assert said.stdout == (
        f"{made.metadata['files'].value} files in {by_command}: 1 account of {exported.done.accounts_in_all}, and"
        " 3 digests.\n"
    )
    files = {str(path.relative_to(by_asset)): path for path in by_asset.rglob("*") if path.is_file()}
    assert len(files) == made.metadata["files"].value
    for name, path in files.items():
        assert path.read_bytes() == (by_command / name).read_bytes()

    (by_asset / "mine.txt").touch()
    failed = materialize().failure_data_for_node("pages_export")
    assert "other files than an export, such as 'mine.txt'" in failed.user_failure_data.description
    refused = CliRunner().invoke(main.app, ["pages", "export"])
    assert (refused.exit_code, "'mine.txt'" in refused.stderr) == (1, True)


def materialize() -> Any:
    return dg.materialize(
        [export_asset.pages_export],
        resources={"project": Project()},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        raise_on_error=False,
    )
