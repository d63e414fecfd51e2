"""Images to features: device, cache, shards, fingerprints and export."""
