"""Which word is said: short recordings, and a longer one along its time."""

import wavconformer
from wavconformer.files import samples

*_, longest = sorted(samples("keywords"), key=lambda path: path.stat().st_size)
words = [path for path in samples("keywords") if path != longest]

for path, found in zip(words, wavconformer.classify(words), strict=True):
    print(f"{path.name:12s} {found}")

found = wavconformer.classify(longest, hop_seconds=0.25)
for span in found.spans:
    print(f"{span.start:5.2f} {span.end:5.2f}  {span.label} {span.score:.2f}")
