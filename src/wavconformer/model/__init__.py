"""The mathematics of the Wav2Vec2-Conformer family, as torch modules.

It knows torch and the configuration alone; files, audio and text are other rooms' business. Attribute names are
the keys of the published checkpoints. Everything is time-major with channels last, from the first convolution on.

One legend of dimensions for the whole package:

    B batch             T frames           H heads            L label length       E entries per group
    S samples           D hidden size      K head size        N negatives
    C conv channels     F feed-forward     V vocabulary       G codebook groups
"""
