"""What plugins offer: the hooks, the registry of components, their options, and a scaffold."""
