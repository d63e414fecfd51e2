"""BLIP and ResNets with text encoders."""
