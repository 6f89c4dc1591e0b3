"""Experiments, runs and registered models in a real Chromium, on a real server with thousands of runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit
from urllib.request import Request, urlopen

import pytest
from asking import Page as Markup
from asking import ask
from browsing import CHROMIUM, chromium, served
from playwright.sync_api import Page, expect
from seed_story import NOW, StoppedClock, name
from seed_tracking import ARABIC, CHINESE, EVIL, FILES, GOING, MODEL, ODD, PNG, SWEEP, TRIALS, fill_tracking, info
from test_browser import Site

from noria.records.tracking import Point
from noria.server.app import ASGIApp, create_app
from noria.store import Store, open_store
from noria.store.tracking import Artifact, TrackingTransaction
from noria.ui.lines import history

MANY, COUNT = 4, 5_000
START = int(NOW.timestamp() * 1000)
browser_only = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM}")


def fill(store: Store) -> None:
    """The tracked story, and an experiment of 5,000 runs; no loop."""
    fill_tracking(store)

    def change(tx: TrackingTransaction) -> None:
        assert tx.add_experiment("many", "mlflow-artifacts:/{id}", START, {}) == MANY
        for number in range(COUNT):
            run = name("many", number)
            tx.add_run(info(run, f"run {number:04}", "FINISHED", START - COUNT + number, 10, MANY), {})
            points = [Point("loss", (number * 37) % COUNT / COUNT, START, 1)]
            tx.log(run, points=points, params={"depth": str(number % 12)})

    store.tracking.write(change)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store of tracked runs."""
    opened = open_store(tmp_path_factory.mktemp("tracked"))
    fill(opened)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def app(store: Store) -> ASGIApp:
    """Its pages, asked in-process."""
    return create_app(store, StoppedClock(), address="http://127.0.0.1:8000")


@pytest.fixture(scope="module")
def site(store: Store) -> Iterator[Site]:
    """Its pages, served to a browser."""
    with served(store) as address, chromium() as browser:
        yield Site(address, store, browser)


@pytest.fixture
def page(site: Site) -> Iterator[Page]:
    """A tab; whatever the browser complains of fails the test."""
    site.complaints.clear()
    opened = site.page()
    yield opened
    opened.context.close()
    assert site.complaints == []


def twin(app: ASGIApp, path: str) -> dict[str, object]:
    """A page's JSON twin."""
    address, _, query = path.partition("?")
    answer = ask(app, f"{address}.json" + (f"?{query}" if query else ""))
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = json.loads(answer.content)
    return found


# -- lists


def test_front_page_shows_the_experiments_where_no_loop_is(app: ASGIApp) -> None:
    answer = ask(app, "/")
    assert "<h1>Experiments</h1>" in answer.text
    assert "No loop here yet" not in answer.text
    rows = json.loads(ask(app, "/.json").content)["experiments"]
    assert {row["name"]: row["runs"] for row in rows} == {"many": COUNT, "taxi-sweep": 132, EVIL: 1}


def test_experiments_are_counted_and_found_by_part_of_their_name(app: ASGIApp) -> None:
    rows = {row["id"]: row for row in twin(app, "/experiments")["rows"]}  # type: ignore[attr-defined]
    assert (rows[MANY]["runs"], rows[1]["running"]) == (COUNT, 1)
    found = twin(app, f"/experiments?q={quote(CHINESE[:2])}")["rows"]
    assert [row["name"] for row in found] == [CHINESE]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "query",
    ["", "?sort=metric:loss&order=ascending", "?sort=metric:loss", "?sort=param:depth", "?sort=name&order=ascending",
     "?filter=params.depth%20%3D%20'3'", "?sort=started&order=ascending"],
)  # fmt: skip
def test_pages_of_a_table_miss_and_repeat_no_run(app: ASGIApp, query: str) -> None:
    path, seen = f"/experiments/{MANY}{query}", []
    while path:
        found = twin(app, path)
        seen += [row["id"] for row in found["rows"]]  # type: ignore[attr-defined]
        path = str(found["next"] or "")
    wanted = sum(number % 12 == 3 for number in range(COUNT)) if "filter" in query else COUNT
    assert len(seen) == len(set(seen)) == wanted


