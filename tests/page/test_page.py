"""The live page in Debian's Chromium: numbers equal /metrics, hostile text stays text, a click changes the list, the
page outlives its worker, in light and dark, by keyboard."""

import re
import shutil
import urllib.request
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import msgspec
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from bad_records import NOW_MS, click
from live_worker import LiveWorker
from running import produce, settings_for
from streams.agents import registry
from streams.demo.feed import DATA
from streams.demo.server import free_ports
from streams.events import Because, Label, LabelSpan, Media, ModelName
from streams.feed.records import partition_of
from streams.observe.scrape import samples
from streams.page.numbers import shown_key

pytestmark = [pytest.mark.embedded, pytest.mark.tool("chromium")]

HOSTILE = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'
USERS = [f"u{n}" for n in range(9)]
WITHIN_MS = 60_000
expect.set_options(timeout=WITHIN_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


class Site:
    """A worker, what is sent to it, and its page."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.bootstrap, self.prefix = bootstrap, prefix
        self.settings = settings_for(
            bootstrap,
            prefix,
            ("clicks", "items", "uploads"),
            observe={"clicks": True, "port": free_ports(1)[0]},
        )
        self.live = LiveWorker(self.settings)
        self.url = f"http://127.0.0.1:{self.live.port}/"

    def send(self, topic: str, records: list[tuple[bytes | None, bytes | None]]) -> None:
        self.live.call(produce(self.bootstrap, f"{self.prefix}{topic}", records))

    def clicks(self, first: int = 0, count: int = 270) -> None:
        made = [
            (u.encode(), click(n, user=u, at=NOW_MS + 100 * n, item=f"i{n * 7 % 40}", kind="click"))
            for n in range(first, first + count)
            for u in [USERS[n % len(USERS)]]
        ]
        self.send("clicks", list(made))

    def metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"{self.url}metrics") as answer:
            page = answer.read().decode()
        return {shown_key(s.name, tuple(sorted(s.labels.items()))): s.value for s in samples(page)}


@pytest.fixture(scope="module")
def site(embedded_broker: Any) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.AGENTS, "uploads", "live_worker:UploadsWithoutModels")
        site = Site(embedded_broker.bootstrap, "page-test-")
        yield site
        site.live.stop()


@pytest.fixture(scope="module")
def fed(site: Site) -> Site:
    """The site after 270 clicks of nine readers, and one bad record."""
    site.clicks()
    site.send("clicks", [(b"u1", b"{")])
    return site


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """A fresh page; whatever the browser complains about fails the test."""
    context = browser.new_context(viewport={"width": 1360, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(WITHIN_MS)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    context.close()
    assert [text for text in said if "ERR_CONNECTION" not in text and "ERR_INCOMPLETE" not in text] == []


def label(task: str, value: Any, place: Because, spans: list[LabelSpan]) -> tuple[bytes, bytes]:
    asset = f"{task}-{HOSTILE}"
    model = ModelName("tiny", "1", "float32", "0" * 64)
    made = Label(f"{task}-1", asset, task, NOW_MS, model, value, place, {}, 0.75, spans=spans)
    return asset.encode(), msgspec.json.encode(made)


def media(name: str, media_type: str) -> bytes:
    payload = (DATA / name).read_bytes()
    return msgspec.json.encode(Media(f"id-{name}-{HOSTILE}", HOSTILE, NOW_MS, media_type, payload))


def until(page: Page, condition: str) -> None:
    """Wait until a condition holds. By asking again: what the browser would wait for itself, its policy forbids."""
    for _ in range(WITHIN_MS // 100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    pytest.fail(f"not in time: {condition}")


WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def axe(page: Page, rules: list[str] = WCAG) -> list[str]:
    """What axe-core finds wrong."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("rules => axe.run(document, {runOnly: rules})", rules)
    return [f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in found["violations"]]


def test_it_works_before_the_first_event(page: Page, site: Site) -> None:
    page.goto(site.url)
    expect(page.locator("#state")).to_have_text("live")
    expect(page.locator("#flow-picture")).to_contain_text("recommendations")
    expect(page.locator("#reader-body")).to_contain_text("Choose a reader")
    expect(page.locator("#letters-body")).to_contain_text("None among the newest")
    assert axe(page) == []


def test_numbers_equal_metrics(page: Page, fed: Site) -> None:
    page.goto(fed.url)
    pairs = "[e.dataset.series ?? e.dataset.sum, [e.dataset.value, e.textContent]]"
    read = f"all => Object.fromEntries(all.map(e => {pairs}))"
    differ: dict[str, Any] = {"": "nothing read"}
    for _ in range(160):  # until all has come through, both are still for a second
        page.wait_for_timeout(250)
        metrics = fed.metrics()
        shown, tiles = (page.locator(f"[{data}]").evaluate_all(read) for data in ("data-series", "data-sum"))
        wanted = {n: v for n, v in metrics.items() if n in shown}
        differ = {n: (v, shown[n]) for n, v in wanted.items() if v != float(shown[n][0])}
        for metric, (value, _) in tiles.items():
            whole = sum(v for n, v in metrics.items() if n == metric or n.startswith(f"{metric}{{"))
            differ |= {metric: (whole, value)} if whole != float(value) else {}
        if not differ and metrics['headrace_applied_total{agent="clicks"}'] >= 271:
            break
    assert not differ and len(wanted) > 30 and len(tiles) == 7
    assert {'headrace_dead_letters_total{agent="clicks",reason="schema"}'} & set(shown) or any(
        name.startswith("headrace_dead_letters_total") for name in shown
    )
    for name, (value, text) in shown.items():
        if float(value).is_integer():
            assert text.replace(",", "") == str(int(float(value))), name


def test_a_click_changes_the_list_before_ones_eyes(page: Page, fed: Site) -> None:
    page.goto(f"{fed.url}?reader=u1")
    rows = page.locator(".list > li")
    expect(rows.first).to_be_visible()
    expect(rows.first).to_contain_text("after")
    item = rows.first.locator("b").inner_text()
    row = rows.filter(has=page.locator("b").filter(has_text=re.compile(f"^{item}$")))  # first or not by now
    row.get_by_role("button", name="Like").click()
    expect(page.locator(".events li").first).to_contain_text(f"liked {item}")
    expect(page.locator(".list b").filter(has_text=re.compile(f"^{item}$"))).to_have_count(0)
    # what it brought in; whether a listed item's strongest reason is this one hangs on what others did after it
    expect(page.locator(".moves li").first).to_contain_text(f"liked “{item}” →")
    expect(page.locator("#reader-said")).to_contain_text("u1 liked")


def test_hostile_text_stays_text(page: Page, fed: Site) -> None:
    page.goto(f"{fed.url}?reader={HOSTILE}")
    place = partition_of(b"a", 4)
    fed.send("uploads", [(b"a", media("pictures/cat.jpg", HOSTILE))])  # no task reads that: a dead letter
    fed.send("audio", [(b"a", media("audio/digits-1024-yweweler.wav", "audio/wav"))])
    spans = [LabelSpan(0.0, 1.0, HOSTILE), LabelSpan(1.0, 2.0, "and then two zero")]
    picture, recording = Because("uploads", place, 0), Because("audio", place, 0)
    fed.send(
        "labels",
        [
            label("transcribe", HOSTILE, recording, spans),
            label("tag", [{"tag": HOSTILE, "score": 0.9}], picture, []),
            label("sentiment", "negative", Because("uploads", place, 0), []),
        ],
    )
    expect(page.locator(".spoken")).to_contain_text("onerror")
    expect(page.locator(".tags")).to_contain_text("<script>")
    expect(page.locator("#letters-body")).to_contain_text("<script>")
    expect(page.locator("#reader-body")).to_contain_text("<script>")
    until(page, "document.querySelector('.picture img').naturalWidth > 100")
    assert page.evaluate("window.hit") is None
    assert page.locator("script").count() == 1
    assert page.locator("img[src=x]").count() == 0
    # words are buttons that seek
    page.get_by_role("button", name="two").click()
    at = float(page.get_by_role("button", name="two").get_attribute("data-at") or 0)
    assert 1.3 < at < 1.7
    until(page, f"document.querySelector('audio').currentTime >= {at} - 0.05")
    assert axe(page) == []


def test_light_and_dark(browser: Browser, fed: Site) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        page = context.new_page()
        page.goto(f"{fed.url}?reader=u2")
        expect(page.locator(".list > li").first).to_be_visible(timeout=WITHIN_MS)
        ground = "getComputedStyle(document.body).backgroundColor"
        grounds[scheme] = page.evaluate(ground)
        if scheme == "dark":  # light: in the test above
            assert axe(page, ["color-contrast"]) == []
        button = page.get_by_role("button", name="Colours")
        for name in ("light", "dark", "as the system has them"):
            button.press("Enter")
            expect(button).to_have_accessible_name(f"Colours: {name}")
            if name in grounds:
                assert page.evaluate(ground) == grounds[name]
        context.close()
    assert len(set(grounds.values())) == 2


def test_by_keyboard_and_on_a_telephone(page: Page, fed: Site) -> None:
    page.goto(fed.url)
    expect(page.locator("#state")).to_have_text("live")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the page")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.get_by_label("Whose list").focus()
    page.keyboard.type("u3")
    page.keyboard.press("Enter")
    expect(page.locator(".list > li").first).to_be_visible()
    first = page.locator(".list > li").first.get_by_role("button", name="Open")
    first.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".events li").first).to_contain_text("opened")
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(100)
    wide = "[...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)"
    beyond = f"{wide}.filter(e => !e.closest('.scroll, nav')).map(e => e.outerHTML.slice(0, 99))"
    assert page.evaluate(beyond) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_outlives_its_worker(page: Page, fed: Site) -> None:
    page.goto(f"{fed.url}?reader=u1")
    expect(page.locator(".list > li").first).to_be_visible()
    fed.live.stop()
    expect(page.locator("#state")).to_contain_text("does not answer")
    fed.live = LiveWorker(fed.settings)
    expect(page.locator("#state")).to_have_text("live", timeout=90_000)
    expect(page.locator(".list > li").first).to_be_visible()
    # the new worker's own token for clicks came with its first words
    page.locator(".list > li").first.get_by_role("button", name="Like").click()
    expect(page.locator(".events li").first).to_contain_text("liked")
    partition = partition_of(b"u1", 4)
    expect(page.locator("#reader-body")).to_contain_text(f"partition {partition}")
