from wavconformer.audio import AudioWarning as AudioWarning
from wavconformer.audio import load_audio as load_audio
from wavconformer.audio import stream_audio as stream_audio
from wavconformer.audio.windows import Cutting as Cutting
from wavconformer.auto import AutoConfig as AutoConfig
from wavconformer.auto import AutoFeatureExtractor as AutoFeatureExtractor
from wavconformer.auto import AutoModel as AutoModel
from wavconformer.auto import AutoModelForAudioClassification as AutoModelForAudioClassification
from wavconformer.auto import AutoModelForAudioFrameClassification as AutoModelForAudioFrameClassification
from wavconformer.auto import AutoModelForAudioXVector as AutoModelForAudioXVector
from wavconformer.auto import AutoModelForCTC as AutoModelForCTC
from wavconformer.auto import AutoModelForPreTraining as AutoModelForPreTraining
from wavconformer.auto import AutoProcessor as AutoProcessor
from wavconformer.auto import AutoTokenizer as AutoTokenizer
from wavconformer.checkpoint.models import (
    Wav2Vec2ConformerForAudioFrameClassification as Wav2Vec2ConformerForAudioFrameClassification,
)
from wavconformer.checkpoint.models import Wav2Vec2ConformerForCTC as Wav2Vec2ConformerForCTC
from wavconformer.checkpoint.models import Wav2Vec2ConformerForPreTraining as Wav2Vec2ConformerForPreTraining
from wavconformer.checkpoint.models import (
    Wav2Vec2ConformerForSequenceClassification as Wav2Vec2ConformerForSequenceClassification,
)
from wavconformer.checkpoint.models import Wav2Vec2ConformerForXVector as Wav2Vec2ConformerForXVector
from wavconformer.checkpoint.models import Wav2Vec2ConformerModel as Wav2Vec2ConformerModel
from wavconformer.checkpoint.models import Wav2Vec2ConformerPreTrainedModel as Wav2Vec2ConformerPreTrainedModel
from wavconformer.config import Wav2Vec2ConformerConfig as Wav2Vec2ConformerConfig
from wavconformer.decoding.activity import SpeakerLabels as SpeakerLabels
from wavconformer.decoding.alignment import Alignment as Alignment
from wavconformer.decoding.beam import BeamDecoder as BeamDecoder
from wavconformer.decoding.beam import BeamSettings as BeamSettings
from wavconformer.decoding.beam import Hypothesis as Hypothesis
from wavconformer.decoding.diarization import Diarization as Diarization
from wavconformer.decoding.diarization import by_speaker as by_speaker
from wavconformer.decoding.processor_with_lm import Wav2Vec2DecoderWithLMOutput as Wav2Vec2DecoderWithLMOutput
from wavconformer.decoding.processor_with_lm import Wav2Vec2ProcessorWithLM as Wav2Vec2ProcessorWithLM
from wavconformer.decoding.processor_with_lm import beam_decoder as beam_decoder
from wavconformer.decoding.transcript import Segment as Segment
from wavconformer.decoding.transcript import SpeakerTurn as SpeakerTurn
from wavconformer.decoding.transcript import Transcript as Transcript
from wavconformer.decoding.words import Word as Word
from wavconformer.errors import AudioError as AudioError
from wavconformer.errors import CheckpointError as CheckpointError
from wavconformer.errors import ConfigError as ConfigError
from wavconformer.errors import DataError as DataError
from wavconformer.errors import TrainingError as TrainingError
from wavconformer.errors import WavConformerError as WavConformerError
from wavconformer.lm import read_lm as read_lm
from wavconformer.model.masking import _compute_mask_indices as _compute_mask_indices
from wavconformer.model.masking import _sample_negative_indices as _sample_negative_indices
from wavconformer.model.masking import compute_mask_indices as compute_mask_indices
from wavconformer.model.masking import sample_negative_indices as sample_negative_indices
from wavconformer.model.outputs import CausalLMOutput as CausalLMOutput
from wavconformer.model.outputs import SequenceClassifierOutput as SequenceClassifierOutput
from wavconformer.model.outputs import TokenClassifierOutput as TokenClassifierOutput
from wavconformer.model.outputs import Wav2Vec2ConformerBaseModelOutput as Wav2Vec2ConformerBaseModelOutput
from wavconformer.model.outputs import Wav2Vec2ConformerForPreTrainingOutput as Wav2Vec2ConformerForPreTrainingOutput
from wavconformer.model.outputs import XVectorOutput as XVectorOutput
from wavconformer.processing import BatchEncoding as BatchEncoding
from wavconformer.processing import BatchFeature as BatchFeature
from wavconformer.processing import Wav2Vec2CTCTokenizer as Wav2Vec2CTCTokenizer
from wavconformer.processing import Wav2Vec2CTCTokenizerOutput as Wav2Vec2CTCTokenizerOutput
from wavconformer.processing import Wav2Vec2FeatureExtractor as Wav2Vec2FeatureExtractor
from wavconformer.processing import Wav2Vec2Processor as Wav2Vec2Processor
from wavconformer.tasks.align import align as align
from wavconformer.tasks.diarize import Diarizer as Diarizer
from wavconformer.tasks.diarize import diarize as diarize
from wavconformer.tasks.embedding import Embedder as Embedder
from wavconformer.tasks.embedding import embed as embed
from wavconformer.tasks.speakers import Identification as Identification
from wavconformer.tasks.speakers import SpeakerStore as SpeakerStore
from wavconformer.tasks.transcribe import SegmentStream as SegmentStream
from wavconformer.tasks.transcribe import Transcriber as Transcriber
from wavconformer.tasks.transcribe import load_model as load_model
from wavconformer.tasks.transcribe import transcribe as transcribe
from wavconformer.tasks.verification import Verification as Verification
from wavconformer.tasks.verification import calibrate as calibrate
from wavconformer.tasks.verification import verify as verify
from wavconformer.training.finetune import finetune as finetune
from wavconformer.training.pretrain import pretrain as pretrain
from wavconformer.training.recipe import Recipe as Recipe
from wavconformer.training.recipe import read_recipe as read_recipe
from wavconformer.writers import save_transcript as save_transcript

__version__: str
