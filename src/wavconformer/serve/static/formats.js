// A transcript as a file, in the formats that `wavconformer transcribe` writes.

import { srt, vtt } from "./subtitles.js";

const WRITERS = {
  txt: (transcript) => `${spoken(transcript)}\n`,
  srt,
  vtt,
  json: (transcript, name) => `${JSON.stringify({ file: name, ...plain(transcript) })}\n`,
};

export const FORMATS = Object.keys(WRITERS);

/** Hands the user a file. */
export function download(transcript, format, name) {
  const stem = name.replace(/\.[^.]*$/, "") || "recording";
  const address = URL.createObjectURL(
    new Blob([WRITERS[format](transcript, name)], { type: "text/plain;charset=utf-8" }),
  );
  const link = Object.assign(document.createElement("a"), { href: address, download: `${stem}.${format}` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000); // after the browser has begun to save it
}

function spoken(transcript) {
  if (!transcript.speakers.length) return transcript.text;
  const lines = transcript.segments.map((segment) =>
    segment.speaker === null
      ? transcript.textOf(segment)
      : `${transcript.nameOf(segment.speaker)}: ${transcript.textOf(segment)}`,
  );
  return lines.join("\n");
}

function plain(transcript) {
  const speaker = (segment) => (segment.speaker === null ? {} : { speaker: transcript.nameOf(segment.speaker) });
  return {
    text: transcript.text,
    words: transcript.segments.flatMap((segment) =>
      segment.words.map((word) => ({
        text: transcript.spelling(segment, word),
        start: word.start,
        end: word.end,
        probability: word.probability,
        ...speaker(segment),
      })),
    ),
    duration: transcript.duration,
    segments: transcript.segments.map((segment) => ({
      text: transcript.textOf(segment),
      start: segment.words[0].start,
      end: segment.words.at(-1).end,
      ...speaker(segment),
    })),
    ...(transcript.problems.length && { problems: transcript.problems }),
  };
}
