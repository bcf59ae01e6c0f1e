"""One answer for an utterance: the shipped keyword model's, its loss; then a new head with several labels at once."""

import torch

from wavconformer import AutoFeatureExtractor, Wav2Vec2ConformerForSequenceClassification, load_audio
from wavconformer.files import samples

feature_extractor = AutoFeatureExtractor.from_pretrained("keywords")
model = Wav2Vec2ConformerForSequenceClassification.from_pretrained("keywords")

audio = load_audio(next(path for path in samples("keywords") if path.stem == "seven"))
inputs = feature_extractor(audio, sampling_rate=16_000, return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits
predicted_class_id = logits.argmax(-1).item()
predicted_label = model.config.id2label[predicted_class_id]
print(predicted_label)

# the loss, for a label
target_label = "seven"
inputs["labels"] = torch.tensor([model.config.label2id[target_label]])
loss = model(**inputs).loss
print(f"single label: loss {loss.item():.2f}")

# Several labels at once. The head is new and says so in a warning: train it before you believe it.
multi = Wav2Vec2ConformerForSequenceClassification.from_pretrained(
    "tiny-en", num_labels=3, problem_type="multi_label_classification"
)
with torch.no_grad():
    logits = multi(inputs.input_values).logits
predicted_class_ids = torch.arange(logits.shape[-1])[torch.sigmoid(logits).squeeze(0) > 0.5]
labels = torch.nn.functional.one_hot(torch.tensor([0, 2]), num_classes=3).sum(0, keepdim=True).float()
loss = multi(inputs.input_values, labels=labels).loss
print(f"several labels: {predicted_class_ids.tolist()}, loss {loss.item():.2f}")
