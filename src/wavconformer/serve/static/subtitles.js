// Captions that can be read, as `wavconformer transcribe --format srt` makes them: two lines of 42 letters, up to seven
// seconds, parted at pauses (Netflix Timed Text Style Guide, English).

import { timestamp } from "./clock.js";

const [LINE, LINES, LONGEST, SHORTEST, SPEED, GAP, LINGER, PAUSE] = [42, 2, 7, 5 / 6, 20, 2 / 24, 0.25, 0.6];

export function srt(transcript) {
  const blocks = captions(transcript).map(
    ({ start, end, lines }, at) =>
      `${at + 1}\n${timestamp(start, ",")} --> ${timestamp(end, ",")}\n${lines.join("\n")}\n`,
  );
  return blocks.join("\n");
}

export function vtt(transcript) {
  const escaped = (line) => line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
  const blocks = captions(transcript).map(
    ({ start, end, lines }) =>
      `${timestamp(start, ".")} --> ${timestamp(end, ".")}\n${lines.map(escaped).join("\n")}\n`,
  );
  return ["WEBVTT\n", ...blocks].join("\n");
}

function captions(transcript) {
  const made = [];
  for (const segment of transcript.segments) {
    const words = segment.words.flatMap((word) => pieces({ ...word, text: transcript.spelling(segment, word) }));
    for (const group of parted(words)) {
      const texts = group.map((word) => word.text);
      made.push({ start: group[0].start, end: group.at(-1).end, lines: linesOf(texts) ?? [texts.join(" ")] });
    }
  }
  return made.map((caption, at) => timed(caption, made[at + 1]));
}

/** Stays as long as reading takes, and leaves the screen before the following one comes. */
function timed(caption, following) {
  const reading = caption.lines.reduce((sum, line) => sum + line.length, 0) / SPEED;
  let end = Math.max(caption.end + LINGER, caption.start + Math.max(SHORTEST, reading));
  end = Math.min(end, caption.start + LONGEST);
  if (following) {
    const free = following.start - GAP;
    end = Math.min(end, free > caption.start ? free : following.start);
  }
  return { ...caption, end };
}

/** A word in pieces that fit into a line. */
function pieces(word) {
  if (word.text.length <= LINE) return [word];
  const size = Math.ceil(word.text.length / Math.ceil(word.text.length / LINE));
  const second = (word.end - word.start) / word.text.length;
  const made = [];
  for (let begin = 0; begin < word.text.length; begin += size) {
    const end = Math.min(begin + size, word.text.length);
    made.push({
      text: word.text.slice(begin, end),
      start: word.start + begin * second,
      end: word.start + end * second,
    });
  }
  return made;
}

/** Groups that fit into a caption each: full ones, parted where pauses are, by dynamic programming. */
function parted(words) {
  const best = [[0, 0]]; // the cost of the first n words, and where their last caption begins
  for (let end = 1; end <= words.length; end += 1) {
    const pause = end < words.length ? words[end].start - words[end - 1].end : PAUSE;
    const cut = 1 - Math.min(Math.max(pause, 0), PAUSE) / PAUSE;
    let least = null;
    for (let begin = end - 1; begin >= 0; begin -= 1) {
      const group = words.slice(begin, end);
      const fits = group.at(-1).end - group[0].start <= LONGEST && linesOf(group.map((word) => word.text)) !== null;
      if (!fits && begin < end - 1) break;
      const empty = 1 - group.reduce((sum, word) => sum + word.text.length + 1, 0) / (LINES * LINE);
      const cost = best[begin][0] + cut + empty ** 2;
      if (least === null || cost <= least[0]) least = [cost, begin];
    }
    best.push(least);
  }
  const groups = [];
  for (let end = words.length; end; end = best[end][1]) groups.unshift(words.slice(best[end][1], end));
  return groups;
}

/** The words in one line, or in two of like length; null where they don't fit. */
function linesOf(words) {
  const text = words.join(" ");
  if (text.length <= LINE) return [text];
  let least = null;
  for (let cut = 1; cut < words.length; cut += 1) {
    const pair = [words.slice(0, cut).join(" "), words.slice(cut).join(" ")];
    if (Math.max(pair[0].length, pair[1].length) > LINE) continue;
    const uneven = Math.abs(pair[0].length - pair[1].length);
    if (least === null || uneven < least[0]) least = [uneven, pair];
  }
  return least && least[1];
}
