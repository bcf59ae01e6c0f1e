// Who speaks when: a lane for each speaker over the whole recording. A click goes there.

export class Lanes {
  constructor(element, onSeek) {
    this._element = element;
    element.addEventListener("click", (event) => {
      const lane = event.target.closest(".track");
      if (!lane || !this._duration) return;
      const { left, width } = lane.getBoundingClientRect();
      onSeek(((event.clientX - left) / width) * this._duration);
    });
  }

  show(transcript) {
    this._duration = transcript.duration;
    this._element.hidden = !transcript.speakers.length;
    this._element.replaceChildren(...transcript.speakers.map((speaker, at) => lane(transcript, speaker, at)));
  }
}

function lane(transcript, speaker, at) {
  const [row, name, track] = ["div", "span", "div"].map((kind) => document.createElement(kind));
  row.className = "lane";
  row.dataset.speaker = at % 6;
  name.textContent = transcript.nameOf(speaker);
  track.className = "track";
  for (const { speaker: its, words } of transcript.segments) {
    if (its !== speaker) continue;
    const bar = document.createElement("i");
    const percent = (seconds) => `${(100 * seconds) / transcript.duration}%`;
    bar.style.left = percent(words[0].start);
    bar.style.width = percent(words.at(-1).end - words[0].start);
    track.append(bar);
  }
  row.append(name, track);
  return row;
}
