"""Every page and its twin, fetched and parsed."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import pytest
from asking import Page, ask
from screenshots import PAGES
from seed_store import SHADOW
from seed_story import LOOP, name

from noria.cli.show import show_explanation
from noria.server.app import ASGIApp
from noria.server.routes import ROUTES
from noria.store import Store

SHOWN = {title: path for title, path in PAGES.items() if title != "missing"}
TWINS = {title: "/.json" if path == "/" else path.replace("?", ".json?", 1) if "?" in path else f"{path}.json"
         for title, path in SHOWN.items()}  # fmt: skip
BASE = f"/loops/{LOOP}"


def words(app: ASGIApp, path: str) -> str:
    """The text of a page on one line."""
    return " ".join(" ".join(Page(ask(app, path).text).text).split())


@pytest.mark.parametrize("path", SHOWN.values(), ids=SHOWN.keys())
def test_page_is_well_formed_labelled_and_free_of_inline_code(app: ASGIApp, path: str) -> None:
    answer = ask(app, path)
    assert answer.status_code == 200
    page = Page(answer.text)
    assert page.faults == []
    assert page.repeated_ids() == []
    assert len(page.tags("h1")) == 1
    assert len(page.tags("main")) == 1
    assert page.tags("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in page.found if re.fullmatch(r"h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for tag, attributes in page.found:
        assert "style" not in attributes, tag
        assert not any(attribute.startswith("on") for attribute in attributes), tag
        if tag == "script":
            assert attributes["src"].startswith("/static/")
        if tag == "img":
            assert "alt" in attributes
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or attributes.get("aria-label")
        if tag == "th":
            assert attributes.get("scope") in ("col", "row", "rowgroup")
    assert "<style" not in answer.text


@pytest.mark.parametrize("path", SHOWN.values(), ids=SHOWN.keys())
def test_every_link_of_a_page_leads_somewhere(app: ASGIApp, path: str) -> None:
    links = {tag["href"] for tag in Page(ask(app, path).text).tags("a", "link")}
    for link in sorted(links):
        if link.startswith("/"):
            assert ask(app, link).status_code == 200, link


@pytest.mark.parametrize("path", TWINS.values(), ids=TWINS.keys())
def test_every_page_has_a_json_twin(app: ASGIApp, path: str) -> None:
    answer = ask(app, path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.content)["title"]


def test_the_pictures_show_every_page_route() -> None:
    templates = [re.sub(r"\{[^}]+\}", "[^/]+", route.path) for route in ROUTES if route.view]
    paths = [path.partition("?")[0] for path in SHOWN.values()]
    missing = [one for one in templates if not any(re.fullmatch(one, path) for path in paths)]
    assert missing == []


def test_what_people_decided_instead_is_counted(app: ASGIApp) -> None:
    traffic = json.loads(ask(app, f"{BASE}.json").content)["traffic"]
    assert [row["overridden"] for row in traffic][:2] == [3, 3]  # the fourth confirmed what the model said
    assert "People overrode 3 predictions in the last week." in words(app, BASE)


def test_wheel_shows_seven_stages_with_what_they_hold(app: ASGIApp) -> None:
    buckets = json.loads(ask(app, f"{BASE}.json").content)["buckets"]
    assert [bucket["stage"] for bucket in buckets] == [
        "data", "train", "validate", "register", "deploy", "monitor", "retrain",
    ]  # fmt: skip
    held = {bucket["stage"]: (bucket["state"], bucket["holds"]) for bucket in buckets}
    assert held["data"] == ("done", "241,020 rows")
    assert held["validate"] == ("done", "5 of 5 gates")
    assert held["register"] == ("waiting", "v4 awaits approval")
    assert held["deploy"] == ("done", "v3 serves")
    assert held["monitor"][1].startswith("mae 3.")


def test_runs_are_sorted_by_the_column_that_the_query_names(app: ASGIApp) -> None:
    rows = json.loads(ask(app, f"{BASE}/runs.json?sort=metric:mae&order=ascending").content)["rows"]
    assert [row["version"] for row in rows] == [1, 4, 3, 2]


def test_compare_marks_what_differs_and_takes_ticked_boxes(app: ASGIApp) -> None:
    ticked = f"{BASE}/compare?runs={name('run', 1)}&runs={name('run', 3)}"
    page = json.loads(ask(app, ticked.replace("compare?", "compare.json?")).content)
    params = {row["name"]: row["differs"] for row in page["params"]}
    assert params == {
        "train.learning_rate": True,
        "train.leaves": False,
        "train.half_life": True,
        "features.zone_levels": False,
    }
    assert "validation_mae" in page["charts"]


def test_version_page_shows_each_gate_and_asks_for_the_plans_role(app: ASGIApp) -> None:
    shown = words(app, f"{BASE}/models/4")
    assert "dispatch-lead" in shown
    assert 'BeatsChampion("mae", by=0.05)' in shown
    assert "LaGuardia" in shown
    assert "awaits a yes" not in words(app, f"{BASE}/models/3")


def test_monitoring_marks_promotions_and_alarms(app: ASGIApp) -> None:
    page = json.loads(ask(app, f"{BASE}/monitoring.json").content)
    kinds = [marker["kind"] for marker in page["charts"]["error"]["markers"]]
    assert kinds.count("promotion") == 2
    assert kinds.count("alarm") == 1
    assert page["drift"]["drifted"] == 3
    assert [one["name"] for one in page["distributions"]][:1] == ["prediction"]
    shares = [bin["current"] for bin in page["distributions"][0]["bins"]]
    assert sum(shares) == pytest.approx(1)


def test_empty_monitoring_says_what_to_do(app: ASGIApp) -> None:
    assert "Nothing served yet" in words(app, "/loops/churn/monitoring")


def test_dataset_page_names_the_rows_that_broke_an_expectation(app: ASGIApp) -> None:
    shown = words(app, SHOWN["dataset"])
    assert "T-000931" in shown
    assert "and 11 more" in shown


def test_predictions_come_newest_first_with_what_was_said_of_them(app: ASGIApp) -> None:
    rows = json.loads(ask(app, f"{BASE}/predictions.json").content)["rows"]
    assert [row["id"] for row in rows] == [SHADOW, *(f"p{number:06d}" for number in range(49))]
    assert [row["overridden"] for row in rows[1:6]] == [None, 11, 13, 15, 17]
    assert (rows[1]["error"], rows[1]["value"]) == ("the model did not answer", None)
    assert rows[0]["role"] == "shadow"
    shown = words(app, f"{BASE}/predictions?before=120")
    assert "12.5" in shown, "the label"
    assert "← Newest" in shown


def test_predictions_are_all_there_page_by_page(app: ASGIApp) -> None:
    path, found = f"{BASE}/predictions.json", list[str]()
    while True:
        page = json.loads(ask(app, path).content)
        found += [row["id"] for row in page["rows"]]
        if page["older"] is None:
            break
        path = page["older"].replace("predictions?", "predictions.json?")
    assert found == [SHADOW, *(f"p{number:06d}" for number in range(400))]


@pytest.mark.parametrize(
    ("sought", "found"),
    [
        *(("T-000003", ["p000003"]), (" p000003 ", ["p000003"]), (SHADOW, [SHADOW]), ("p000097", ["p000097"])),
        *(("T-000097", []), ("nobody", []), ("p00000", []), ("\0", []), ("%", [])),
    ],
)
def test_predictions_are_found_by_key_or_id(app: ASGIApp, sought: str, found: list[str]) -> None:
    page = json.loads(ask(app, f"{BASE}/predictions.json?q={quote(sought)}").content)
    assert [row["id"] for row in page["rows"]] == found
    assert page["older"] is None
    assert json.loads(ask(app, f"/loops/churn/predictions.json?q={quote(sought)}").content)["rows"] == []


def test_one_prediction_is_shown_with_all_that_explain_tells(
    app: ASGIApp, store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # so that no digest is folded
    for made in ("p000003", "p000097", "p000399", SHADOW):
        show_explanation(store.folder, made)
        told = capsys.readouterr().out
        page = Page(ask(app, f"{BASE}/predictions/{made}").text)
        shown = " ".join(" ".join(page.text).split())
        whole = re.findall(r"blake3:[0-9a-f]{64}|\b[0-9a-f]{32,40}\b|T-\d+", " ".join(told.split()))
        assert len(whole) >= 6
        assert [one for one in whole if one not in shown] == []
        links = {tag["href"] for tag in page.tags("a")}
        assert {f"{BASE}/models", f"{BASE}/data", f"{BASE}/runs", f"{BASE}/turns"} <= {
            link.rpartition("/")[0] for link in links
        }
    assert "approved by grace as dispatch-lead" in words(app, f"{BASE}/predictions/p000003")
    assert "A street is closed." in words(app, f"{BASE}/predictions/p000003")
    assert "the model did not answer" in words(app, f"{BASE}/predictions/p000097")
    assert "12.5" in words(app, f"{BASE}/predictions/p000399")
    shadow = words(app, f"{BASE}/predictions/{SHADOW}")
    assert "middle 81 % long 12 % short 7.0 %" in shadow
    assert "13 by another version: a shadow only listens" in shadow
    assert ask(app, "/loops/churn/predictions/p000003").status_code == 404


def test_turn_page_shows_the_path_with_times(app: ASGIApp) -> None:
    legs = json.loads(ask(app, f"{BASE}/turns/{name('turn', 3)}.json").content)["legs"]
    assert [(leg["name"], leg["state"]) for leg in legs] == [
        ("ordered", "done"), ("building", "done"), ("validating", "done"), ("validated", "done"),
        ("awaiting approval", "skipped"), ("canary", "done"), ("promoted", "done"),
    ]  # fmt: skip
    assert legs[1]["seconds"] > 0


def test_audit_is_chained_and_can_be_asked_for_one_subject(app: ASGIApp) -> None:
    page = json.loads(ask(app, "/audit.json").content)
    assert page["broken"] == 0
    assert all(row["linked"] for row in page["rows"])
    one = json.loads(ask(app, f"/audit.json?subject=turn:{name('turn', 2)}").content)
    assert {row["entry"]["subject"] for row in one["rows"]} == {f"turn:{name('turn', 2)}"}


def test_an_override_in_the_audit_log_leads_to_its_prediction(app: ASGIApp) -> None:
    (row,) = json.loads(ask(app, "/audit.json?subject=prediction:p000003").content)["rows"]
    assert row["href"] == f"{BASE}/predictions/p000003"


def test_unchanged_page_is_not_sent_again(app: ASGIApp) -> None:
    cookie = {"cookie": "noria_pages=" + "a" * 32}
    first = ask(app, BASE, headers=cookie)
    again = ask(app, BASE, headers={**cookie, "if-none-match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""


def test_download_is_an_attachment_that_runs_nothing(app: ASGIApp) -> None:
    answer = ask(app, f"{BASE}/runs/{name('run', 1)}/artifacts/git.diff")
    assert answer.headers["content-disposition"] == 'attachment; filename="git.diff"'
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.content.startswith(b"--- a/loop.py")


def test_scripts_and_styles_stay_within_their_budget() -> None:
    static = Path(__file__).parents[2] / "src/noria/ui/static"
    lines = {path.name: len(path.read_text().splitlines()) for path in static.glob("islands/*.js")}
    assert max(lines.values()) <= 250
    assert sum(lines.values()) <= 1500
    assert len((static / "noria.css").read_text().splitlines()) <= 1000
    vendored = sum(path.stat().st_size for path in (static / "vendor").glob("*.js"))
    assert vendored <= 150 * 1024
