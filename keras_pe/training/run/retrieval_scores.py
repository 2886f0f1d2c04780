"""How well a model that trains finds a pair's other half, images' or clips'."""

from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_pe.data import SequentialOrder, batches, default_caption, image_text_dataset
from keras_pe.data.augmentation import WholeImage
from keras_pe.data.clip_frames import ClipFrames
from keras_pe.data.image_text import Captions
from keras_pe.data.pair_table import PairTable
from keras_pe.data.tar_shards import open_shards
from keras_pe.evaluation.frame_orders import BLIND, frame_orders, mean_of_frames
from keras_pe.evaluation.retrieval import retrieval_recall
from keras_pe.models.compiled import no_gradient
from keras_pe.models.core import PECore
from keras_pe.preprocessing.tokenizer import PETokenizer

NUM_THREADS = 2  # that prepare batches where no processes do
Pairs = str | PairTable  # a string stands for shards


def opened_pairs(data: Pairs) -> Any:
    """Returns samples by number: a table itself, or opened shards."""
    return open_shards(data) if isinstance(data, str) else data


# COCO's test set has 5,000 images, Flickr's 1,000.
MAX_PAIRS = 5000


class PairEmbeddings(NamedTuple):
    """Pairs as a model sees them.

    Attributes:
        images: float32 `(pairs, channels)`, unit length.
        texts: likewise.
        captions: one hashable a pair; equal ones match each other.
    """

    images: np.ndarray
    texts: np.ndarray
    captions: list[bytes]


class RetrievalScores:
    """Recall of a model's image-text retrieval.

    Captions of equal token ids count as each other's matches. A sample that can't be
    read is replaced by a random other one, up to a share of them.

    Args:
        data: pattern of the shards, or a table; the first 5,000 pairs are used.
        model: the model that trains; images have its own size.
        tokenizer: its tokenizer.
        batch_size: pairs at once.
        captions: reads the caption of a sample.
        max_bad_share: share of bad samples above which it is an error.
        num_frames: frames of a clip, where the pairs are clips; None for images.

    Attributes:
        by_frames: of clips, the scores of the last call by what they are computed of:
            see `frame_orders`.
    """

    def __init__(
        self,
        data: Pairs,
        model: PECore,
        tokenizer: PETokenizer,
        batch_size: int = 128,
        captions: Captions = default_caption,
        max_bad_share: float = 0.01,
        num_frames: int | None = None,
    ) -> None:
        self.model, self.num_frames = model, num_frames
        self.by_frames: dict[str, dict[str, float]] = {}
        whole: Any = WholeImage(model.vision_encoder.image_size)
        source = opened_pairs(data)
        self.num_pairs = min(len(source), MAX_PAIRS)
        batch_size = min(batch_size, self.num_pairs)
        self.dataset = image_text_dataset(
            source,
            SequentialOrder(len(source), batch_size),
            transform=whole if num_frames is None else ClipFrames(whole, num_frames),
            tokenizer=tokenizer,
            captions=captions,
            max_bad_share=max_bad_share,
            num_batches=-(-self.num_pairs // batch_size),
        )

    def __call__(self) -> dict[str, float]:
        """Returns recall at 1, 5 and 10 in both directions.

        Of clips it is that of the mean of their frames, and beside it, with
        `first_frame_` before the name, that of their first frames.
        """
        images, texts, captions = self._embeddings()
        if self.num_frames is None:
            return retrieval_recall(images, texts, captions)
        self.by_frames = {
            name: retrieval_recall(mean_of_frames(some), texts, captions)
            for name, some in frame_orders(images)
        }
        first = self.by_frames["first frame"]
        return {
            **self.by_frames["all frames"],
            **{f"first_frame_{name}": value for name, value in first.items()},
        }

    def table(self) -> str:
        """Returns the scores of the last call side by side; "" where there are none."""
        if not self.by_frames:
            return ""
        names = {"all frames": f"{self.num_frames} frames"}
        titles = [names.get(name, name) for name in self.by_frames]
        lines = ["".join([f"{'retrieval':28}", *(f"{t:>13}" for t in titles)])]
        for score in self.by_frames["all frames"]:
            values = [scores[score] for scores in self.by_frames.values()]
            lines.append("".join([f"  {score:26}", *(f"{v:>13.4f}" for v in values)]))
        return "\n".join([*lines, BLIND])

    def embeddings(self) -> PairEmbeddings:
        """Returns the pairs as the model sees them now."""
        found = self._embeddings()
        if self.num_frames is None:
            return found
        return found._replace(images=mean_of_frames(found.images))

    def _embeddings(self) -> PairEmbeddings:
        """Returns them, of clips those of each frame: `(pairs, frames, channels)`."""
        images, texts, captions = [], [], []
        with batches(self.dataset, num_threads=NUM_THREADS) as loader, no_gradient():
            for batch in loader:
                images.append(self._encoded(batch["images"]))
                embeddings = self.model.encode_text(batch["token_ids"])
                texts.append(ops.convert_to_numpy(embeddings).astype("float32"))
                captions += [row.tobytes() for row in batch["token_ids"]]
        # The last batch begins again with the first samples.
        kept = slice(self.num_pairs)
        return PairEmbeddings(
            np.concatenate(images)[kept], np.concatenate(texts)[kept], captions[kept]
        )

    def _encoded(self, images: Any) -> np.ndarray:
        """Returns embeddings `(pairs, channels)`, or `(pairs, frames, channels)`."""
        rows = len(images)
        if self.num_frames is not None:
            images = np.reshape(images, (-1, *images.shape[2:]))
        found = ops.convert_to_numpy(self.model.encode_image(images)).astype("float32")
        if self.num_frames is None:
            return found
        return found.reshape(rows, self.num_frames, -1)
