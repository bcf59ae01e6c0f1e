// The page: what it shows when, and who is told of what.

import { clock } from "./clock.js";
import { download, FORMATS } from "./formats.js";
import { explain, switchLanguage, t, translate } from "./language.js";
import { Live } from "./live.js";
import { Player } from "./player.js";
import { Problem, Server } from "./server.js";
import { Text } from "./text.js";
import { isUnsure, Transcript } from "./transcript.js";

const by = (id) => document.getElementById(id);
const server = new Server();
const player = new Player(by("player"), (at) => text.light(at, player.isPlaying));
const text = new Text(by("text"), {
  onPlay: (seconds) => player.play(seconds),
  onOpen: () => player.pause(),
  onEdit: () => redraw(),
});

const PATIENCE = 5000; // milliseconds that the browser has to say how long a file is

let model = null;
let live = null;
let shown = null; // {transcript, name}
let working = null; // ends what is under way
let again = null; // what was tried last
let said = null; // the error that is shown
let step = { phase: "sending", fraction: 0 };

/** empty, working, live or done. */
function go(state) {
  document.body.dataset.state = state;
  for (const section of document.querySelectorAll("[data-on]"))
    section.hidden = !section.dataset.on.split(" ").includes(state);
}

function fail(error) {
  said = error;
  by("error").hidden = error === null;
  if (error) by("error-text").textContent = explain(error);
}

async function begin() {
  try {
    model = await server.model();
    by("key-form").hidden = true;
    by("speakers").hidden = !model.diarize;
    fail(null);
    return true;
  } catch (error) {
    if (error.code !== "invalid_api_key") {
      again = begin;
      fail(error);
      return false;
    }
    by("key-wrong").hidden = !server.key;
    by("key-form").hidden = false;
    by("key").focus();
    return false;
  }
}

/** Runs something that may fail, from what is shown to what it shows. */
async function attempt(work) {
  again = () => attempt(work);
  fail(null);
  if (!model && !(await begin())) return;
  try {
    await work();
  } catch (error) {
    go(shown ? "done" : "empty");
    if (error.name === "AbortError") return;
    if (!(error instanceof Problem)) {
      fail(new Problem("page", error.message));
      throw error; // for the console, with where it was
    }
    if (error.code === "invalid_api_key") {
      model = null;
      await begin();
    } else {
      fail(error);
      by("error").focus();
    }
  }
}

function transcribe(file) {
  if (document.body.dataset.state === "working" || live || !mayLeave()) return;
  attempt(async () => {
    if (!file.size) throw new Problem("empty_file");
    player.close();
    shown = null;
    working = new AbortController();
    by("working-name").textContent = file.name;
    showStep({ phase: "sending", fraction: 0 });
    go("working");
    by("cancel").focus();
    const answer = await server.transcribe(file, {
      model: model.id,
      duration: await durationOf(file),
      diarize: model.diarize && by("diarize").checked,
      tell: showStep,
      signal: working.signal,
    });
    await show(file, Transcript.of(answer), file.name);
  });
}

function showStep(next) {
  step = next;
  const { phase, fraction, seconds, duration } = step;
  const bar = by("progress");
  if (fraction === null || phase === "queued") bar.removeAttribute("value");
  else bar.value = fraction;
  const names = {
    sending: () => t("working.sending", { percent: Math.round(fraction * 100) }),
    queued: () => t("working.queued"),
    listening: () =>
      duration ? t("working.progress", { done: clock(seconds), all: clock(duration) }) : t("working.listening"),
  };
  const words = names[phase]();
  if (by("step").textContent !== words) by("step").textContent = words;
}

function speak() {
  if (live || !mayLeave()) return;
  attempt(async () => {
    player.close();
    shown = null;
    by("finals").replaceChildren();
    by("partial").textContent = "";
    by("live-state").textContent = t("live.starting");
    by("stop").disabled = true;
    go("live");
    live = new Live(server, showLive);
    try {
      const { blob, transcript, problem } = await live.run(() => {
        by("live-state").textContent = t("live.ready");
        by("stop").disabled = false;
        by("stop").focus();
      });
      if (!transcript.words.length) throw new Problem("silent");
      await show(blob, transcript, `${t("live.name")}.wav`);
      if (problem) fail(problem);
    } finally {
      live = null;
    }
  });
}