def test_sorted_by_a_metric_whose_values_are_not_numbers(tmp_path: Path) -> None:
    with_odd = open_store(tmp_path)

    def change(tx: TrackingTransaction) -> None:
        for number in range(230):
            run = name("endless", number)
            tx.add_run(info(run, f"run {number}", "FINISHED", START + number, 1, 0), {})
            value = (float("inf"), float("-inf"), float("nan"), None)[number % 4]
            if value is not None:
                tx.log(run, points=[Point("loss", value, START, 0)])

    with_odd.tracking.write(change)
    app = create_app(with_odd, StoppedClock(), address="127.0.0.1:8000")
    for order in ("ascending", "descending"):
        path, seen = f"/experiments/0?sort=metric:loss&order={order}", []
        while path:
            found = twin(app, path)
            seen += [row["id"] for row in found["rows"]]  # type: ignore[attr-defined]
            path = str(found["next"] or "")
        assert len(set(seen)) == len(seen) == 230
    with_odd.close()


def test_filter_that_cannot_be_read_is_answered_beside_its_box(app: ASGIApp) -> None:
    answer = ask(app, "/experiments/1?filter=metrics.loss%20is%20low")
    assert answer.status_code == 200
    markup = Markup(answer.text)
    box = next(tag for tag in markup.tags("input") if tag.get("name") == "filter")
    assert (box["value"], box["aria-invalid"], box["aria-describedby"]) == ("metrics.loss is low", "true", "problem")
    assert "a comparison was expected, found &#39;is&#39;" in answer.text
    assert twin(app, "/experiments/1?filter=metrics.loss%20is%20low")["rows"] == []


def test_nested_runs_follow_the_run_they_are_part_of(app: ASGIApp) -> None:
    rows: list[dict[str, object]] = twin(app, "/experiments/1")["rows"]  # type: ignore[assignment]
    at = next(place for place, row in enumerate(rows) if row["id"] == SWEEP)
    assert rows[at]["depth"] == 0
    assert {row["depth"] for row in rows[at + 1 : at + 31]} == {1}
    assert rows[at + 31]["depth"] == 0
    by_loss: list[dict[str, object]] = twin(app, "/experiments/1?sort=metric:loss")["rows"]  # type: ignore[assignment]
    flat = next(row for row in by_loss if row["id"] == TRIALS[110])
    assert (flat["depth"], flat["parent"]) == (0, "sweep of 130")


def test_chosen_columns_stay_in_every_address(app: ASGIApp) -> None:
    query = "?column=&column=param:depth&column=metric:loss&sort=metric:loss"
    found = twin(app, f"/experiments/{MANY}{query}")
    assert [column["id"] for column in found["columns"]] == ["param:depth", "metric:loss"]  # type: ignore[attr-defined]
    for address in (found["next"], found["columns"][0]["href"]):  # type: ignore[index]
        assert parse_qs(urlsplit(str(address)).query)["column"] == ["param:depth", "metric:loss"]


@pytest.mark.parametrize(
    "path",
    ["/experiments/1?after=bm90aGluZw", "/experiments/1?after=%00", "/experiments/1?after=WzEsIiJd&sort=metric:loss",
     "/experiments/1?sort=id;--", "/experiments/1?sort=took", "/experiments/1?order=up", "/experiments/1?column=loss",
     "/experiments/1?column=metric:%00", "/experiments/1?stage=x", f"/runs/{GOING}?x_axis=y",
     f"/runs/{GOING}?charts=-1",
     f"/runs/compare?run={GOING}&run={SWEEP}&x=param:nothing", "/experiments?after=x",
     "/experiments/1?" + "&".join(f"column=metric:{n}" for n in range(80)),
     "/runs/compare?" + "&".join(f"run={n}" for n in range(80))],
)  # fmt: skip
def test_odd_questions_are_refused_with_a_sentence(app: ASGIApp, path: str) -> None:
    answer = ask(app, path)
    assert answer.status_code == 422
    assert "That cannot be done as asked" in answer.text


ODD_NAMES = ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%00", "a" * 5000, quote(EVIL, safe=""), "%ff%fe", "٣", "-1",
             "99999999999999999999", "%2e%2e", "%5c..%5c", "%E2%80%AEexe"]  # fmt: skip


@pytest.mark.parametrize("odd", ODD_NAMES)
@pytest.mark.parametrize(
    "path",
    ["/experiments/{}", "/runs/{}", "/runs/{}.json", "/runs/{}/artifact", "/runs/compare?run={}", "/models/{}",
     f"/models/{quote(MODEL)}/{{}}", f"/runs/{TRIALS[0]}/artifacts/{{}}", f"/runs/{TRIALS[0]}/pictures/{{}}",
     f"/runs/{TRIALS[0]}/artifact?path={{}}", "/runs/{}/artifacts/environment.lock"],
)  # fmt: skip
def test_odd_addresses_find_nothing(app: ASGIApp, path: str, odd: str) -> None:
    answer = ask(app, path.format(odd))
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json" or "<script>alert" not in answer.text
    assert "Traceback" not in answer.text
    assert "root:" not in answer.text


