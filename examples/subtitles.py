"""Subtitles of a recording, and of a long one its segments as they are found."""

import numpy as np

from wavconformer import load_audio, load_model
from wavconformer.files import samples
from wavconformer.writers import render

transcriber = load_model("tiny-en", device="cpu")
transcript = transcriber(samples()[0])
print(render(transcript, "srt"))  # wavconformer.save_transcript(transcript, "alarm.srt") writes a file

# Blocks of samples as they might come from anywhere; windows are short here only because the recordings are.
pause = np.zeros(16_000, np.float32)
blocks = (block for path in samples() for block in (load_audio(path), pause))
for segment in transcriber.stream(blocks, sampling_rate=16_000, window_seconds=5):
    print(f"{segment.start:6.2f}–{segment.end:5.2f} s  {segment.text}")
