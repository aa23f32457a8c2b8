"""A chat model that re-ranks what a recommender found."""
