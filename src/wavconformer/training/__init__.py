"""Recipes and data of training: what is learned from, in which batches, and with which settings."""
