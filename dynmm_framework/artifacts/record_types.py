"""What a registry record holds: one reviewed YAML file for each thing that it describes.

A dataset's record, for instance::

    version: 1
    kind: dataset
    name: movielens_100k
    summary: 100,000 ratings of 1,682 films by 943 users
    licence: research use, no redistribution
    files:
      ml-100k.inter: {sha256: 0123…, bytes: 1979230}
    sources:
      - pypi: {wheel: recbole==1.2.1, folder: recbole/dataset_example/ml-100k}
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from dynmm_framework.artifacts.digests import FileDigest, FileName, Sha256, matching
from dynmm_framework.config.blocks import Block
from dynmm_framework.specs import Kind, fold

RecordKind = Literal["dataset", "model", "component", "pipeline"]
RECORD_KINDS: tuple[RecordKind, ...] = get_args(RecordKind)


def _check_record_name(name: str) -> str:
    if name != fold(name):
        raise ValueError(f"write it as {fold(name) or 'lower_snake'!r}: lower case, digits, '_'")
    return name


def _check_address(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ValueError(f"not an address: {error}") from None
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", parts.scheme) or not parts.netloc:
        raise ValueError("write it as scheme://host/path")
    if "@" in parts.netloc:
        raise ValueError("an address holds no user name and no password")
    return url


Name = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_check_record_name)]
Text = Annotated[str, Field(min_length=1)]
Address = Annotated[str, AfterValidator(_check_address)]
Folder = Annotated[str, matching(r"[^\\:]*", "a path with forward slashes")]
Requirement = Annotated[
    str,
    matching(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_]*", "of the form name==1.0"),
]
Distribution = Annotated[str, matching(r"[A-Za-z0-9][A-Za-z0-9._-]*", "a distribution's name")]
Platform = Annotated[str, matching(r"[a-z0-9][a-z0-9_]*", "a platform tag: manylinux_2_34_x86_64")]
Repository = Annotated[str, matching(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", "owner/name")]
PIPELINE_SUFFIXES = (".pipeline.yaml", ".pipeline.yml")
"""How the pipelines are called that lie beside their records."""
PipelineFile = Annotated[
    FileName, matching(r".+\.pipeline\.ya?ml", "a file whose name ends with .pipeline.yaml")
]
Files: TypeAlias = dict[FileName, FileDigest]


class Paper(Block):
    """A publication."""

    title: Text
    authors: Annotated[list[Text], Field(min_length=1)]
    venue: Text
    year: Annotated[int, Field(ge=1900, le=2100)]
    url: Address | None = None


class Archive(Block):
    """An archive that holds the files."""

    format: Literal["zip", "tar"]
    """``tar`` may be compressed."""
    sha256: Sha256
    """Digest of the archive itself; it is checked before anything is unpacked."""
    bytes: Annotated[int, Field(ge=1)]
    """Size of the archive itself."""
    folder: Folder = ""
    """Folder inside the archive that holds the files."""


class Wheel(Block):
    """A wheel on the Python package index; downloaded, never installed."""

    wheel: Requirement
    """``name==version``."""
    folder: Folder = ""
    """Folder inside the wheel that holds the files."""
    platform: Platform | None = None
    """Take the wheel for this platform, whatever this machine is; its files are data."""
    sha256: Sha256 | None = None
    """Digest of the wheel itself."""
    bytes: Annotated[int, Field(ge=1)] | None = None
    """Size of the wheel itself, for the progress bar."""


class Hub(Block):
    """A repository of the Hugging Face hub."""

    repo: Repository
    """``owner/name``."""
    revision: Text
    """Commit or tag; a branch would change under the digests."""
    folder: Folder = ""
    """Folder inside the repository that holds the files."""


class _Source(Block):
    files: Files = Field(default={})
    """What this source delivers, if that is not what the record's own ``files`` say."""


class UrlSource(_Source):
    """An address: one file, an archive, or, with a ``/`` at its end, a folder of files.

    ``http`` and ``https`` are built in; other schemes are offered to plugins
    (``dynmm_fetch_artifact``).
    """

    url: Address
    archive: Archive | None = None

    @property
    def label(self) -> str:
        return self.url


class PypiSource(_Source):
    """Members of a wheel on the Python package index."""

    pypi: Wheel

    @property
    def label(self) -> str:
        return f"wheel {self.pypi.wheel}"


class HubSource(_Source):
    """Files of a repository of the Hugging Face hub."""

    hub: Hub

    @property
    def label(self) -> str:
        return f"hub {self.hub.repo}@{self.hub.revision}"


def _source_type(value: Any) -> str | None:
    keys = value if isinstance(value, dict) else vars(value) if isinstance(value, Block) else ()
    named = [key for key in ("url", "pypi", "hub") if key in keys]
    return named[0] if len(named) == 1 else None