def test_names_are_never_markup(app: ASGIApp) -> None:
    for path in (f"/runs/{ODD}", "/experiments/3", "/experiments", f"/models/{quote(CHINESE)}", "/models",
                 f"/runs/compare?run={ODD}&run={GOING}"):  # fmt: skip
        answer = ask(app, path)
        assert answer.status_code == 200
        assert "<script>alert" not in answer.text
        assert "<img src=x" not in answer.text
        assert Markup(answer.text).faults == []


# -- artifacts


def test_pictures_are_served_as_what_they_are_and_nothing_else_is(app: ASGIApp) -> None:
    shown = ask(app, f"/runs/{TRIALS[0]}/pictures/plots/residuals.png")
    assert (shown.status_code, shown.headers["content-type"], shown.content) == (200, "image/png", PNG)
    assert shown.headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert shown.headers["x-content-type-options"] == "nosniff"
    for path in FILES:
        if path != "plots/residuals.png":
            assert ask(app, f"/runs/{TRIALS[0]}/pictures/{quote(path)}").status_code == 404, path


@pytest.mark.parametrize("path", FILES)
def test_artifact_is_downloaded_whole_and_runs_nothing(app: ASGIApp, path: str) -> None:
    answer = ask(app, f"/runs/{TRIALS[0]}/artifacts/{quote(path)}")
    assert answer.content == FILES[path]
    assert answer.headers["content-length"] == str(len(FILES[path]))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment;")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["content-disposition"].isascii()


@pytest.mark.parametrize(
    ("path", "kind"),
    [("plots/residuals.png", "picture"), ("plots/evil.svg", "text"), ("plots/masked.png", "text"),
     ("page.html", "text"),
     ("plots/report.pdf", "none"), ("model/weights.bin", "none"), ("tables/errors.csv", "table"),
     ("model/MLmodel.json", "text"), (f"notes/{ARABIC}.txt", "text"), ("plots", "folder"), ("", "folder")],
)  # fmt: skip
def test_preview_can_do_nothing_but_be_looked_at(app: ASGIApp, path: str, kind: str) -> None:
    address = f"/runs/{TRIALS[0]}/artifact?path={quote(path, safe='')}"
    assert twin(app, address)["kind"] == kind
    answer = ask(app, address)
    assert "<script>alert" not in answer.text
    assert "<b>bold" not in answer.text
    markup = Markup(answer.text)
    assert markup.faults == []
    assert not markup.tags("iframe", "object", "embed")


def test_table_and_laid_out_json(app: ASGIApp) -> None:
    table = twin(app, f"/runs/{TRIALS[0]}/artifact?path=tables%2Ferrors.csv")["table"]
    assert table == [["zone", "error", "note"], ["Harlem", "3.2", "one, two"], ["上海", "1.5", "<b>bold</b>"]]
    text = str(twin(app, f"/runs/{TRIALS[0]}/artifact?path=model%2FMLmodel.json")["text"])
    assert text.splitlines()[1] == '  "flavors": {'


def test_large_text_is_cut_and_a_damaged_file_is_said(store: Store, app: ASGIApp, tmp_path: Path) -> None:
    large = store.blobs.put(("ж" * 200_000).encode())
    lost = "blake3:" + "0" * 64
    base = f"1/{TRIALS[2]}/artifacts"

    def change(tx: TrackingTransaction) -> None:
        tx.put_artifact(Artifact(f"{base}/large.txt", large, 400_000, START))
        tx.put_artifact(Artifact(f"{base}/lost.txt", lost, 9, START))

    store.tracking.write(change)
    found = twin(app, f"/runs/{TRIALS[2]}/artifact?path=large.txt")
    assert found["cut"] is True
    assert set(str(found["text"])) == {"ж"}
    assert twin(app, f"/runs/{TRIALS[2]}/artifact?path=lost.txt")["kind"] == "none"
    assert ask(app, f"/runs/{TRIALS[2]}/artifacts/lost.txt").status_code == 404


# -- charts


