"""The page in a browser, as people use it."""

from __future__ import annotations

import json
import struct
import urllib.request
import uuid
from collections.abc import Callable
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from e2e.conftest import Visitor, serving
from wavconformer import load_audio

Visit = Callable[..., Visitor]
TIMER = ["Set", "a", "timer", "for", "twenty", "three", "seconds"]
FORMATS = ("txt", "srt", "vtt", "json")


def download(visitor: Visitor, format: str) -> str:
    with visitor.page.expect_download() as waiting:
        visitor.page.locator(f"#download-{format}").click()
    assert waiting.value.suggested_filename.endswith(f".{format}")
    return Path(waiting.value.path()).read_text(encoding="utf-8")


def from_server(address: str, recording: Path, **fields: str) -> str:
    """What the API gives, without a browser."""
    mark = uuid.uuid4().hex
    parts = [
        f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{recording.name}"\r\n\r\n'
    body = "".join(parts).encode() + head.encode() + recording.read_bytes() + f"\r\n--{mark}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={mark}"}
    request = urllib.request.Request(f"{address}/v1/audio/transcriptions", body, headers)
    with urllib.request.urlopen(request) as answer:
        return str(answer.read().decode())


def overflow(visitor: Visitor) -> int:
    """Pixels by which the page is wider than the screen."""
    return int(visitor.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def test_a_word_is_played_from_its_time(visit: Visit, timer: Path) -> None:
    visitor = visit()
    visitor.shoot("empty")
    visitor.open(timer)
    page = visitor.page
    assert visitor.words == TIMER
    expect(page.locator("[data-part=strip] span")).to_have_count(7)
    # Speed 0 holds the time at where playing begins.
    page.evaluate("document.querySelector('audio').playbackRate = 0")
    for label in (page.locator("#text .word").nth(4), page.locator("[data-part=strip] span").nth(2)):
        label.click()
        start = float(label.get_attribute("data-start") or "nan")
        page.wait_for_function("() => !document.querySelector('audio').paused")
        assert visitor.seconds == pytest.approx(start, abs=0.05)
        expect(page.locator("#text .now")).to_have_text(label.inner_text())
        expect(page.locator("[data-part=strip] .now")).to_have_text(label.inner_text())
    visitor.shoot("done")


def test_the_lit_word_follows_the_sound(visit: Visit, timer: Path) -> None:
    visitor = visit()
    visitor.open(timer)
    visitor.page.evaluate(
        """() => { window.lit = [];
        new MutationObserver(() => { const now = document.querySelector("#text .now")?.textContent;
          if (now && lit.at(-1) !== now) lit.push(now); })
          .observe(document.querySelector("#text"), {subtree: true, attributes: true}); }"""
    )
    visitor.page.locator("[data-part=play]").click()
    visitor.page.wait_for_function("() => document.querySelector('audio').ended", timeout=60_000)
    lit = visitor.page.evaluate("lit")
    assert lit[-1] == "seconds"
    assert [word for word in TIMER if word in lit] == lit  # in order; a busy machine may leave some out
    assert len(lit) >= 4


def test_a_dropped_file_is_read(visit: Visit, timer: Path) -> None:
    visitor = visit()
    dragged = visitor.page.evaluate_handle(
        """(bytes) => { const it = new DataTransfer();
        it.items.add(new File([new Uint8Array(bytes)], "timer.flac", {type: "audio/flac"})); return it; }""",
        list(timer.read_bytes()),
    )
    visitor.page.dispatch_event("main", "dragenter", {"dataTransfer": dragged})
    expect(visitor.page.get_by_text("Let go, and it begins")).to_be_visible()
    visitor.shoot("dragging")
    visitor.page.dispatch_event("main", "drop", {"dataTransfer": dragged})
    expect(visitor.page.locator("#text .word")).to_have_text(TIMER)
    expect(visitor.page.locator("#name")).to_have_text("timer.flac")


def test_formats_are_those_of_the_server(visit: Visit, address: str, long_recording: Path) -> None:
    visitor = visit()
    visitor.open(long_recording)
    visitor.page.locator("#capitals").click()
    for format, name in {"txt": "text", "srt": "srt", "vtt": "vtt"}.items():
        theirs = from_server(address, long_recording, model="tiny-en", response_format=name)
        assert download(visitor, format) == theirs
    fields = {"model": "tiny-en", "response_format": "verbose_json", "timestamp_granularities[]": "word"}
    theirs = json.loads(from_server(address, long_recording, **fields))
    ours = json.loads(download(visitor, "json"))
    assert [(word["text"], word["start"], word["end"], word["probability"]) for word in ours["words"]] == [
        (word["word"], word["start"], word["end"], word["probability"]) for word in theirs["words"]
    ]
    assert (ours["text"], ours["duration"]) == (theirs["text"], theirs["duration"])


def test_corrections_are_in_each_format_with_their_times(visit: Visit, timer: Path) -> None:
    visitor = visit()
    visitor.open(timer)
    page = visitor.page
    before = json.loads(download(visitor, "json"))["words"]
    page.locator("#text .word").nth(4).dblclick()
    assert page.evaluate("getSelection().toString()") == "twenty"
    visitor.shoot("editing")
    page.keyboard.type("Thirty <one> or")
    page.keyboard.press("Enter")
    assert visitor.words == [*TIMER[:4], "Thirty", "<one>", "or", *TIMER[5:]]
    expect(page.locator("[data-part=strip]")).to_contain_text("Thirty")
    text = "Set a timer for Thirty <one> or three seconds"
    given = {format: download(visitor, format) for format in FORMATS}
    assert given["txt"] == f"{text}\n"
    for format, sign in {"srt": text, "vtt": text.replace("<", "&lt;").replace(">", "&gt;")}.items():
        words = " ".join(given[format].split("-->")[1].split("\n", 1)[1].split())
        assert words == sign
    after = json.loads(given["json"])["words"]
    assert after[:4] == before[:4] and after[7:] == before[5:]
    assert [word["probability"] for word in after[4:7]] == [None] * 3
    assert after[4]["start"] == before[4]["start"] and after[6]["end"] == before[4]["end"]
    assert all(word["start"] < word["end"] for word in after[4:7])
    page.locator("#undo").click()
    assert visitor.words == TIMER
    # A word that is taken away, and an escape that changes nothing.
    page.locator(".edit").click()
    page.locator("textarea").fill("Set a timer")
    page.keyboard.press("Escape")
    assert visitor.words == TIMER
    page.locator(".edit").click()
    page.locator("textarea").fill("a timer for twenty three seconds")
    page.locator(".save").click()
    assert json.loads(download(visitor, "json"))["words"] == [
        {**word, "text": text} for word, text in zip(before[1:], ["a", *TIMER[2:]], strict=True)
    ]


def test_the_microphone_gives_live_captions(visit: Visit) -> None:
    visitor = visit()
    page = visitor.page
    page.locator("#microphone").click()
    expect(page.get_by_text("Speak now.")).to_be_visible()
    expect(page.locator("#captions")).to_contain_text("three", ignore_case=True)
    visitor.shoot("live")
    page.locator("#stop").click()
    expect(page.locator("#text .word").first).to_be_visible()
    # What Chromium's false microphone gives isn't the file to the sample: a letter or two may differ.
    said, meant = " ".join(visitor.words).lower(), " ".join(TIMER).lower()
    assert SequenceMatcher(None, said, meant).ratio() > 0.8, said
    # What was said can be heard again, from the word.
    page.evaluate("document.querySelector('audio').playbackRate = 0")
    word = page.locator("#text .word").nth(3)
    word.click()
    start = float(word.get_attribute("data-start") or "nan")
    assert visitor.seconds == pytest.approx(start, abs=0.05)
    duration = page.evaluate("document.querySelector('audio').duration")
    assert duration > max(2.0, start)
    assert any(url.startswith("ws://") for url in visitor.requests)


def test_a_long_recording_shows_how_far_it_is(visit: Visit, long_recording: Path) -> None:
    visitor = visit()
    page = visitor.page
    page.evaluate(
        """() => { window.steps = new Set();
        new MutationObserver(() => steps.add(document.querySelector("#step").textContent.replace(/[\\d:]+/g, "#")))
          .observe(document.querySelector("#step"), {childList: true}); }"""
    )
    page.set_input_files("#file", long_recording)
    expect(page.locator("#step")).to_contain_text("of 1:10")
    visitor.shoot("working")
    expect(page.locator("#text .word").first).to_be_visible()
    assert page.locator("#text .segment").count() > 5
    assert "Listening, # of #" in page.evaluate("[...steps]")
    visitor.shoot("long")
    job = next(url for url in visitor.requests if "/v1/jobs/job_" in url).removesuffix("/result")
    assert page.evaluate("async (job) => (await fetch(job)).status", job) == 404  # nothing of it is left there


def test_a_job_is_cancelled(visit: Visit, long_recording: Path) -> None:
    visitor = visit()
    page = visitor.page
    page.set_input_files("#file", long_recording)
    expect(page.locator("#step")).to_contain_text("of 1:10")
    with page.expect_response(lambda response: response.request.method == "DELETE") as waiting:
        page.locator("#cancel").click()
    assert waiting.value.ok
    expect(page.locator("#choose")).to_be_visible()
    expect(page.locator("#error")).to_be_hidden()


def test_all_of_it_by_keyboard(visit: Visit, timer: Path) -> None:
    visitor = visit()
    page = visitor.page

    def tab_to(name: str) -> None:
        for _ in range(30):
            if page.evaluate("(name) => document.activeElement.matches(name)", name):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"Tab never comes to {name}.")

    tab_to("#choose")
    with page.expect_file_chooser() as waiting:
        page.keyboard.press("Enter")
    waiting.value.set_files(timer)
    expect(page.locator("#text .word").first).to_be_visible()
    page.evaluate("document.querySelector('audio').playbackRate = 0")
    tab_to(".word")
    for key in ("ArrowRight", "ArrowRight", "End", "ArrowLeft"):
        page.keyboard.press(key)
    expect(page.locator(".word:focus")).to_have_text("three")
    visitor.shoot("keyboard")
    page.keyboard.press("Enter")
    start = float(page.locator(".word:focus").get_attribute("data-start") or "nan")
    page.wait_for_function("() => !document.querySelector('audio').paused")
    assert visitor.seconds == pytest.approx(start, abs=0.05)
    page.keyboard.press("Space")
    assert page.evaluate("document.querySelector('audio').paused")
    page.keyboard.press("e")
    page.keyboard.type("four")
    page.keyboard.press("Enter")
    expect(page.locator(".word:focus")).to_have_text("four")
    page.keyboard.press("Home")
    expect(page.locator(".word:focus")).to_have_text("Set")
    page.locator("#name").focus()  # where the page puts it when the words come
    tab_to("[data-part=place]")
    page.keyboard.press("End")
    assert visitor.seconds == pytest.approx(2.72, abs=0.05)
    tab_to("#download-txt")
    with page.expect_download() as saving:
        page.keyboard.press("Enter")
    assert "twenty four" in Path(saving.value.path()).read_text()
    while not page.evaluate("document.activeElement.id === 'new'"):
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#choose")).to_be_focused()


