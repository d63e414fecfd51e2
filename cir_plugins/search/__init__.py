"""Search of a user's own pictures: an index of them, filters on their metadata, hits."""
