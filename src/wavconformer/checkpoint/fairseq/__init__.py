"""fairseq's wav2vec2-conformer checkpoints, read without fairseq and without running what a file names.

A fairseq checkpoint is a pickle: the weights under "model", the settings under "cfg" (a dict) or "args" (an
`argparse.Namespace`, in older files), and much that only training needs.

    pickles         the file → plain data and tensors
    weights         the tensors by fairseq's names, and what they tell of the model
    names           fairseq's names → Hugging Face keys
    settings        fairseq's settings, by section
    expressions     the lists that settings write as Python expressions
    architecture    weights and settings → the shape of the model, the one checked against the other
    configuration   all of them → a Hugging Face configuration
    dictionary      dict.ltr.txt or the file's own dictionary → vocabulary
    checkpoint      all of it together: `read_fairseq`

What fairseq computes was read from its source (https://github.com/facebookresearch/fairseq, MIT licence):
fairseq/models/wav2vec/wav2vec2.py, wav2vec2_asr.py, fairseq/modules/conformer_layer.py and
espnet_multihead_attention.py.
"""

from wavconformer.checkpoint.fairseq.checkpoint import FairseqCheckpoint, read_fairseq

__all__ = ["FairseqCheckpoint", "read_fairseq"]
