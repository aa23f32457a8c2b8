"""S3-Rec: a sequential recommender pre-trained on item attributes, items and segments."""
