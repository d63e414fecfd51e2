"""Seeds of random numbers, mixed from whole numbers such as a run's seed and an epoch."""

from __future__ import annotations


def mix_seed(*numbers: int) -> int:
    """A seed below 2**62 that depends on all the numbers and their order."""
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        state = (state ^ (number & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
        state = state * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 29
    return state >> 2
