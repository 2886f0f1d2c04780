"""A dual encoder tuned on one's own pairs, and what it forgot by that.

In reading order: `pair_config` (the run), `interpolation` (weights between before and
after), `pair_scores` (retrieval, paired), `wise_curve` (scores along the way, and which
point is taken), `wise_report` (tables and a picture), `run` (all of it).
"""
