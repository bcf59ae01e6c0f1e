"""One step of self-supervised pretraining: draw masks and negatives, predict, compute the loss."""

import numpy as np
import torch

from wavconformer import (
    AutoFeatureExtractor,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerForPreTraining,
    compute_mask_indices,
    load_audio,
    sample_negative_indices,
)
from wavconformer.files import samples

torch.manual_seed(0)
random = np.random.default_rng(0)
feature_extractor = AutoFeatureExtractor.from_pretrained("tiny-en")
model = Wav2Vec2ConformerForPreTraining(Wav2Vec2ConformerConfig.preset("tiny"))

audio = load_audio(samples()[0])
input_values = feature_extractor(audio, sampling_rate=16_000, return_tensors="pt").input_values  # batch of 1

# compute masked indices
batch_size, raw_sequence_length = input_values.shape
sequence_length = model.feature_lengths(raw_sequence_length).item()
mask_time_indices = compute_mask_indices((batch_size, sequence_length), mask_prob=0.2, mask_length=2, generator=random)
sampled_negative_indices = sample_negative_indices(
    features_shape=(batch_size, sequence_length),
    num_negatives=model.config.num_negatives,
    mask_time_indices=mask_time_indices,
    generator=random,
)
mask_time_indices = torch.from_numpy(mask_time_indices)
sampled_negative_indices = torch.from_numpy(sampled_negative_indices)

model.eval()
with torch.no_grad():
    outputs = model(input_values, mask_time_indices=mask_time_indices)

# compute the cosine similarity between predicted and target states; pretraining raises it on masked frames
similarity = torch.cosine_similarity(outputs.projected_states, outputs.projected_quantized_states, dim=-1)
print(f"mean similarity on masked frames {similarity[mask_time_indices].mean():.2f}")

# for the contrastive loss the model is put into train mode
model.train()
outputs = model(input_values, mask_time_indices=mask_time_indices, sampled_negative_indices=sampled_negative_indices)
outputs.loss.backward()
print(f"loss {outputs.loss.item():.1f}, codevector perplexity {outputs.codevector_perplexity.item():.0f}")
