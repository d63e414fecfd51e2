"""Training of the small weights of ``tiny_blip2`` and ``tiny_clip`` on drawn garments."""