function showLive({ finals, partial, level, seconds }) {
  const box = by("finals");
  while (box.childElementCount > finals.length) box.firstElementChild.remove();
  finals.forEach((words, at) => {
    const line = box.children[at] ?? box.appendChild(document.createElement("p"));
    if (line.textContent !== words) line.textContent = words;
  });
  by("partial").textContent = partial;
  by("level").firstElementChild.style.width = `${100 * level}%`;
  by("live-clock").textContent = clock(seconds);
  if (finals.length || partial) by("live-state").textContent = "";
  by("captions").scrollTop = by("captions").scrollHeight;
}

async function show(blob, transcript, name) {
  shown = { transcript, name };
  go("done");
  by("name").textContent = name;
  by("problems").textContent = transcript.problems.join(" ");
  by("capitals").hidden = !transcript.isShouted;
  redraw();
  by("name").focus();
  await player.open(blob, transcript);
}

/** Shows the transcript as it is now. */
function redraw() {
  const { transcript } = shown;
  text.show(transcript);
  player.show(transcript);
  const count = transcript.words.filter(isUnsure).length;
  const one = count === 1 ? "text.legend.one" : "text.legend";
  by("legend").textContent = count ? t(one, { count }) : t("text.sure");
  by("legend").classList.toggle("some", count > 0);
  by("next").hidden = !count;
  by("undo").hidden = !transcript.canUndo;
  by("capitals").setAttribute("aria-pressed", transcript.capitals);
}

function mayLeave() {
  return !shown?.transcript.isEdited || confirm(t("text.leave"));
}

/** Seconds of a file, or NaN where the browser can't tell. */
function durationOf(file) {
  return new Promise((resolve) => {
    const [audio, address] = [new Audio(), URL.createObjectURL(file)];
    const end = (seconds) => {
      URL.revokeObjectURL(address);
      resolve(seconds);
    };
    setTimeout(() => end(NaN), PATIENCE);
    audio.preload = "metadata";
    audio.onloadedmetadata = () => end(audio.duration);
    audio.onerror = () => end(NaN);
    audio.src = address;
  });
}

by("choose").addEventListener("click", () => by("file").click());
by("file").addEventListener("change", ({ target }) => {
  if (target.files.length) transcribe(target.files[0]);
  target.value = ""; // the same file may be chosen again
});
by("microphone").addEventListener("click", speak);
by("stop").addEventListener("click", () => {
  by("stop").disabled = true;
  by("live-state").textContent = t("live.finishing");
  live?.stop();
});
by("cancel").addEventListener("click", () => working.abort());
by("again").addEventListener("click", () => again());
by("language").addEventListener("click", switchLanguage);
by("next").addEventListener("click", () => text.nextUnsure());
by("new").addEventListener("click", () => {
  if (!mayLeave()) return;
  player.close();
  shown = null;
  fail(null);
  go("empty");
  by("choose").focus();
});
by("undo").addEventListener("click", () => {
  shown.transcript.undo();
  redraw();
});
by("capitals").addEventListener("click", () => {
  shown.transcript.capitals = !shown.transcript.capitals;
  redraw();
});
by("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  server.setKey(by("key").value.trim());
  if (!(await begin())) return;
  by("choose").focus();
  again?.(); // what the key was asked for
});
for (const format of FORMATS) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", textContent: format.toUpperCase(), id: `download-${format}` });
  button.addEventListener("click", () => {
    download(shown.transcript, format, shown.name);
    shown.transcript.keep();
  });
  by("downloads").append(button);
}

let inside = 0; // elements that a dragged file is over
const steps = { dragenter: 1, dragleave: -1 };
for (const name in steps) {
  document.addEventListener(name, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return; // a piece of text, say
    inside += steps[name];
    document.body.classList.toggle("dragging", inside > 0);
  });
}
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  inside = 0;
  document.body.classList.remove("dragging");
  if (event.dataTransfer.files.length) transcribe(event.dataTransfer.files[0]);
});
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input:not([type=checkbox]):not([type=range]), textarea, select");
  if (document.body.dataset.state !== "done" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "n") text.nextUnsure();
  else if (event.key === " " && !event.target.matches("button, input")) player.toggle();
  else return;
  event.preventDefault();
});
document.addEventListener("language", () => {
  if (said) fail(said);
  if (shown && !document.querySelector("textarea")) redraw();
  showStep(step);
});
addEventListener("beforeunload", (event) => shown?.transcript.isEdited && event.preventDefault());

translate();
go("empty");
begin();
