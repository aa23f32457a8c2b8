"""SGL: LightGCN with a contrastive loss between two views of the graph."""
