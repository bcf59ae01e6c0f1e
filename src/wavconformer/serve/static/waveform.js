// The waveform, drawn by wavesurfer.js.

import WaveSurfer from "./vendor/wavesurfer.esm.js";

const HEIGHT = 96;
const PEAKS_A_SECOND = 100;
const PIXELS_A_SECOND = 230; // at least, so that the words below find room
// Beyond these a recording isn't decoded here: its samples would fill the memory.
const [MOST_SECONDS, MOST_BYTES] = [900, 64 << 20];

export class Waveform {
  constructor(container, audio) {
    // Its style would be one inside the page, which our policy forbids: it becomes a sheet before it is ever shown.
    const holder = document.createElement("div");
    this._surfer = WaveSurfer.create({
      container: holder,
      media: audio,
      height: HEIGHT,
      barWidth: 2,
      barGap: 1,
      barRadius: 2,
      cursorWidth: 2,
      normalize: true,
      dragToSeek: true,
      minPxPerSec: PIXELS_A_SECOND,
      ...colours(),
    });
    const shadow = holder.firstElementChild.shadowRoot;
    const style = shadow.querySelector("style");
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(style.textContent);
    shadow.adoptedStyleSheets = [sheet];
    style.remove();
    container.append(holder);
    const dark = matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", () => this._surfer.setOptions(colours()));
  }

  /** Draws a recording that the audio element has as its source. Tells whether it could be drawn. */
  async open(blob, address, duration) {
    this._address = address;
    const peaks = await peaksOf(blob, duration);
    if (this._address !== address) return true; // another one has been opened meanwhile
    await this._surfer.load(address, [peaks ?? new Float32Array(2)], duration);
    return peaks !== null;
  }

  /** Calls a function whenever another part is shown, with its start and end in seconds. */
  onView(function_) {
    const tell = () => {
      const [width, scroll] = [this.width, this._surfer.getScroll()];
      const duration = this._surfer.getDuration();
      if (width) function_((scroll / width) * duration, ((scroll + this._surfer.getWidth()) / width) * duration);
    };
    for (const name of ["scroll", "redrawcomplete", "zoom", "ready", "resize"]) this._surfer.on(name, tell);
  }

  /** Of all of it, in pixels, and how far it is scrolled. */
  get width() {
    return this._surfer.getWrapper().getBoundingClientRect().width;
  }

  get scroll() {
    return this._surfer.getScroll();
  }

  /** Shows a time that is out of sight. */
  show(seconds) {
    const [place, view] = [(seconds / this._surfer.getDuration()) * this.width, this._surfer.getWidth()];
    if (place < this.scroll || place > this.scroll + view) this._surfer.setScroll(Math.max(0, place - view / 3));
  }
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  return { waveColor: colour("--wave"), progressColor: colour("--accent"), cursorColor: colour("--accent") };
}

/** The loudest sample of each hundredth of a second, or null where that is too much, or can't be decoded here. */
async function peaksOf(blob, duration) {
  if (!(duration <= MOST_SECONDS) || blob.size > MOST_BYTES) return null;
  const context = new OfflineAudioContext(1, 1, 8000);
  let sound;
  try {
    sound = await context.decodeAudioData(await blob.arrayBuffer());
  } catch {
    return null;
  }
  const size = sound.sampleRate / PEAKS_A_SECOND;
  const peaks = new Float32Array(Math.ceil(sound.length / size));
  for (let channel = 0; channel < sound.numberOfChannels; channel += 1) {
    sound.getChannelData(channel).forEach((sample, at) => {
      const place = Math.floor(at / size);
      if (Math.abs(sample) > peaks[place]) peaks[place] = Math.abs(sample);
    });
  }
  return peaks;
}
