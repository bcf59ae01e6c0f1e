"""An answer for every frame: who speaks, of the local speakers that the shipped frame head tells apart."""

import torch

from wavconformer import (
    AutoFeatureExtractor,
    SpeakerLabels,
    Wav2Vec2ConformerForAudioFrameClassification,
    load_audio,
)
from wavconformer.files import samples

feature_extractor = AutoFeatureExtractor.from_pretrained("diarize")
model = Wav2Vec2ConformerForAudioFrameClassification.from_pretrained("diarize")

audio = load_audio(samples()[0])
inputs = feature_extractor(audio, return_tensors="pt", sampling_rate=16_000)
with torch.no_grad():
    logits = model(**inputs).logits

# Each label of this head is a set of speakers (model.config.id2label). Of a head with a label for each speaker these
# are torch.sigmoid(logits[0]), as the documentation of the Hugging Face class has it; SpeakerLabels knows both.
probabilities = torch.from_numpy(SpeakerLabels.of(model.config).probabilities(logits[0].numpy()))
labels = (probabilities > 0.5).long()  # one-hot vector of (frames, speakers)
print(f"{len(labels)} frames of {1000 / model.config.frame_rate():g} ms; the first: {labels[0].tolist()}")
print(f"somebody speaks in {labels.any(-1).float().mean():.0%} of them")

# With labels there is a loss: here of the likeliest sets themselves.
loss = model(**inputs, labels=logits.argmax(-1)).loss
print(f"loss {loss.item():.2f}")
