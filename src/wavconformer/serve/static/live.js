// Live captions: the microphone's samples to the server, words back; both are kept for reading afterwards.

import { Microphone } from "./microphone.js";
import { Problem } from "./server.js";
import { Transcript } from "./transcript.js";
import { wav } from "./wav.js";

export class Live {
  /** tell: is told {finals: [text, …], partial: text, level, seconds} as things change. */
  constructor(server, tell) {
    this._server = server;
    this._tell = tell;
    this._chunks = [];
    this._samples = 0;
    this._segments = [];
    this._partial = "";
    this._level = 0;
  }

  /** Begins; ends with the stream: {blob, transcript, problem?}. onReady: is called when it listens. Raises Problem. */
  async run(onReady) {
    this._microphone = await Microphone.open((samples, level) => this._hear(samples, level));
    const closed = this._connect(onReady);
    const problem = await closed;
    this._socket = null;
    await this.stop();
    if (problem && !this._segments.length) throw problem;
    const seconds = this._samples / this._microphone.rate;
    const transcript = new Transcript(this._segments, seconds);
    return { blob: wav(this._chunks, this._microphone.rate), transcript, problem };
  }

  /** Ends the sound; the words that are under way still come. */
  async stop() {
    this._stopping ??= this._microphone?.close();
    await this._stopping;
    if (this._socket?.readyState === WebSocket.OPEN) this._socket.send(JSON.stringify({ type: "end" }));
  }

  /** Ends with null, or with the Problem that ended it. */
  _connect(onReady) {
    return new Promise((resolve) => {
      const socket = (this._socket = new WebSocket(this._server.live));
      const start = { format: "pcm_s16le", sample_rate: this._microphone.rate };
      if (this._server.key) start.api_key = this._server.key; // the opening of a socket can't bring it
      socket.onopen = () => socket.send(JSON.stringify(start));
      // after "done" it is settled already
      socket.onclose = () => resolve(new Problem(this._isReady ? "lost" : "network"));
      socket.onmessage = async ({ data }) => {
        const event = JSON.parse(data);
        if (event.type === "ready") {
          this._isReady = true;
          await this._microphone.start();
          onReady();
        } else if (event.type === "partial") this._partial = event.text;
        else if (event.type === "final") {
          this._keep(event.words);
          this._partial = "";
        } else if (event.type === "end") this._isParted = true;
        else if (event.type === "error") resolve(new Problem(event.error.code ?? "other", event.error.message));
        else if (event.type === "done") resolve(event.reason ? new Problem(event.reason) : null);
        this._say();
      };
    });
  }

  _hear(samples, level) {
    this._chunks.push(samples);
    this._samples += samples.length;
    if (this._socket?.readyState === WebSocket.OPEN) this._socket.send(samples);
    this._level = level;
    this._say();
  }

  /** Final words go on with their segment until there is a pause. */
  _keep(words) {
    if (this._isParted !== false) this._segments.push({ speaker: null, words: [] });
    this._isParted = false;
    this._segments.at(-1).words.push(...words);
  }

  _say() {
    const transcript = new Transcript(this._segments.slice(-12), 0);
    this._tell({
      finals: transcript.segments.map((segment) => transcript.textOf(segment)),
      partial: this._partial === this._partial.toUpperCase() ? this._partial.toLowerCase() : this._partial,
      level: this._level,
      seconds: this._samples / (this._microphone?.rate ?? 1),
    });
  }
}
