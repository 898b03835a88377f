"""`analyze.py patches search`."""

from typing import Literal

from memlight.errors import UserError
from memlight.runs.flags import Results, at_least


def search(
    queries: str,
    index: str,
    out: str,
    metric: Literal["cosine", "l2", "l2_normalized"] = "cosine",
    k: int = 10,
    backend: Literal["torch", "faiss"] = "torch",
    approximate: str | None = None,
    nprobe: int = 16,
    verify: Literal["fast", "full"] = "fast",
    query_images: str | None = None,
    index_images: str | None = None,
    device: str = "auto",
    results: Results = Results(),  # noqa: B008 - frozen
) -> None:
    """Find the nearest training patches of every patch, exactly, and count the images they come from.

    Called again after an interruption, it goes on after the last file of the index that was searched.

    Args:
        queries: store of the images in question, made by `analyze.py patches extract`.
        index: store of the training images, made with the same flags.
        out: run directory for the results.
        metric: cosine is 1 minus the cosine; l2 is a distance, not its square; l2_normalized that of unit vectors.
        k: nearest patches that are kept.
        backend: library that finds the candidates; the result is the same.
        approximate: faiss index in the place of exact search, such as IVF1024,Flat or IVF1024,PQ32; its recall is
            printed.
        nprobe: cells of such an index that are searched.
        verify: full reads both stores and compares their checksums first.
        query_images: where the images of the queries lie now; where they were at extraction if unset.
        index_images: likewise of the index.
        device: auto (all GPUs, or the CPU), cpu, cuda, cuda:1.
        results: results
    """
    at_least(1, k=k, nprobe=nprobe)
    if approximate is None and nprobe != 16:
        raise UserError(f"--nprobe {nprobe}: belongs to an approximate search; name its index with --approximate.")
    from memlight.analyses.patches.search import SearchFlags, run_search

    run_search(
        SearchFlags(
            queries=queries,
            index=index,
            out=out,
            metric=metric,
            k=k,
            backend=backend,
            approximate=approximate,
            nprobe=nprobe,
            verify=verify,
            query_images=query_images,
            index_images=index_images,
            device=device,
        ),
        results,
    )
