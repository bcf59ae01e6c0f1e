"""Transcripts as files: text, JSON, subtitles, tables, TextGrid, and a page to look at and listen to."""

from wavconformer.writers.formats import FORMATS, render, save_transcript

__all__ = ["FORMATS", "render", "save_transcript"]