def test_on_a_phone(visit: Visit, timer: Path) -> None:
    visitor = visit(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True, device_scale_factor=2)
    assert overflow(visitor) <= 0
    visitor.shoot("phone-empty")
    visitor.open(timer)
    assert overflow(visitor) <= 0
    page = visitor.page
    page.evaluate("document.querySelector('audio').playbackRate = 0")
    word = page.locator("#text .word").nth(4)
    word.tap()
    assert visitor.seconds == pytest.approx(float(word.get_attribute("data-start") or "nan"), abs=0.05)
    visitor.shoot("phone-done")
    page.locator(".edit").tap()
    page.locator("textarea").fill("Set no timer")
    assert overflow(visitor) <= 0
    visitor.shoot("phone-editing")
    page.locator(".save").tap()
    assert visitor.words == ["Set", "no", "timer"]
    sizes = page.evaluate(
        """[...document.querySelectorAll("main button")].filter((it) => it.offsetParent)
        .map((it) => it.getBoundingClientRect().height)"""
    )
    assert min(sizes) >= 24  # WCAG 2.2, 2.5.8


def test_in_the_dark(visit: Visit, timer: Path) -> None:
    visitor = visit(color_scheme="dark")
    visitor.shoot("dark-empty")
    visitor.open(timer)
    visitor.page.locator("#text .word").nth(2).click()
    visitor.shoot("dark-done")
    for scheme, is_dark in (("dark", True), ("light", False)):
        visitor.page.emulate_media(color_scheme=scheme)
        colours = visitor.page.evaluate(
            """["color", "backgroundColor"]
            .map((name) => getComputedStyle(document.body)[name].match(/\\d+/g).map(Number))"""
        )
        ink, back = map(sum, colours)
        assert (ink > back) is is_dark
        assert abs(ink - back) > 450


