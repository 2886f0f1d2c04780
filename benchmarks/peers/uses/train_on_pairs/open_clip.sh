python -m open_clip_train.main --train-data pairs.csv --csv-separator , --csv-img-key path \
    --csv-caption-key caption --model ViT-S-32-alt --batch-size 8 --epochs 1 --workers 0 \
    --device cpu --logs open_clip
