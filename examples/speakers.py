"""Who speaks, whole: vectors, a verdict on two recordings, and voices that are kept and known again."""

import tempfile
from pathlib import Path

import wavconformer
from wavconformer.files import samples

recordings = samples()[:4]
vectors = wavconformer.embed(recordings)  # (4, D), of length one
print(f"{len(vectors)} vectors of {vectors.shape[1]}; cosine of the first two: {vectors[0] @ vectors[1]:.2f}")

found = wavconformer.verify(recordings[0], recordings[1])
verdict = "the same speaker" if found.is_same else "different speakers"
print(f"{verdict}: score {found.score:.2f}, threshold {found.threshold:.2f}, probability {found.probability:.2f}")

with tempfile.TemporaryDirectory() as folder, wavconformer.SpeakerStore(Path(folder) / "voices.db") as store:
    store.enroll("Ann", recordings[:1])
    store.enroll("Bob", recordings[1:2])
    print([(voice.name, voice.recordings) for voice in store.speakers()])
    print(store.identify(recordings[0]).name)  # None for a stranger
    print([match.name if match else None for match in store.names(vectors)])
