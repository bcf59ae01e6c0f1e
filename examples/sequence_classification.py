"""One answer for an utterance: a classification head on the shipped backbone, its answer and its loss."""

import torch

from wavconformer import AutoFeatureExtractor, Wav2Vec2ConformerForSequenceClassification, load_audio
from wavconformer.files import samples

# The head is new (the shipped checkpoint has none) and says so in a warning: train it before you believe it.
feature_extractor = AutoFeatureExtractor.from_pretrained("tiny-en")
model = Wav2Vec2ConformerForSequenceClassification.from_pretrained(
    "tiny-en", id2label={0: "command", 1: "question", 2: "number"}
)

audio = load_audio(samples()[0])
inputs = feature_extractor(audio, sampling_rate=16_000, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits
predicted_class_id = logits.argmax().item()
print(model.config.id2label[predicted_class_id])

# the loss, for a label
inputs["labels"] = torch.tensor([model.config.label2id["command"]])
loss = model(**inputs).loss
print(f"single label: loss {loss.item():.2f}")

# several labels at once
multi = Wav2Vec2ConformerForSequenceClassification.from_pretrained(
    "tiny-en", num_labels=3, problem_type="multi_label_classification"
)
with torch.no_grad():
    logits = multi(inputs.input_values).logits
predicted_class_ids = torch.arange(logits.shape[-1])[torch.sigmoid(logits).squeeze(0) > 0.5]
labels = torch.nn.functional.one_hot(torch.tensor([0, 2]), num_classes=3).sum(0, keepdim=True).float()
loss = multi(inputs.input_values, labels=labels).loss
print(f"several labels: {predicted_class_ids.tolist()}, loss {loss.item():.2f}")
