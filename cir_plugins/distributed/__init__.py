"""Processes that train together: rendezvous and collectives."""
