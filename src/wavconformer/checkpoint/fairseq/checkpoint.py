"""A fairseq checkpoint in Hugging Face terms."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from wavconformer.checkpoint.fairseq.configuration import configuration, lost_settings
from wavconformer.checkpoint.fairseq.dictionary import find_vocabulary
from wavconformer.checkpoint.fairseq.names import renamed
from wavconformer.checkpoint.fairseq.pickles import read_pickle
from wavconformer.checkpoint.fairseq.settings import Sections
from wavconformer.checkpoint.fairseq.weights import Task, Weights
from wavconformer.errors import CheckpointError


@dataclass(frozen=True)
class FairseqCheckpoint:
    """A fairseq checkpoint in Hugging Face terms: what goes into a folder's files.

    state_dict: the weights under the keys of `Wav2Vec2ConformerForCTC` or `…ForPreTraining`, in the file's dtype.
        They are mapped from the file, so they cost no memory until they are used, and the file must stay in place.
    config: keyword arguments of `Wav2Vec2ConformerConfig`; what fairseq doesn't say is left to its defaults.
    task: "ctc" for a model fine-tuned with a letter head, "pretraining" for one with its quantizer.
    vocabulary: token → row of the head; None for pretraining.
    do_normalize: whether the model was trained on audio of zero mean and unit variance.
    sampling_rate: in Hz, of the audio that the model was trained on.
    left_over: names of weights in the file that have no place in the model, sorted.
    lost_settings: settings, as "name=value", that shaped the training and have no word in the configuration.
    """

    state_dict: dict[str, Tensor] = field(repr=False)
    config: dict[str, Any]
    task: Task
    vocabulary: dict[str, int] | None
    do_normalize: bool
    sampling_rate: int
    left_over: tuple[str, ...]
    lost_settings: tuple[str, ...]


def read_fairseq(
    path: str | os.PathLike[str],
    dictionary: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> FairseqCheckpoint:
    """Reads a wav2vec2-conformer checkpoint of fairseq: pretrained, or fine-tuned with CTC.

    path: the checkpoint, a `.pt` file as fairseq saves it.
    dictionary: fairseq's dictionary of a CTC model, `dict.ltr.txt`. Without it: the dictionary that newer files
        hold themselves, or else `dict.<labels>.txt` beside the checkpoint.
    settings: fairseq settings by name, which stand over the file's own. A file without settings needs them.

    Raises CheckpointError where the file can't be read or is something else, where weights are missing or
    contradict the settings, where the model computes what a Wav2Vec2-Conformer can't, and where a CTC model has
    no dictionary or one of another size than its head. Nothing that the file names is imported or called.

    What becomes of fairseq's settings. Those of the architecture are the pretrained model's, in a fine-tuned
    file under `w2v_args`; those of the training are the fine-tuned model's, if it is one.

    Architecture, told by the weights and checked against the settings:
        encoder_embed_dim               hidden_size
        encoder_layers                  num_hidden_layers
        encoder_ffn_embed_dim           intermediate_size
        encoder_attention_heads         num_attention_heads
        extractor_mode                  feat_extract_norm: default "group", layer_norm "layer"
        conv_bias                       conv_bias
        conv_feature_layers             conv_dim, conv_kernel, and conv_stride, which the weights can't tell
        depthwise_conv_kernel_size      conv_depthwise_kernel_size
        conv_pos, conv_pos_groups       num_conv_pos_embeddings, num_conv_pos_embedding_groups
        attn_type, pos_enc_type         position_embeddings_type: espnet with rel_pos "relative", espnet with rope
                                        "rotary"; rope without espnet, which fairseq builds without positions,
                                        None; abs adds convolutional positions and is refused
        (swish, whatever activation_fn) hidden_act "swish"
        layer_norm_first                must be true: the encoder has its norm at the end
    Dropout:
        dropout                         hidden_dropout, attention_dropout, activation_dropout and
                                        conformer_conv_dropout: the Conformer block reads no other
        attention_dropout, activation_dropout   nothing, for that reason
        dropout_input                   feat_proj_dropout
        dropout_features                feat_quantizer_dropout
        final_dropout                   final_dropout
        encoder_layerdrop               layerdrop; in a fine-tuned file: layerdrop
    Masking:
        apply_mask                      apply_spec_augment; pretraining always masks
        mask_prob, mask_length          mask_time_prob, mask_time_length; mask_time_min_masks is 2
        mask_channel_prob, mask_channel_length  mask_feature_prob, mask_feature_length; mask_feature_min_masks is 0
    Pretraining:
        latent_vars, latent_groups      num_codevectors_per_group, num_codevector_groups
        latent_dim                      codevector_dim; 0 stands for final_dim
        final_dim                       proj_codevector_dim; 0 stands for encoder_embed_dim
        logit_temp, num_negatives       contrastive_logits_temperature, num_negatives
        loss_weights                    diversity_loss_weight: the first of them
    Fine-tuning:
        zero_infinity                   ctc_zero_infinity; ctc_loss_reduction is "sum", as in fairseq's criterion
        blank_weight                    must be 0
    Task:
        normalize, sample_rate          do_normalize, sampling_rate
        labels                          the name of the dictionary beside the checkpoint
    """
    path = Path(path)
    content = read_pickle(path)
    weights = Weights.find(path, content)
    sections = Sections.find(path, content, weights.task, settings or {})
    if weights.task == "pretraining" and dictionary is not None:
        raise CheckpointError(f"{path} is a pretraining checkpoint without a CTC head: it takes no dictionary.")
    config = configuration(weights, sections)
    state_dict, left_over = renamed(weights, config["position_embeddings_type"])
    vocabulary = None
    if weights.task == "ctc":
        vocabulary = find_vocabulary(path, content, dictionary, sections.task, weights.rows)
    return FairseqCheckpoint(
        state_dict=state_dict,
        config=config,
        task=weights.task,
        vocabulary=vocabulary,
        do_normalize=sections.task.get("normalize", False),
        sampling_rate=sections.task.get("sample_rate", 16_000),
        left_over=left_over,
        lost_settings=lost_settings(weights.task, sections),
    )
