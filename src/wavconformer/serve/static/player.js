// The recording's sound: play, pause, place, speed; and what is drawn of it.

import { clock } from "./clock.js";
import { t } from "./language.js";
import { Lanes } from "./lanes.js";
import { Strip } from "./strip.js";
import { wordAt } from "./transcript.js";
import { Waveform } from "./waveform.js";

export class Player {
  /** root: the element with its parts. onWord: is told the place of the word that is heard, or -1. */
  constructor(root, onWord) {
    this._part = (name) => root.querySelector(`[data-part=${name}]`);
    this._audio = this._part("audio");
    this._waveform = new Waveform(this._part("waveform"), this._audio);
    this._strip = new Strip(this._part("strip"), this._waveform, (seconds) => this.play(seconds));
    this._lanes = new Lanes(this._part("lanes"), (seconds) => this.seek(seconds));
    this._onWord = onWord;
    this._now = -1;
    this._part("play").addEventListener("click", () => this.toggle());
    this._part("place").addEventListener("input", (event) => this.seek(Number(event.target.value)));
    this._part("speed").addEventListener("change", (event) => (this._audio.playbackRate = Number(event.target.value)));
    for (const name of ["play", "pause", "ended"]) this._audio.addEventListener(name, () => this._showState());
    for (const name of ["timeupdate", "seeked"]) this._audio.addEventListener(name, () => this._showPlace());
    this._audio.addEventListener("error", () => this._mute());
    document.addEventListener("language", () => this._showState());
  }

  /** Takes a recording and its transcript. */
  async open(blob, transcript) {
    this.close();
    this.show(transcript);
    this._part("place").max = transcript.duration;
    this._part("place").value = 0;
    this._part("problem").hidden = true;
    this._part("play").disabled = false;
    this._address = URL.createObjectURL(blob);
    this._audio.src = this._address;
    this._showState();
    this._showPlace();
    const isDrawn = await this._waveform.open(blob, this._address, transcript.duration);
    if (!isDrawn && !this._audio.error) this._say("player.plain");
  }

  /** Draws a transcript anew, after a correction. */
  show(transcript) {
    this._transcript = transcript;
    this._words = transcript.words;
    this._strip.show(transcript);
    this._lanes.show(transcript);
  }

  close() {
    this._audio.pause();
    this._audio.removeAttribute("src");
    if (this._address) URL.revokeObjectURL(this._address);
    this._address = null;
  }

  get isPlaying() {
    return !this._audio.paused;
  }

  seek(seconds) {
    this._audio.currentTime = seconds;
    this._waveform.show(seconds);
    this._showPlace();
  }

  play(seconds) {
    if (this._part("play").disabled) return;
    this.seek(seconds);
    this._start();
  }

  toggle() {
    if (this._part("play").disabled) return;
    if (this.isPlaying) this._audio.pause();
    else this._start();
  }

  pause() {
    this._audio.pause();
  }

  async _start() {
    try {
      await this._audio.play();
    } catch (error) {
      if (error.name !== "AbortError") this._mute(); // paused before it began: nothing is wrong
    }
  }

  _mute() {
    if (!this._address) return;
    this._part("play").disabled = true;
    this._say("player.mute");
  }

  _say(name) {
    const problem = this._part("problem");
    problem.dataset.text = name;
    problem.textContent = t(name);
    problem.hidden = false;
  }

  _showState() {
    const button = this._part("play");
    button.dataset.label = this.isPlaying ? "player.pause" : "player.play";
    button.classList.toggle("playing", this.isPlaying);
    button.setAttribute("aria-label", t(button.dataset.label));
    if (this.isPlaying) requestAnimationFrame(() => this._follow());
  }

  /** The audio element tells its time four times a second; words change faster. */
  _follow() {
    this._showPlace();
    if (this.isPlaying) requestAnimationFrame(() => this._follow());
  }

  _showPlace() {
    if (!this._transcript) return;
    const seconds = this._audio.currentTime;
    const slider = this._part("place");
    slider.value = seconds;
    const text = `${clock(seconds)} / ${clock(this._transcript.duration)}`;
    if (this._part("clock").textContent !== text) {
      this._part("clock").textContent = text;
      slider.setAttribute("aria-valuetext", text);
    }
    const at = wordAt(this._words, seconds + 0.01); // a seek may end a little before the time that was asked for
    if (at === this._now) return;
    this._now = at;
    this._strip.light(at);
    this._onWord(at);
  }
}
