"""Speech to text with a language model: estimate one, decode with it, prefer a name, take the best three."""

import tempfile
from pathlib import Path

import torch

from wavconformer import AutoProcessor, Wav2Vec2ConformerForCTC, Wav2Vec2ProcessorWithLM, beam_decoder, load_audio
from wavconformer.files import samples
from wavconformer.lm.kneser_ney import estimate

plain = AutoProcessor.from_pretrained("tiny-en")
model = Wav2Vec2ConformerForCTC.from_pretrained("tiny-en")
recording = next(path for path in samples() if path.stem == "distance")
with torch.no_grad():
    logits = model(**plain(load_audio(recording), sampling_rate=16_000, return_tensors="pt")).logits
print("greedy   ", plain.batch_decode(logits.argmax(-1))[0])

text = ["HOW LONG IS THE WAY FROM PARIS TO LONDON", "HOW IS THE WEATHER IN MADRID", "FROM MADRID TO ROME"]
lm = estimate((sentence.split() for sentence in text), order=3).model  # of more text: `wavconformer lm build`
processor = Wav2Vec2ProcessorWithLM(plain.feature_extractor, plain.tokenizer, beam_decoder(plain.tokenizer, lm))

output = processor.decode(logits[0], output_word_offsets=True)
print("with LM  ", output.text)
print("Madrid   ", output.word_offsets[6])
print("hot word ", processor.decode(logits[0], hotwords=["MADGRID"], hotword_weight=30.0).text)
print("best three", processor.decode(logits[0], n_best=3, beam_prune_logp=-30.0).text)

with tempfile.TemporaryDirectory() as folder:
    processor.save_pretrained(folder)  # alphabet.json and language_model/, as pyctcdecode has them
    print("saved    ", sorted(path.name for path in Path(folder, "language_model").iterdir()))
    assert type(AutoProcessor.from_pretrained(folder)) is Wav2Vec2ProcessorWithLM
