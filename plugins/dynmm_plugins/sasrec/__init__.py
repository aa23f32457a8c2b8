"""SASRec, a self-attentive sequential recommender."""
