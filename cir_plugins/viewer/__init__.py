"""A page that shows every query of a data set with its rankings under several runs."""
