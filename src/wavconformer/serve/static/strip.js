// The words under the waveform, each where it is heard. Only those in sight are there.

import { isUnsure, wordAt } from "./transcript.js";

export class Strip {
  constructor(element, waveform, onPlay) {
    this._element = element;
    this._waveform = waveform;
    this._labels = new Map();
    element.addEventListener("click", (event) => {
      const label = event.target.closest("[data-start]");
      if (label) onPlay(Number(label.dataset.start));
    });
    waveform.onView((start, end) => {
      this._view = [start, end];
      this.draw();
    });
  }

  show(transcript) {
    this._transcript = transcript;
    this._words = transcript.words;
    this._spellings = transcript.segments.flatMap((segment) =>
      segment.words.map((word) => transcript.spelling(segment, word)),
    );
    this.draw();
  }

  draw() {
    if (!this._words || !this._view) return;
    const { width, scroll } = this._waveform;
    const second = width / this._transcript.duration;
    const first = Math.max(0, wordAt(this._words, this._view[0]));
    this._element.replaceChildren();
    this._labels.clear();
    for (let at = first; at < this._words.length && this._words[at].start < this._view[1]; at += 1) {
      const word = this._words[at];
      const label = document.createElement("span");
      label.textContent = this._spellings[at];
      label.dataset.start = word.start;
      label.classList.toggle("unsure", isUnsure(word));
      label.classList.toggle("now", at === this._now);
      const left = word.start * second - scroll;
      const room = at + 1 < this._words.length ? (this._words[at + 1].start - word.start) * second - 4 : width;
      label.style.left = `${left}px`;
      label.style.maxWidth = `${Math.max(room, 8)}px`;
      this._labels.set(at, label);
      this._element.append(label);
    }
  }

  light(at) {
    this._labels.get(this._now)?.classList.remove("now");
    this._now = at;
    this._labels.get(at)?.classList.add("now");
  }
}
