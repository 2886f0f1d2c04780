python -m recipes.finetune --pairs pairs.csv --initial-weights pe_core_emoji_patch8_64 \
    --epochs 1 --output pe --quiet
