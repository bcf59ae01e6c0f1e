// Seconds as people and as subtitles write them.

const two = (number) => String(number).padStart(2, "0");

/** 1:05, or 1:00:05. */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** 00:00:01.500, with the mark before the milliseconds. */
export function timestamp(seconds, mark) {
  const all = Math.round(seconds * 1000);
  const whole = Math.floor(all / 1000);
  const milliseconds = String(all % 1000).padStart(3, "0");
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return `${parts.map(two).join(":")}${mark}${milliseconds}`;
}
