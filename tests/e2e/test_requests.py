"""What a page asks the server for on MemStab's account, and that nothing of it keeps the page waiting."""

import json
import re
from urllib.parse import unquote, urlsplit

import pytest

from tests.e2e.conftest import PATIENCE_MS, ROOT
from tests.e2e.test_gallery import fill, infotext

pytestmark = pytest.mark.e2e

STATIC = {path.name for path in (ROOT / "javascript").glob("*.js")} | {"style.css"}
SETTLED_MS = 5000
"""So long after the page can be used what it asks for is still counted."""

WRITES_DOWN_WHAT_BLOCKS = """
window.blocking = [];
const open = XMLHttpRequest.prototype.open;
XMLHttpRequest.prototype.open = function(method, address, wait = true, ...more) {
    if (!wait) window.blocking.push(`${address} ${new Error().stack}`);
    return open.call(this, method, address, wait, ...more);
};
"""


class Traffic:
    """What a page sends, and a gate in which MemStab's own requests are held while it is closed."""

    def __init__(self, page, own_events):
        self.page, self.own_events = page, own_events
        self.requests, self.events = [], []
        self.closed, self.waiting, self.kinds = False, [], set()
        page.add_init_script(WRITES_DOWN_WHAT_BLOCKS)
        page.on("request", lambda request: self.requests.append(request))
        page.route("**/run/predict", self._posted)
        page.route(re.compile("file="), self._fetched)
        page.route_web_socket(re.compile("/queue/join"), self._queued)

    def own(self):
        """Method, kind and name of MemStab's own requests, and its events' numbers."""
        found = []
        for request in self.requests:
            path = unquote(urlsplit(request.url).path)
            if "/memstab/v1" in path or "extensions/memstab/" in path:
                found.append((request.method, request.resource_type, path.rsplit("/", 1)[-1]))
        return found, [number for number in self.events if number in self.own_events]

    def open(self):
        """Let everything go that waits."""
        self.closed = False
        for go in self.waiting:
            go()
        self.waiting.clear()

    def _hold(self, kind, go):
        if self.closed:
            self.kinds.add(kind)
            self.waiting.append(go)
        else:
            go()

    def _posted(self, route):
        number = route.request.post_data_json["fn_index"]
        self.events.append(number)
        if number in self.own_events:
            self._hold("at once", route.continue_)
        else:
            route.continue_()

    def _fetched(self, route):
        if route.request.resource_type == "fetch":
            self._hold("picture", route.continue_)
        else:
            route.continue_()

    def _queued(self, socket):
        server, numbers = socket.connect_to_server(), []

        def sent(message):
            number = json.loads(message).get("fn_index")
            if number is not None and not numbers:
                numbers.append(number)
                self.events.append(number)
            server.send(message)

        def answered(message):
            if numbers and numbers[0] in self.own_events:
                self._hold("queued", lambda: socket.send(message))
            else:
                socket.send(message)

        socket.on_message(sent)
        server.on_message(answered)


@pytest.fixture
def traffic(calibrated, browser):
    config = calibrated.call("/config")[1]
    own = {
        one["id"]
        for one in config["components"]
        if re.match(r"memstab_|script_(txt2img|img2img)_memstab_(?!probe)", one["props"].get("elem_id") or "")
    }
    events = {
        number
        for number, event in enumerate(config["dependencies"])
        if event["backend_fn"] and own & {*event["targets"], *event["outputs"]}
        # Pasting and loading the page are the WebUI's own, and set its fields too.
        if not {*event["outputs"]} - own or own & {*event["targets"]}
    }
    assert len(events) > 20
    page = browser.new_context(viewport={"width": 1400, "height": 1200}).new_page()
    page.set_default_timeout(PATIENCE_MS)
    yield Traffic(page, events)
    page.context.close()


def load(page, address):
    page.goto(address)
    page.wait_for_selector("#script_txt2img_memstab_enable")
    page.wait_for_selector("#txt2img_generate")


def test_loading_the_page_asks_for_scripts_and_styles_and_nothing_else(calibrated, traffic):
    load(traffic.page, calibrated.address)
    traffic.page.wait_for_timeout(SETTLED_MS)
    found, events = traffic.own()
    assert sorted(name for _, _, name in found) == sorted(STATIC)
    assert {(method, kind) for method, kind, _ in found} == {("GET", "script"), ("GET", "stylesheet")}
    assert events == []
    assert [one for one in traffic.page.evaluate("window.blocking") if "memstab" in one] == []


def test_the_page_stays_usable_while_everything_that_memstab_asks_for_is_slow(calibrated, traffic, ordinary, pictures):
    page = traffic.page
    load(page, calibrated.address)
    traffic.closed = True
    page.click("#script_txt2img_memstab_enable .label-wrap")
    page.click("#script_txt2img_memstab_check")
    page.click("#tabs > .tab-nav > button:has-text('MemStab')")
    page.click("#memstab_stop")
    for tab in ("img2img", "extras", "txt2img"):
        page.click(f"#tabs > .tab-nav > button:text-is('{tab.replace('extras', 'Extras')}')")
        page.wait_for_selector(f"#tab_{tab}", state="visible")
    fill(page, infotext(ordinary[1]))
    page.click("#txt2img_generate")
    page.wait_for_function("document.querySelectorAll('#txt2img_gallery .thumbnails img').length > 0")
    page.wait_for_function("document.querySelector('#html_info_txt2img').innerText.includes('MemStab verdict: clear')")
    page.wait_for_timeout(1000)
    page.screenshot(path=pictures / "slow.png")
    assert traffic.kinds == {"queued", "at once", "picture"}
    assert page.locator("#txt2img_gallery .memstab-badge").count() == 0
    assert "memstab-lab" not in page.inner_text("#script_txt2img_memstab_status")
    traffic.open()
    page.wait_for_selector("#txt2img_gallery .memstab-badge")
    page.wait_for_function("document.querySelector('#script_txt2img_memstab_status').innerText.includes('memstab-lab')")
    page.click("#tabs > .tab-nav > button:has-text('MemStab')")
    page.wait_for_function("document.querySelector('#memstab_width input').value == 128")
    page.wait_for_selector("#memstab_line [data-busy=no]", state="attached")
    assert [one for one in page.evaluate("window.blocking") if "memstab" in one] == []
