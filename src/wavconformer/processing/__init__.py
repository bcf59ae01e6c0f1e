"""Audio and text to model inputs, and model outputs to text."""

from wavconformer.processing.batch import BatchEncoding, BatchFeature
from wavconformer.processing.collapse import Runs, collapse
from wavconformer.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wavconformer.processing.processor import Wav2Vec2Processor
from wavconformer.processing.reading import Wav2Vec2CTCTokenizerOutput
from wavconformer.processing.splitting import AddedToken
from wavconformer.processing.tokenizer import Wav2Vec2CTCTokenizer

__all__ = [
    "AddedToken",
    "BatchEncoding",
    "BatchFeature",
    "Runs",
    "Wav2Vec2CTCTokenizer",
    "Wav2Vec2CTCTokenizerOutput",
    "Wav2Vec2FeatureExtractor",
    "Wav2Vec2Processor",
    "collapse",
]
