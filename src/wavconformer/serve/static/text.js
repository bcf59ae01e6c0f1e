// The transcript to read, to walk through by keyboard, and to correct.

import { clock } from "./clock.js";
import { t } from "./language.js";
import { isUnsure } from "./transcript.js";

const calm = matchMedia("(prefers-reduced-motion: reduce)");

export class Text {
  /** onPlay: is told the time of a word. onOpen: that a correction is begun. onEdit: that one was made. */
  constructor(root, { onPlay, onOpen, onEdit }) {
    this._root = root;
    this._onPlay = onPlay;
    this._onOpen = onOpen;
    this._onEdit = onEdit;
    root.addEventListener("click", (event) => this._click(event));
    root.addEventListener("dblclick", (event) => {
      const word = event.target.closest(".word");
      if (word) this._edit(word.closest(".segment"), this._words.indexOf(word));
    });
    root.addEventListener("keydown", (event) => this._key(event));
    root.addEventListener("focusin", (event) => event.target.matches(".word") && this._rove(event.target));
    document.addEventListener(
      "language",
      () => this._transcript && !this._root.querySelector("textarea") && this.show(this._transcript),
    );
  }

  show(transcript) {
    this._transcript = transcript;
    const speakers = transcript.speakers;
    this._root.classList.toggle("many", speakers.length > 0);
    this._root.replaceChildren(...transcript.segments.map((segment) => this._segment(segment, speakers)));
    this._words = [...this._root.querySelectorAll(".word")];
    this._now = -1;
    if (this._words.length) this._rove(this._words[0]);
    else this._root.textContent = t("text.none");
  }

  /** Lights the word that is heard. */
  light(at, isPlaying) {
    this._words?.[this._now]?.classList.remove("now");
    this._now = at;
    const word = this._words?.[at];
    if (!word) return;
    word.classList.add("now");
    if (isPlaying) word.scrollIntoView({ block: "nearest", behavior: calm.matches ? "auto" : "smooth" });
  }

  /** Goes to the next word that is to be checked, and begins anew after the last. */
  nextUnsure() {
    const unsure = this._words.filter((word) => word.classList.contains("unsure"));
    const from = this._words.indexOf(this._roving);
    const isHere = document.activeElement === this._roving;
    const next = unsure.find((word) => this._words.indexOf(word) >= from + (isHere ? 1 : 0)) ?? unsure[0];
    next?.focus();
  }

  _segment(segment, speakers) {
    const part = element("div", "segment");
    part.segment = segment;
    const margin = element("div", "margin");
    const start = clock(segment.words[0].start);
    const time = element("button", "time", start);
    time.type = "button";
    time.dataset.start = segment.words[0].start;
    time.setAttribute("aria-label", t("text.play", { time: start }));
    margin.append(time);
    if (segment.speaker !== null) margin.append(this._speaker(segment.speaker, speakers));
    const words = element("p", "words");
    for (const word of segment.words) {
      const spelling = this._transcript.spelling(segment, word);
      const span = element("span", "word", spelling);
      span.setAttribute("role", "button");
      span.tabIndex = -1;
      span.dataset.start = word.start;
      if (isUnsure(word)) {
        span.classList.add("unsure");
        span.setAttribute("aria-label", t("text.unsure", { word: spelling }));
      }
      words.append(span, " ");
    }
    const edit = element("button", "edit");
    edit.type = "button";
    edit.setAttribute("aria-label", t("text.edit", { time: start }));
    edit.title = edit.getAttribute("aria-label");
    part.append(margin, words, edit);
    return part;
  }

  _speaker(speaker, speakers) {
    const name = element("input", "speaker");
    name.value = this._transcript.nameOf(speaker);
    name.dataset.speaker = speakers.indexOf(speaker) % 6;
    name.setAttribute("aria-label", t("text.speaker", { speaker }));
    name.addEventListener("change", () => {
      this._transcript.names[speaker] = name.value.trim();
      this._changed(this._words.indexOf(this._roving));
    });
    return name;
  }

  _click(event) {
    const starting = event.target.closest("[data-start]");
    if (starting) {
      if (starting.matches(".word")) starting.focus();
      this._onPlay(Number(starting.dataset.start));
    } else if (event.target.closest(".edit")) this._edit(event.target.closest(".segment"));
  }

  _key(event) {
    const word = event.target.closest(".word");
    if (!word || event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this._words.indexOf(word);
    const go = (to) => this._words[Math.min(Math.max(to, 0), this._words.length - 1)].focus();
    const actions = {
      ArrowRight: () => go(at + 1),
      ArrowLeft: () => go(at - 1),
      ArrowDown: () =>
        (word.closest(".segment").nextElementSibling ?? this._root.lastElementChild).querySelector(".word").focus(),
      ArrowUp: () =>
        (word.closest(".segment").previousElementSibling ?? this._root.firstElementChild)
          .querySelector(".word")
          .focus(),
      Home: () => go(0),
      End: () => go(this._words.length - 1),
      Enter: () => this._onPlay(Number(word.dataset.start)),
      e: () => this._edit(word.closest(".segment"), at),
      F2: () => this._edit(word.closest(".segment"), at),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  }

  /** One word is the stop for the Tab key: with each being one nobody would get past them. */
  _rove(word) {
    if (this._roving) this._roving.tabIndex = -1;
    this._roving = word;
    word.tabIndex = 0;
  }

  /** Makes a segment's text a field. at: place of the word that is to be selected in it. */
  _edit(part, at = -1) {
    const open = this._root.querySelector("textarea");
    if (open) return open.focus();
    this._onOpen();
    const segment = part.segment;
    const field = element("textarea");
    field.rows = 1;
    field.value = this._transcript.textOf(segment);
    field.setAttribute("aria-label", part.querySelector(".edit").title);
    const bar = element("div", "choices");
    const [save, discard] = ["save", "discard"].map((name) => {
      const button = element("button", name, t(`text.${name}`));
      button.type = "button";
      return button;
    });
    bar.append(save, discard);
    const words = part.querySelector(".words");
    const first = this._words.indexOf(words.firstElementChild);
    words.replaceWith(field);
    part.querySelector(".edit").replaceWith(bar);
    part.classList.add("editing");
    const grow = () => {
      field.style.height = "auto";
      field.style.height = `${field.scrollHeight + 2}px`;
    };
    const end = (isKept) => {
      if (isKept && this._transcript.edit(segment, field.value)) this._changed(Math.max(first, at));
      else this._redraw(Math.max(first, at));
    };
    save.addEventListener("click", () => end(true));
    discard.addEventListener("click", () => end(false));
    field.addEventListener("input", grow);
    field.addEventListener("keydown", (event) => {
      if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
      event.preventDefault();
      end(event.key === "Enter");
    });
    grow();
    field.focus();
    const before = segment.words.slice(0, at - first).map((word) => this._transcript.spelling(segment, word));
    const from = before.join(" ").length + (before.length ? 1 : 0);
    const word = segment.words[at - first];
    if (at >= 0) field.setSelectionRange(from, from + this._transcript.spelling(segment, word).length);
  }

  _changed(at) {
    this._onEdit();
    this._redraw(at);
  }

  _redraw(at) {
    this.show(this._transcript);
    this._words[Math.min(Math.max(at, 0), this._words.length - 1)]?.focus();
  }
}

function element(kind, name = "", text = "") {
  return Object.assign(document.createElement(kind), { className: name, textContent: text });
}
