"""The page as it is served; `make e2e` uses it in a browser."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from tests.serve.servers import Running

from wavconformer.serve.app import STATIC
from wavconformer.serve.guard import PAGE_POLICY


class _Page(HTMLParser):
    """What a page refers to, and what of it the policy would keep from working."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses, self.inline, self._script = list[str](), list[str](), False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        self.addresses += [names[name] or "" for name in ("src", "href") if name in names]
        self.inline += [name for name in names if name == "style" or name.startswith("on")]
        if tag == "style" or (tag == "script" and "src" not in names):
            self.inline.append(tag)


def test_the_page_is_whole_and_has_its_policy(server: Running) -> None:
    answer = server.http.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"] == PAGE_POLICY
    page = _Page()
    page.feed(answer.text)
    assert page.inline == []
    assert len(page.addresses) >= 4
    for address in page.addresses:
        assert address.startswith("/static/")
        assert server.http.get(address).status_code == 200


def test_modules_import_what_is_there(server: Running) -> None:
    seen, waiting = set[str](), ["page.js"]
    while waiting:
        name = waiting.pop()
        seen.add(name)
        answer = server.http.get(f"/static/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["content-type"].startswith("text/javascript")
        if not name.startswith("vendor/"):
            found = re.findall(r'(?:from |new URL\()"\./([^"]+)"', answer.text)
            waiting += [other for other in found if other not in seen]
    modules = {path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.js")}
    assert seen == modules  # and none is left that nobody uses


def test_strings_that_elements_name_are_there() -> None:
    index, strings = ((STATIC / name).read_text(encoding="utf-8") for name in ("index.html", "strings.js"))
    named = set(re.findall(r'data-(?:text|label)="([^"]+)"', index))
    english, chinese = strings.split("  zh: {")
    for language in (english, chinese):
        keys = set(re.findall(r'^    "?([\w.]+)"?:', language, re.MULTILINE))
        assert named <= keys


def test_the_licence_comes_along() -> None:
    assert "BSD 3-Clause" in (STATIC / "vendor" / "wavesurfer.LICENSE").read_text(encoding="utf-8")