def test_long_history_keeps_its_shape_in_a_few_points(tmp_path: Path) -> None:
    long = open_store(tmp_path)
    run, pause = name("long", 0), 3 * 86_400_000

    def change(tx: TrackingTransaction) -> None:
        tx.add_run(info(run, "long", "RUNNING", START, None, 0), {})
        times = [START + step * 7 + (pause if step > 30_000 else 0) for step in range(50_000)]
        tx.log(run, points=[Point("loss", float(step), at, step) for step, at in enumerate(times)])
        tx.log(run, points=[Point("burst", float(step), START, step) for step in range(20_000)])
        tx.log(run, points=[Point("back", float(step), START + 20_000 - step, step) for step in range(20_000)])

    long.tracking.write(change)
    with long.tracking.read() as reader:
        found = reader.run(run)
        assert found is not None
        for newest in found.metrics:
            points = history(reader, run, newest, 400)
            steps = [point.step for point in points]
            last = 49_999 if newest.key == "loss" else 19_999
            assert (steps[0], steps[-1]) == (0, last)
            assert 250 <= len(steps) <= 401
            assert max(b - a for a, b in pairwise(steps)) < last / 60, newest.key
    long.close()


def test_values_that_are_not_numbers_or_not_positive_leave_gaps(app: ASGIApp) -> None:
    charts: dict[str, dict[str, list[dict[str, object]]]] = twin(app, f"/runs/{ODD}")["charts"]  # type: ignore[assignment]
    assert charts[CHINESE]["series"][0]["values"] == [1.0, None, None, -2.0]
    logged: dict[str, dict[str, list[dict[str, object]]]] = twin(app, f"/runs/{ODD}?log=1")["charts"]  # type: ignore[assignment]
    assert logged[CHINESE]["series"][0]["values"] == [1.0, None, None, None]


def test_metrics_of_the_machine_stand_apart(app: ASGIApp) -> None:
    found = twin(app, f"/runs/{GOING}")
    assert [row["name"] for row in found["metrics"]] == ["loss", "rate"]  # type: ignore[attr-defined]
    names = [row["name"] for row in found["system"]]  # type: ignore[attr-defined]
    assert names == ["system/cpu_percent", "system/process_memory_mib"]


# -- comparison, lineage


def test_comparison_says_what_differs_in_params_code_data_and_environment(app: ASGIApp) -> None:
    found = twin(app, f"/runs/compare?run={TRIALS[0]}&run={TRIALS[1]}&run={TRIALS[60]}&rows=differing")
    groups = {group["title"]: {row["name"]: row["values"] for row in group["rows"]} for group in found["groups"]}  # type: ignore[attr-defined]
    assert groups["Params"]["seed"] == ["0", "1", "60"]
    assert groups["Code"]["commit"] == ["1" * 40, "1" * 40, "2" * 40]
    assert groups["Environment"]["numpy"] == ["2.1.0", "2.0.2", None]
    assert "Data" not in groups
    assert found["parallel"] is not None
    assert found["scatter"] is not None


def test_lineage_leads_both_ways(app: ASGIApp) -> None:
    run = twin(app, f"/runs/{TRIALS[0]}")
    assert [link["name"] for link in run["versions"]] == [f"{MODEL} v3", f"{MODEL} v2"]  # type: ignore[attr-defined]
    version = twin(app, str(run["versions"][1]["href"]))  # type: ignore[index]
    assert version["run"]["href"] == f"/runs/{TRIALS[0]}"  # type: ignore[index]
    assert [link["name"] for link in version["same_run"]] == [f"{MODEL} v3"]  # type: ignore[attr-defined]
    readers = twin(app, str(version["data"][0]["href"]))["rows"]  # type: ignore[index]
    assert TRIALS[0] in {row["id"] for row in twin(app, "/experiments/1?filter=params.seed%20%3D%20'0'")["rows"]}  # type: ignore[attr-defined]
    assert len(readers) == 100  # type: ignore[arg-type]
    model = twin(app, f"/models/{quote(MODEL)}")
    assert {alias["alias"]: alias["version"] for alias in model["aliases"]} == {"champion": 2, "next": 3}  # type: ignore[attr-defined]


# -- in the browser


@browser_only
def test_keys_walk_select_and_compare(site: Site, page: Page) -> None:
    page.goto(f"{site.address}/experiments/{MANY}")
    for key in ("j", "x", "j", "j", "x"):
        page.keyboard.press(key)
    expect(page.locator("[data-chosen]")).to_have_text("2 selected")
    assert page.locator("tr.picked").count() == 2
    page.keyboard.press("n")
    page.wait_for_url("**after=**")
    page.keyboard.press("j")
    page.keyboard.press("x")
    expect(page.locator("[data-chosen]")).to_have_text("3 selected")
    page.keyboard.press("c")
    page.wait_for_url("**/runs/compare?**")
    assert page.locator("table.compare thead a").count() == 3


