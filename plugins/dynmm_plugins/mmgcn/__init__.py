"""MMGCN: a graph convolution for each modality."""