def test_in_chinese(visit: Visit) -> None:
    visitor = visit(locale="zh-CN")
    page = visitor.page
    expect(page.locator("#choose")).to_have_text("选择文件")
    expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
    visitor.shoot("chinese")
    page.locator("#language").click()
    expect(page.locator("#choose")).to_have_text("Choose a file")
    page.reload()
    expect(page.locator("#choose")).to_have_text("Choose a file")
    missing = page.evaluate(
        """async () => { const { STRINGS: { en, zh } } = await import("/static/strings.js");
        return [...Object.keys(en).filter((it) => !zh[it]), ...Object.keys(zh).filter((it) => !en[it])]; }"""
    )
    assert missing == []


def test_errors_in_plain_words(visit: Visit, tmp_path: Path, timer: Path) -> None:
    visitor = visit()
    page = visitor.page
    broken, empty = tmp_path / "broken.mp3", tmp_path / "empty.wav"
    broken.write_text("no sound " * 100)
    empty.write_bytes(b"")
    page.set_input_files("#file", broken)
    expect(page.locator("#error-text")).to_contain_text("no sound that can be read")
    visitor.shoot("error")
    page.set_input_files("#file", empty)
    expect(page.locator("#error-text")).to_have_text("This file is empty.")
    page.route("**/v1/**", lambda route: route.abort())
    page.set_input_files("#file", timer)
    expect(page.locator("#error-text")).to_contain_text("can't be reached")
    visitor.complaints = [line for line in visitor.complaints if "ERR_FAILED" not in line]
    page.unroute("**/v1/**")
    page.locator("#again").click()
    expect(page.locator("#text .word")).to_have_text(TIMER)
    expect(page.locator("#error")).to_be_hidden()
    page.evaluate(
        """() => {
        navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("", "NotAllowedError"); }; }"""
    )
    page.locator("#new").click()
    page.locator("#microphone").click()
    expect(page.locator("#error-text")).to_contain_text("doesn't let this page use the microphone")