Source = Annotated[
    Annotated[UrlSource, Tag("url")]
    | Annotated[PypiSource, Tag("pypi")]
    | Annotated[HubSource, Tag("hub")],
    Discriminator(
        _source_type,
        custom_error_type="source_type",
        custom_error_message="a source has exactly one of: url, pypi, hub",
    ),
]


class VerifiedMetric(Block):
    """A number that a pipeline gives, within a tolerance.

    ``dynmm registry verify`` and the slow tests run the pipeline again.
    """

    pipeline: Text
    """Name of the pipeline's record."""
    dataset: Text
    """Name of the dataset's record, whose digests say what the number was measured on."""
    protocol: Text
    """Such as ``full``, ``sampled:100`` or ``cold:1``."""
    metric: Text
    """Such as ``ndcg@10``."""
    value: float
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Largest relative difference."""
    source: Text
    """Where the number comes from: a citation, or the run that gave it."""
    published: bool = True
    """Whether the number is from a publication; one of a run of this project only shows that
    nothing has changed."""
    note: str = ""
    """What a reader must know to judge the number."""


class _Record(Block):
    version: Literal[1]
    """Version of this format."""
    name: Name
    summary: Text
    """One line for listings."""
    homepage: Address | None = None
    paper: Paper | None = None
    licence: str = ""
    notes: str = ""


class _FilesRecord(_Record):
    files: Files = Field(default={})
    """Files that every source delivers, unless it names others."""
    sources: list[Source] = Field(default=[])
    """Where to fetch the files, in the order to try."""
    manual: str = ""
    """How to get the files by hand."""

    @model_validator(mode="after")
    def _is_complete(self) -> _FilesRecord:
        if not self.sources and not self.manual:
            raise ValueError("name at least one source, or say under 'manual' how to get the files")
        for number, source in enumerate(self.sources, start=1):
            files = self.files_of(source)
            if not files:
                raise ValueError(
                    f"source {number} ({source.label}) has no files: list them, with sha256 and "
                    "bytes, under the record's or the source's 'files'"
                )
            if isinstance(source, UrlSource) and source.archive is None:
                if len(files) > 1 and not source.url.endswith("/"):
                    raise ValueError(
                        f"source {number} ({source.label}) is one file, and {len(files)} are "
                        "listed: add 'archive', or end the address of a folder with '/'"
                    )
            elif isinstance(source, UrlSource) and source.url.endswith("/"):
                raise ValueError(f"source {number} ({source.label}) is a folder, not an archive")
        return self

    def files_of(self, source: Source) -> Files:
        """Returns the files that a source delivers."""
        return source.files or self.files

    @property
    def layouts(self) -> tuple[Files, ...]:
        """The different sets of files that the sources deliver, in the sources' order.

        Without sources it is the record's own ``files``, if it lists any.
        """
        found: list[Files] = []
        for files in (self.files_of(source) for source in self.sources):
            if files not in found:
                found.append(files)
        return tuple(found) or ((self.files,) if self.files else ())


class DatasetRecord(_FilesRecord):
    """A dataset: what it is, what its licence allows, where its files come from."""

    kind: Literal["dataset"]


class ModelRecord(_FilesRecord):
    """Pretrained weights: what they are, what their licence allows, where they come from."""

    kind: Literal["model"]


class ComponentRecord(_Record):
    """A component: which distribution provides it and what it has been shown to reach."""

    kind: Literal["component"]
    provides: Kind
    """Kind of the component."""
    distribution: Distribution
    extra: Distribution | None = None
    """Extra of the distribution that the component needs."""
    metrics: list[VerifiedMetric] = Field(default=[])

    @property
    def install_command(self) -> str:
        """The command that installs the component."""
        extra = f"[{self.extra}]" if self.extra else ""
        return f"pip install '{self.distribution}{extra}'"


class PipelineRecord(_Record):
    """A pipeline: which file describes it and what it has been shown to reach."""

    kind: Literal["pipeline"]
    file: PipelineFile
    """The pipeline's YAML file, ``*.pipeline.yaml``, relative to the record's folder; an ordinary
    pipeline, which ``dynmm run`` takes too."""
    metrics: list[VerifiedMetric] = Field(default=[])


FilesRecord: TypeAlias = DatasetRecord | ModelRecord
Record: TypeAlias = DatasetRecord | ModelRecord | ComponentRecord | PipelineRecord

RECORD_TYPES: dict[str, type[Record]] = {
    "dataset": DatasetRecord,
    "model": ModelRecord,
    "component": ComponentRecord,
    "pipeline": PipelineRecord,
}


def layout_id(files: Files) -> str:
    """Returns the name of the cache folder that holds exactly these files."""
    table = {name: digest.sha256 for name, digest in sorted(files.items())}
    return hashlib.sha256(json.dumps(table).encode("utf-8")).hexdigest()[:16]
