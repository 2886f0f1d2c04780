"""Retrieval on validation shards, for use during training."""

import numpy as np
from keras import ops

from keras_pe.data import (
    SequentialOrder,
    batches,
    default_caption,
    image_text_dataset,
)
from keras_pe.data.augmentation import WholePicture
from keras_pe.data.image_text import Captions
from keras_pe.data.tar_shards import open_shards
from keras_pe.evaluation.retrieval import retrieval_recall
from keras_pe.models.compiled import no_gradient
from keras_pe.models.core import PECore
from keras_pe.preprocessing.tokenizer import PETokenizer

NUM_THREADS = 2
# COCO's test set has 5,000 pictures, Flickr's 1,000.
MAX_PAIRS = 5000


class RetrievalScores:
    """Recall of a model's image-text retrieval.

    Captions of equal token ids count as each other's matches. A sample that can't be
    read is replaced by a random other one, up to a share of them.

    Args:
        data: pattern of the shards; their first 5,000 pairs are used.
        model: the model that trains; pictures have its own size.
        tokenizer: its tokenizer.
        batch_size: pairs at once.
        captions: reads the caption of a sample.
        max_bad_share: share of bad samples above which it is an error.
    """

    def __init__(
        self,
        data: str,
        model: PECore,
        tokenizer: PETokenizer,
        batch_size: int = 128,
        captions: Captions = default_caption,
        max_bad_share: float = 0.01,
    ) -> None:
        self.model = model
        source = open_shards(data)
        self.num_pairs = min(len(source), MAX_PAIRS)
        batch_size = min(batch_size, self.num_pairs)
        self.dataset = image_text_dataset(
            source,
            SequentialOrder(len(source), batch_size),
            transform=WholePicture(model.vision_encoder.image_size),
            tokenizer=tokenizer,
            captions=captions,
            max_bad_share=max_bad_share,
            num_batches=-(-self.num_pairs // batch_size),
        )

    def __call__(self) -> dict[str, float]:
        """Returns recall at 1, 5 and 10 in both directions."""
        images, texts, captions = [], [], []
        with batches(self.dataset, num_threads=NUM_THREADS) as loader, no_gradient():
            for batch in loader:
                embeddings = self.model.encode_image(batch["images"])
                images.append(ops.convert_to_numpy(embeddings).astype("float32"))
                embeddings = self.model.encode_text(batch["token_ids"])
                texts.append(ops.convert_to_numpy(embeddings).astype("float32"))
                captions += [row.tobytes() for row in batch["token_ids"]]
        # The last batch begins again with the first samples.
        kept = slice(self.num_pairs)
        return retrieval_recall(
            np.concatenate(images)[kept], np.concatenate(texts)[kept], captions[kept]
        )
