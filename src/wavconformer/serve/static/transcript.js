// What was said: segments of words, each word with its time. Corrections change the text and keep the times.

/** Below this probability a word is marked as unsure; the pages of `wavconformer transcribe` have the same. */
export const UNSURE = 0.8;

export class Transcript {
  /** segments: [{speaker?, words: [{text, start, end, probability, edited?}]}]; duration in seconds. */
  constructor(segments, duration, problems = []) {
    this.segments = segments.filter((segment) => segment.words.length);
    this.duration = duration;
    this.problems = problems;
    this.names = {}; // what the user calls the speakers
    this.isShouted =
      this.words.length > 0 && this.words.every(({ text }) => text === text.toUpperCase() && /\p{L}/u.test(text));
    this.capitals = !this.isShouted; // show words as the model spells them; else all-capitals are softened
    this.isEdited = false;
    this._past = [];
  }

  /** Of an answer in the format verbose_json, with words and segments. */
  static of(answer) {
    const segments = (answer.segments ?? []).map((segment) => ({ ...segment, words: [] }));
    let at = 0;
    for (const { word, start, end, probability = null, speaker } of answer.words ?? []) {
      while (at + 1 < segments.length && start >= segments[at + 1].start) at += 1;
      segments[at].words.push({ text: word, start, end, probability, ...(speaker && { speaker }) });
    }
    const plain = segments.map(({ speaker, words }) => ({ speaker: speaker ?? words[0]?.speaker ?? null, words }));
    return new Transcript(plain, answer.duration, answer.problems);
  }

  get words() {
    return this.segments.flatMap((segment) => segment.words);
  }

  get text() {
    return this.segments.map((segment) => this.textOf(segment)).join(" ");
  }

  get speakers() {
    return [...new Set(this.segments.map((segment) => segment.speaker).filter((speaker) => speaker !== null))].sort();
  }

  /** What a speaker is called. */
  nameOf(speaker) {
    return this.names[speaker] || speaker;
  }

  /** A word of a segment as it is to be read. */
  spelling(segment, word) {
    if (this.capitals || word.edited) return word.text;
    const soft = word.text.toLowerCase().replace(/^i(?=$|')/, "I");
    return word === segment.words[0] ? soft[0].toUpperCase() + soft.slice(1) : soft;
  }

  textOf(segment) {
    return segment.words.map((word) => this.spelling(segment, word)).join(" ");
  }

  /** Gives a segment another text. Words that stay keep their times; new ones share the time of those they replace. */
  edit(segment, text) {
    const tokens = text.split(/\s+/).filter(Boolean);
    const old = segment.words.map((word) => this.spelling(segment, word));
    if (tokens.join(" ") === old.join(" ")) return false;
    const at = this.segments.indexOf(segment);
    const words = [];
    let [left, right] = [0, 0];
    for (const [i, j] of [...common(old, tokens), [old.length, tokens.length]]) {
      const [before, after] = [segment.words[left - 1], segment.words[i]];
      words.push(...replaced(segment.words.slice(left, i), tokens.slice(right, j), before, after));
      if (i < old.length) words.push(segment.words[i]);
      [left, right] = [i + 1, j + 1];
    }
    this._past.push(this.segments);
    const made = { ...segment, words };
    // What was typed holds, even where a kept word is no longer the first of its segment.
    made.words = words.map((word, i) =>
      this.spelling(made, word) === tokens[i] ? word : { ...word, text: tokens[i], edited: true },
    );
    this.segments = [...this.segments.slice(0, at), ...(words.length ? [made] : []), ...this.segments.slice(at + 1)];
    this.isEdited = true;
    return true;
  }

  get canUndo() {
    return this._past.length > 0;
  }

  undo() {
    this.segments = this._past.pop() ?? this.segments;
    this.isEdited = this.canUndo;
  }

  /** Marks the corrections as kept elsewhere. */
  keep() {
    this.isEdited = false;
  }
}

/** Whether a word is to be looked at. */
export function isUnsure(word) {
  return word.probability !== null && word.probability < UNSURE;
}

/** Place of the last word that begins at or before a time, or -1. */
export function wordAt(words, seconds) {
  let [low, high] = [0, words.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (words[middle].start <= seconds) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** Pairs of places of a longest common subsequence. */
function common(left, right) {
  const lengths = Array.from({ length: left.length + 1 }, () => new Uint32Array(right.length + 1));
  for (let i = left.length - 1; i >= 0; i -= 1)
    for (let j = right.length - 1; j >= 0; j -= 1)
      lengths[i][j] = left[i] === right[j] ? lengths[i + 1][j + 1] + 1 : Math.max(lengths[i + 1][j], lengths[i][j + 1]);
  const pairs = [];
  for (let [i, j] = [0, 0]; i < left.length && j < right.length;) {
    if (left[i] === right[j]) pairs.push([i++, j++]);
    else if (lengths[i + 1][j] >= lengths[i][j + 1]) i += 1;
    else j += 1;
  }
  return pairs;
}

/** New words in place of old ones: one for one where the number is the same, and else by their letters. */
function replaced(old, texts, before, after) {
  const made = { probability: null, edited: true };
  if (old.length === texts.length) return texts.map((text, i) => ({ ...old[i], ...made, text }));
  const start = old[0]?.start ?? before?.end ?? after?.start ?? 0;
  const end = old.at(-1)?.end ?? Math.max(start, after?.start ?? start);
  const letters = texts.reduce((sum, text) => sum + text.length, 0);
  const time = (count) => Math.round((start + ((end - start) * count) / letters) * 1000) / 1000;
  let count = 0;
  return texts.map((text) => {
    const from = time(count);
    count += text.length;
    return { ...made, text, start: from, end: time(count) };
  });
}
