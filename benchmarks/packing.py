"""How full packed rows of questions are, by the size of batches and the length of rows.

Run:      KERAS_BACKEND=torch python -m benchmarks.packing \\
              --data "data/language/{varied_train,scenes_train,words_train}-*.tar"
Expect:   a line a size: rows of a batch, the share of their tokens that documents take
          over eight blocks of batches, and how many documents found no room.

Compiled steps want batches of one shape: it is chosen of the first block, as a run
chooses it, with room for later blocks that hold more. What is empty is that room, the
last row's rest, and rows that no document fills up. Images are not read.
"""

import argparse

from keras_pe import PETokenizer
from keras_pe.data import TarShards
from keras_pe.data.order import ShuffledOrder
from keras_pe.data.question_documents import QuestionReader, drawn_documents
from keras_pe.data.row_shape import BLOCK, packed_block, row_shape
from keras_pe.language import QuestionPrompt

SIZES = ((24, 512), (24, 128), (64, 512), (256, 512))
BLOCKS = 8


def main() -> None:
    """Packs and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="shards of questions")
    parser.add_argument("--questions", type=int, default=3, help="of an image, at most")
    parser.add_argument("--image-tokens", type=int, default=16)
    options = parser.parse_args()
    source = TarShards(options.data, extensions=("json",))
    tokenizer = PETokenizer(64, 6000)
    prompt = QuestionPrompt(tokenizer, options.image_tokens, spell_answers=True)
    print("samples  row length  rows  tokens taken  left out")
    for batch_size, length in SIZES:
        order = ShuffledOrder(len(source), batch_size=batch_size)
        reader = QuestionReader(prompt, options.questions, length)
        shape = row_shape(source, order, reader)
        taken = left_out = 0
        for block in range(BLOCKS):
            documents = [
                one.document
                for number in range(block * BLOCK, (block + 1) * BLOCK)
                for one in drawn_documents(source, order, reader, 0, number)[0]
            ]
            rows = packed_block(documents, shape, reader)
            kept = [document for row in rows[: shape.room] for document in row]
            taken += sum(map(len, kept))
            left_out += len(documents) - len(kept)
        share = taken / (BLOCKS * shape.room * length)
        print(
            f"{batch_size:7} {length:11} {shape.rows:5} {100 * share:11.1f} % "
            f"{left_out:9}",
            flush=True,
        )


if __name__ == "__main__":
    main()
