"""Speech as it comes in: partial words, final words, pauses."""

import numpy as np

from wavconformer import EndOfUtterance, FinalWords, StreamingTranscriber, load_audio, load_model
from wavconformer.files import samples

transcriber = load_model("tiny-en", device="cpu")
live = StreamingTranscriber(transcriber, sampling_rate=16_000)

pause = np.zeros(16_000, np.float32)
audio = np.concatenate([part for path in samples()[:2] for part in (load_audio(path), pause)])
chunks = [audio[start : start + 1_600] for start in range(0, len(audio), 1_600)]  # as a microphone gives them
for chunk in [*chunks, None]:
    for event in live.close() if chunk is None else live.feed(chunk):
        if isinstance(event, EndOfUtterance):
            print(f"{event.heard:5.1f} s  a pause since {event.end:.1f} s")
        elif isinstance(event, FinalWords):
            print(f"{event.heard:5.1f} s  {event.text}")
        else:
            print(f"{event.heard:5.1f} s  … {event.text}")
