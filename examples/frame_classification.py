"""An answer for every frame: a frame head on the shipped backbone, as for telling who speaks when."""

import torch

from wavconformer import AutoFeatureExtractor, Wav2Vec2ConformerForAudioFrameClassification, load_audio
from wavconformer.files import samples

# The head is new and says so in a warning: train it before you believe it.
feature_extractor = AutoFeatureExtractor.from_pretrained("tiny-en")
model = Wav2Vec2ConformerForAudioFrameClassification.from_pretrained("tiny-en", num_labels=2)

audio = load_audio(samples()[0])
inputs = feature_extractor(audio, return_tensors="pt", sampling_rate=16_000)
with torch.no_grad():
    logits = model(**inputs).logits

probabilities = torch.sigmoid(logits[0])
labels = (probabilities > 0.5).long()  # one-hot vector of (frames, speakers)
print(f"{len(labels)} frames of {1000 / model.config.frame_rate():g} ms; the first: {labels[0].tolist()}")

loss = model(**inputs, labels=labels[None].float()).loss
print(f"loss {loss.item():.2f}")
