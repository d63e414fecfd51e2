"""Negatives from scores or embeddings: blocks, the draw, and numbers about them."""
