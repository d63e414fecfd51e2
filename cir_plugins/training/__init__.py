"""The training loop: step, loader, optimiser, checkpoints."""
