"""Speech to text with the classes: transcribe a recording, then compute the loss of its transcript."""

import sys

import torch

from wavconformer import AutoProcessor, Wav2Vec2ConformerForCTC, load_audio
from wavconformer.files import samples

name = sys.argv[1] if len(sys.argv) > 1 else "tiny-en"
recording = sys.argv[2] if len(sys.argv) > 2 else samples()[0]
text = sys.argv[3] if len(sys.argv) > 3 else "SET AN ALARM FOR TWENTY THREE MINUTES"

processor = AutoProcessor.from_pretrained(name)
model = Wav2Vec2ConformerForCTC.from_pretrained(name)

audio = load_audio(recording, sampling_rate=16_000)
inputs = processor(audio, sampling_rate=16_000, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits
predicted_ids = torch.argmax(logits, dim=-1)

transcription = processor.batch_decode(predicted_ids)
print(transcription[0])

inputs["labels"] = processor(text=text, return_tensors="pt").input_ids
loss = model(**inputs).loss
print(f"loss {loss.item():.2f}")
