"""Measurements against rivals and against recorded results; run by hand, never by the tests."""
