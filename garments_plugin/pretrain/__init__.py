"""Makes the small weights of ``tiny_blip2`` and ``tiny_clip`` from drawn garments."""
