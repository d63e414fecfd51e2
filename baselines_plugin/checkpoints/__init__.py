"""Official files, read as states of the methods here."""
