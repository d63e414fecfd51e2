"""Embeddings, scores, ranks, measures and submissions of a split."""
