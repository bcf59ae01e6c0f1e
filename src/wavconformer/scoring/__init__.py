"""Scores of outputs against the truth: words, classes, speaker verification, diarization, and their intervals."""
