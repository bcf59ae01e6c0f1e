"""Speech and its text brought together: the time of each word, as written, and how well each line fits."""

import sys

from wavconformer import align
from wavconformer.files import samples

recording = sys.argv[1] if len(sys.argv) > 1 else samples()[0]
text = sys.argv[2] if len(sys.argv) > 2 else "Set an alarm\nfor 23 minutes!"

alignment = align(recording, text, language="en")
for line in alignment.lines:
    print(f"{line.start:.2f}–{line.end:.2f} s, score {line.score:.2f}: {line.text}")
    for word in line.words:
        print(f"    {word.start:.2f}–{word.end:.2f}  {word.text}")
for stretch in alignment.untranscribed:
    print(f"no line has the speech at {stretch.start:.2f}–{stretch.end:.2f} s")