@browser_only
def test_mouse_selects_a_range(site: Site, page: Page) -> None:
    page.goto(f"{site.address}/experiments/{MANY}")
    boxes = page.locator("input[name=run]")
    boxes.nth(2).click()
    boxes.nth(7).click(modifiers=["Shift"])
    expect(page.locator("[data-chosen]")).to_have_text("6 selected")
    page.get_by_role("button", name="Select nothing").click()
    assert page.locator("tr.picked").count() == 0
    assert page.get_by_role("button", name="Compare").is_disabled()


@browser_only
def test_slash_goes_to_the_filter_and_a_question_mark_shows_the_keys(site: Site, page: Page) -> None:
    page.goto(f"{site.address}/experiments/{MANY}")
    page.keyboard.press("?")
    assert page.locator("dialog#keys").is_visible()
    assert "select the row" in page.locator("dialog#keys").inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("metrics.loss < 0.01 and params.depth = '3'")
    page.keyboard.press("Enter")
    page.wait_for_url("**filter=**")
    losses = [number for number in range(COUNT) if number % 12 == 3 and (number * 37) % COUNT / COUNT < 0.01]
    assert page.locator("tr[data-row]").count() == len(losses)


@browser_only
def test_columns_are_chosen_and_headings_sort(site: Site, page: Page) -> None:
    page.goto(f"{site.address}/experiments/1")
    page.get_by_text("Columns", exact=True).click()
    while page.locator(".choose input:checked").count():
        page.locator(".choose input:checked").first.uncheck()
    page.locator(".choose input[value='metric:mae']").check()
    page.get_by_role("button", name="Show these").click()
    page.locator("th", has_text="mae").locator("a").click()
    page.wait_for_url("**sort=metric**")
    assert page.locator("thead th[aria-sort=descending]").inner_text().startswith("mae")
    assert page.locator("thead th").count() == 7


@browser_only
def test_run_that_goes_on_is_drawn_on_without_reloading(site: Site, page: Page) -> None:
    page.goto(f"{site.address}/runs/{GOING}")
    page.locator("[data-chart=loss] canvas").wait_for()
    page.evaluate("window.same = true")
    page.wait_for_timeout(2500)  # the first look only learns how the page stands
    points = [Point("loss", 0.1234, START + 1, 9_000)] + [Point("fresh", float(n), START + n, n) for n in range(9)]
    site.store.tracking.write(lambda tx: tx.log(GOING, points=points))
    page.wait_for_selector("td:text('0.123')", timeout=8000)
    page.locator("[data-chart=fresh] canvas").wait_for(timeout=8000)
    assert page.evaluate("window.same")


@browser_only
def test_page_asks_its_twin_with_a_tag_and_rests_while_hidden(site: Site, page: Page) -> None:
    asked: list[tuple[str, int]] = []
    page.on("response", lambda answer: asked.append((answer.url, answer.status)) if ".json" in answer.url else None)
    page.goto(f"{site.address}/runs/{SWEEP}?log=1")
    page.wait_for_timeout(2600)
    first = len(asked)
    assert first >= 1
    page.wait_for_timeout(3000)
    assert len(asked) == first  # nothing goes on: looked at every ten seconds
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_timeout(500)
    assert len(asked) == first
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    deadline = time.monotonic() + 5
    while len(asked) == first and time.monotonic() < deadline:
        page.wait_for_timeout(100)
    assert asked[-1][1] == 304


@browser_only
def test_addresses_that_mlflows_clients_print_lead_to_the_run(site: Site, page: Page) -> None:
    page.goto(f"{site.address}/#/experiments/1/runs/{SWEEP}")
    page.wait_for_url(f"**/runs/{SWEEP}")
    assert page.locator("h1").inner_text().startswith("sweep of 130")


@browser_only
def test_evil_files_are_shown_without_running(site: Site, page: Page) -> None:
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    for path in FILES:
        page.goto(f"{site.address}/runs/{TRIALS[0]}/artifact?path={quote(path, safe='')}")
    page.goto(f"{site.address}/runs/{TRIALS[0]}/artifact?path=plots%2Fresiduals.png")
    assert page.locator("img.picture").evaluate("(one) => one.naturalWidth") == 10


def test_tag_of_a_twin_saves_sending_it_again(site: Site) -> None:
    address = f"{site.address}/runs/{SWEEP}.json"
    with urlopen(Request(address)) as answer:
        tag = answer.headers["etag"]
    with pytest.raises(Exception, match="304"):
        urlopen(Request(address, headers={"if-none-match": tag}))
