"""Training: recipes, batches, and the loop that pretrains and fine-tunes."""
