"""Parts of `recipes.validate_data`, in reading order.

`checks` (what may be wrong, and how often), `image_header`, `rows` (a shard to rows),
`pipeline` (Beam: rows to statistics), `constraints` (statistics and schema to
anomalies), `histograms`, `report`. Only `pipeline` and `validate_data` itself need
TensorFlow Data Validation.
"""
