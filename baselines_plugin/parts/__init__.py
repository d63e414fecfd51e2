"""Losses, samplers and modules that methods share."""
