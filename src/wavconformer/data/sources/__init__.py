"""Readers of what corpora come as, each a stream of utterances."""
