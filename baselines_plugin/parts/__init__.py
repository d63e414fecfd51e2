"""Losses, samplers, composition modules and training stages of the methods."""
