"""Corpora: whatever they come as, examined, prepared, and read utterance by utterance."""
