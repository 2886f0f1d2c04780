"""Sound videos of every kind, and ways to spoil them, for `benchmarks.odd_videos`."""
