"""Clips to captioned pairs: the data engine as a program, on one machine or on Beam."""
