"""Who speaks when, and whose each word is: two of the shipped samples, one after the other, by two voices."""

import numpy as np

import wavconformer
from wavconformer.files import ASSETS

names = ("weather.flac", "timer.flac")
samples = np.concatenate([wavconformer.load_audio(ASSETS / "samples" / name) for name in names])

diarization = wavconformer.diarize(samples, sampling_rate=16_000)
for turn in diarization.turns:
    print(f"{turn.start:5.2f} to {turn.end:5.2f} s: {turn.speaker}")

transcript = wavconformer.transcribe(samples, sampling_rate=16_000)
for segment in wavconformer.by_speaker(transcript, diarization).segments:
    print(f"{segment.speaker}: {segment.text}")
