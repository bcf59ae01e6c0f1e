// The microphone as samples.

import { Problem } from "./server.js";

// What browsers do to a voice for calls takes away what the model listens to.
const WANTED = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true };
const PATIENCE = 1000; // milliseconds for the last samples; an audio thread that never began gives none

export class Microphone {
  /** Opens it. onSamples: is told Int16Array after Int16Array, and how loud each is, from 0 to 1. Raises Problem. */
  static async open(onSamples) {
    if (!navigator.mediaDevices) throw new Problem("insecure");
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: WANTED });
    } catch (error) {
      throw new Problem(error.name === "NotAllowedError" ? "denied" : "absent", error.message);
    }
    const context = new AudioContext();
    await context.audioWorklet.addModule(new URL("./pcm-worklet.js", import.meta.url));
    return new Microphone(stream, context, onSamples);
  }

  constructor(stream, context, onSamples) {
    this._stream = stream;
    this._context = context;
    this.rate = context.sampleRate;
    this._node = new AudioWorkletNode(context, "pcm", {
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: "explicit",
    });
    this._node.port.onmessage = ({ data }) => {
      if (data === null) this._onEnd();
      else if (data.length) onSamples(...whole(data));
    };
  }

  /** Begins to listen. */
  async start() {
    this._context.createMediaStreamSource(this._stream).connect(this._node);
    await this._context.resume();
  }

  /** Ends when the last sample has been told of. */
  async close() {
    const ended = new Promise((resolve) => (this._onEnd = resolve));
    this._node.port.postMessage("end");
    await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, PATIENCE))]);
    for (const track of this._stream.getTracks()) track.stop();
    await this._context.close();
  }
}

function whole(samples) {
  let sum = 0;
  const made = Int16Array.from(samples, (sample) => {
    sum += sample * sample;
    return Math.max(-1, Math.min(1, sample)) * 32767;
  });
  const decibels = 10 * Math.log10(sum / samples.length + 1e-10);
  return [made, Math.max(0, Math.min(1, 1 + decibels / 60))];
}
