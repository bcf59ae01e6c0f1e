"""A padded batch gives exactly what each recording gives alone."""

import torch

from wavconformer import AutoProcessor, Wav2Vec2ConformerForCTC, load_audio
from wavconformer.files import samples

processor = AutoProcessor.from_pretrained("tiny-en")
model = Wav2Vec2ConformerForCTC.from_pretrained("tiny-en")
recordings = [load_audio(path) for path in samples()]

batch = processor(recordings, sampling_rate=16_000, padding=True, return_attention_mask=True, return_tensors="pt")
with torch.no_grad():
    logits = model(**batch).logits
print(*processor.batch_decode(logits.argmax(-1)), sep="\n")

difference = 0.0
for row, recording in enumerate(recordings):
    alone = processor(recording, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        single = model(alone.input_values).logits[0]
    difference = max(difference, (single - logits[row, : len(single)]).abs().max().item())
print(f"largest difference between batch and single: {difference:.1e}")
