"""Who speaks: compare two recordings by the cosine of their x-vectors."""

import torch

from wavconformer import AutoFeatureExtractor, Wav2Vec2ConformerForXVector, load_audio
from wavconformer.files import samples

# The speaker model that ships along: it knows synthetic voices alone. wavconformer.embed() does all of this, and more.
feature_extractor = AutoFeatureExtractor.from_pretrained("speakers")
model = Wav2Vec2ConformerForXVector.from_pretrained("speakers")

inputs = feature_extractor(
    [load_audio(path) for path in samples()[:2]],
    sampling_rate=16_000,
    return_tensors="pt",
    padding=True,
    return_attention_mask=True,
)
with torch.no_grad():
    embeddings = model(**inputs).embeddings
embeddings = torch.nn.functional.normalize(embeddings, dim=-1)

# the resulting embeddings can be used for cosine similarity-based retrieval
similarity = torch.nn.functional.cosine_similarity(embeddings[0], embeddings[1], dim=-1)
threshold = 0.7  # the optimal threshold depends on the data
print(f"similarity {similarity:.2f}: {'the same speaker' if similarity >= threshold else 'not the same speaker'}")
