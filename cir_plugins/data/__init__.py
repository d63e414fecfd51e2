"""Splits, captions, images, training tables and batches; readers of data sets."""
