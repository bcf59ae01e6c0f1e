// Runs in the audio thread: passes samples on, a tenth of a second at a time.

class Pcm extends AudioWorkletProcessor {
  constructor() {
    super();
    this._samples = new Float32Array(Math.round(sampleRate / 10));
    this._count = 0;
    this.port.onmessage = () => {
      this._pass();
      this.port.postMessage(null); // that was all
      this._isOver = true;
    };
  }

  process([[channel]]) {
    for (const sample of channel ?? []) {
      this._samples[this._count++] = sample;
      if (this._count === this._samples.length) this._pass();
    }
    return !this._isOver;
  }

  _pass() {
    this.port.postMessage(this._samples.slice(0, this._count));
    this._count = 0;
  }
}

registerProcessor("pcm", Pcm);
