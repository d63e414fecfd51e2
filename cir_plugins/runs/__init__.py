"""Run folders: executed, opened again, warm-started, converted."""
