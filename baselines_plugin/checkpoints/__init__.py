"""State dicts of our methods from official files."""
