"""Settings, configuration files, and the plan of a command."""
