"""The door of the reader of sparse matrices."""

from __future__ import annotations

from dynmm_framework.hookspecs import hookimpl
from dynmm_framework.specs import ComponentSpec


@hookimpl
def dynmm_register_datasets() -> list[ComponentSpec]:
    """Registers ``sparse_matrix``."""
    return [
        ComponentSpec(
            name="sparse_matrix",
            target="dynmm_plugins.sparse_matrix.reader:SparseMatrix",
            config="dynmm_plugins.sparse_matrix.config:SparseMatrixConfig",
            summary="Users × items as scipy's sparse .npz, as multimodal data sets are published",
        )
    ]
