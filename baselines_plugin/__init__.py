"""Ten published baselines, one file each, on the host's hooks."""
