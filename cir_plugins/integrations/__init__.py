"""Any sampler in pytorch-metric-learning, sentence-transformers and open_clip."""