def test_a_recording_that_the_browser_cannot_play_is_read(visit: Visit, tmp_path: Path, timer: Path) -> None:
    samples = (load_audio(timer) * 32767).astype(">i2").tobytes()
    sun = tmp_path / "timer.au"  # FFmpeg reads it, and no browser
    sun.write_bytes(struct.pack(">4s5I", b".snd", 24, len(samples), 3, 16_000, 1) + samples)
    visitor = visit()
    visitor.open(sun)
    page = visitor.page
    assert visitor.words == TIMER
    expect(page.get_by_text("can't play the recording")).to_be_visible()
    expect(page.locator("[data-part=play]")).to_be_disabled()
    page.locator("#text .word").nth(2).click()
    expect(page.locator(".word:focus")).to_have_text("timer")
    visitor.shoot("mute")


def test_a_key_is_asked_for(visit: Visit, tmp_path: Path, timer: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("a-key-of-many-letters\n")
    with serving(tmp_path / "jobs", "--api-key-file", str(keys)) as address:
        visitor = visit(address)
        page = visitor.page
        expect(page.locator("#key")).to_be_focused()
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#key-wrong")).to_be_visible()
        visitor.shoot("key")
        page.locator("#key").fill("a-key-of-many-letters")
        page.keyboard.press("Enter")
        expect(page.locator("#key-form")).to_be_hidden()
        visitor.open(timer)
        assert visitor.words == TIMER
        page.locator("#new").click()
        page.locator("#microphone").click()
        expect(page.get_by_text("Speak now.")).to_be_visible()
        page.reload()
        expect(page.locator("#choose")).to_be_visible()
        expect(page.locator("#key-form")).to_be_hidden()
        # What needed the key goes on when it is there.
        page.evaluate("sessionStorage.clear()")
        page.reload()
        page.set_input_files("#file", timer)
        page.locator("#key").fill("a-key-of-many-letters")
        page.keyboard.press("Enter")
        expect(page.locator("#text .word")).to_have_text(TIMER)


def test_speakers_have_lanes_and_unsure_words_are_marked(visit: Visit, timer: Path) -> None:
    """With an answer that is known beforehand in place of the server's."""

    def models(route: Route) -> None:
        answer = route.fetch().json()
        answer["data"][0]["diarize"] = True
        route.fulfill(json=answer)

    sent: list[str] = []

    def words(route: Route) -> None:
        sent.append((route.request.post_data_buffer or b"").decode("latin-1"))
        said: list[Any] = [
            {"word": word, "start": 0.3 * at, "end": 0.3 * at + 0.25, "probability": 0.5 if at in (1, 4) else 0.99}
            for at, word in enumerate(["good", "morning", "how", "are", "ewe", "today", "fine", "thanks"])
        ]
        parts = [(0, 2, "A"), (2, 6, "B"), (6, 8, "A")]
        for start, end, speaker in parts:
            for word in said[start:end]:
                word["speaker"] = speaker
        segments = [
            {"start": said[start]["start"], "end": said[end - 1]["end"], "speaker": speaker}
            for start, end, speaker in parts
        ]
        route.fulfill(json={"duration": 2.7, "text": "", "segments": segments, "words": said})

    visitor = visit()
    page = visitor.page
    page.route("**/v1/models", models)
    page.route("**/v1/audio/transcriptions", words)
    page.reload()
    page.locator("#diarize").check()
    visitor.open(timer)
    assert 'name="diarize"' in sent[0]
    expect(page.locator(".lane")).to_have_count(2)
    expect(page.locator(".lane").first.locator("i")).to_have_count(2)
    expect(page.locator("#text .unsure")).to_have_text(["morning", "ewe"])
    expect(page.locator("#legend")).to_have_text("2 words to check")
    for word in ("morning", "ewe", "morning"):
        page.keyboard.press("n")
        expect(page.locator(".word:focus")).to_have_text(word)
    page.locator(".speaker").first.fill("Ada")
    page.keyboard.press("Enter")
    expect(page.locator(".lane").first).to_contain_text("Ada")
    visitor.shoot("speakers")
    assert download(visitor, "txt") == "Ada: good morning\nB: how are ewe today\nAda: fine thanks\n"
    assert {word["speaker"] for word in json.loads(download(visitor, "json"))["words"]} == {"Ada", "B"}
    page.locator(".track").last.click()
    assert 1.0 < visitor.seconds < 1.7


def test_speakers_of_the_server_have_lanes(visit: Visit, address: str, timer: Path) -> None:
    with urllib.request.urlopen(f"{address}/v1/models") as answer:
        if not json.load(answer)["data"][0]["diarize"]:
            pytest.skip("This server can't tell speakers apart.")
    visitor = visit()
    visitor.page.locator("#diarize").check()
    visitor.open(timer)
    assert [word.lower() for word in visitor.words] == [word.lower() for word in TIMER]
    expect(visitor.page.locator(".lane i").first).to_be_visible()
    assert json.loads(download(visitor, "json"))["words"][0]["speaker"]
    visitor.shoot("diarized")
