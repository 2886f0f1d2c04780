"""A dual encoder tuned on one's own pairs, and what it forgot by that.

In reading order: `pair_config` (the run), `interpolation` (weights between before and
after), `pair_scores` (retrieval, paired), `wise_curve` (scores along the way, and which
point is taken), `wise_report` (tables and a picture), `run` (all of it).
"""

from keras_pe.finetuning.pairs.pair_config import PairConfig, pair_config
from keras_pe.finetuning.pairs.run import WiseOptions, finetune_pairs

__all__ = ["PairConfig", "WiseOptions", "finetune_pairs", "pair_config"]
