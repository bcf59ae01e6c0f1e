"""The exceptions that callers can tell apart. Plain misuse of an argument stays ValueError or TypeError."""


class WavConformerError(Exception):
    """Base of the family: whatever wavconformer refuses on account of a file, a checkpoint or a setting."""


class AudioError(WavConformerError):
    """A recording that can't be opened, decoded or used."""


class CheckpointError(WavConformerError):
    """A model folder, or a file in it, that is missing, broken or doesn't fit."""


class ConfigError(WavConformerError, ValueError):
    """A configuration whose values contradict each other or can't be used."""


class DataError(WavConformerError):
    """A transcript, manifest or other input data that can't be used."""


class TrainingError(WavConformerError):
    """A training run that can't go on; what it has saved stays."""
