// The server's API: what it can do, a file in and words out, and where live streams go.

const KEPT = "wavconformer.key";
// A recording above either is sent as a job, which tells how far it is and may take its time.
const [DIRECT_SECONDS, DIRECT_BYTES] = [60, 8 << 20];
const POLL = [300, 2000]; // milliseconds between looks at a job, at first and at most

/** What went wrong. code: as the API has it, or one of ours; message: as the server put it. */
export class Problem extends Error {
  constructor(code, message = code) {
    super(message);
    this.code = code;
  }
}

export class Server {
  constructor() {
    this.key = sessionStorage.getItem(KEPT) ?? "";
  }

  setKey(key) {
    this.key = key;
    sessionStorage.setItem(KEPT, key);
  }

  /** Its model: {id, diarize, …}. */
  async model() {
    return (await this._ask("GET", "/v1/models")).data[0];
  }

  /**
   * What is said in a file, as verbose_json. duration: its seconds, where the browser knows them.
   * tell: is told {phase: "sending" | "queued" | "listening", fraction, seconds?, duration?}. signal: ends it.
   */
  async transcribe(file, { model, duration, diarize, tell, signal }) {
    const form = new FormData();
    const fields = { model, response_format: "verbose_json", ...(diarize && { diarize: "true" }) };
    for (const [name, value] of Object.entries(fields)) form.append(name, value);
    for (const kind of ["word", "segment"]) form.append("timestamp_granularities[]", kind);
    form.append("file", file, file.name);
    const options = { form, tell, signal };
    if (file.size > DIRECT_BYTES || !(duration <= DIRECT_SECONDS)) return this._job(options);
    try {
      return await this._ask("POST", "/v1/audio/transcriptions", options);
    } catch (error) {
      if (error.code !== "time_limit") throw error;
      return this._job(options);
    }
  }

  /** The address of live streams. */
  get live() {
    return new URL("/v1/live", location.href.replace(/^http/, "ws"));
  }

  async _job({ form, tell, signal }) {
    const job = await this._ask("POST", "/v1/jobs", { form, tell, signal });
    const address = `/v1/jobs/${job.id}`;
    try {
      for (let wait = POLL[0], state = job; state.status !== "done"; wait = Math.min(wait * 1.3, POLL[1])) {
        if (state.status === "failed" || state.status === "cancelled")
          throw new Problem(state.error?.code ?? state.status, state.error?.message);
        tell({ phase: state.status === "queued" ? "queued" : "listening", ...state.progress });
        await pause(wait, signal);
        state = await this._ask("GET", address, { signal });
      }
      return await this._ask("GET", `${address}/result`, { signal });
    } finally {
      // One that runs is cancelled. Where the server can't be asked any more it drops the job itself, in time.
      await this._ask("DELETE", address).catch(() => {});
    }
  }

  _ask(method, path, { form, tell = () => {}, signal } = {}) {
    // fetch can't tell how much of a body has been sent.
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open(method, path);
      if (this.key) request.setRequestHeader("Authorization", `Bearer ${this.key}`);
      request.upload.onprogress = ({ loaded, total }) =>
        tell({ phase: "sending", fraction: total ? loaded / total : 0 });
      request.upload.onload = () => tell({ phase: "listening", fraction: null });
      request.onerror = () => reject(new Problem("network"));
      request.onabort = () => reject(new DOMException("", "AbortError"));
      request.onload = () => {
        const answer = parsed(request.responseText);
        if (request.status < 400 && answer) resolve(answer);
        else
          reject(
            new Problem(
              answer?.error?.code ?? "other",
              answer?.error?.message ?? `${request.status} ${request.statusText}`,
            ),
          );
      };
      if (signal?.aborted) return reject(new DOMException("", "AbortError"));
      signal?.addEventListener("abort", () => request.abort(), { once: true });
      request.send(form ?? null);
    });
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // of something between us and the server
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(new DOMException("", "AbortError"))), {
      once: true,
    });
  });
}
