"""Sound into samples: decoding, mixing down and resampling, as a stream of blocks or whole; speech, and windows."""

from wavconformer.audio.decode import SAMPLE_RATE, AudioSource, load_audio, stream_audio
from wavconformer.audio.recording import AudioFile, AudioInfo, AudioWarning, probe

__all__ = [
    "SAMPLE_RATE",
    "AudioFile",
    "AudioInfo",
    "AudioSource",
    "AudioWarning",
    "load_audio",
    "probe",
    "stream_audio",
]
