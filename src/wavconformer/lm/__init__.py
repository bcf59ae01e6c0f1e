"""N-gram language models: read, queried, estimated and written, with numpy alone."""

from wavconformer.lm.interface import LanguageModel, read_lm

__all__ = ["LanguageModel", "read_lm"]
