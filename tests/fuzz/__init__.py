"""Fuzzing that stays: what a damaged or hostile input may do, tried by the thousand."""
