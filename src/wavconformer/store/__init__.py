"""Voices that are kept: names and vectors in a file, found by exact search, or in LanceDB for millions of them."""

from wavconformer.store.backend import Backend, Enrolment, Voice, open_backend
from wavconformer.store.place import default_place

__all__ = ["Backend", "Enrolment", "Voice", "default_place", "open_backend"]
