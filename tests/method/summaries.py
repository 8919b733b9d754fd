"""Summaries of cases, as the tests of the method and of records need them."""

from __future__ import annotations

from dask_labelqc.extent import Extent
from dask_labelqc.method.outputs import every_output
from dask_labelqc.method.parameters import Options, Parameters
from dask_labelqc.method.summarize import RegionSummary, summarize
from dask_labelqc.plan import plan_blocks
from dask_labelqc.typing import AnyArray
from tests.strategies import Case


def parameters(case: Case) -> Parameters:
    arrays = case.labels, case.pred_probs
    facts = [fact for array in arrays for fact in (array.shape, array.dtype)]
    outputs = every_output(pixel_scores=True, predicted_label=True)
    return Parameters.of_images(Options.of(**case.arguments, outputs=outputs), *facts)


def summarized(
    case: Case, region: Extent, chunk: tuple[int, ...], bound: float | None = None
) -> RegionSummary:
    """Summarize a region in blocks of about `chunk`, given in coordinates of the region."""
    params = parameters(case)
    plan = plan_blocks(region.shape, chunk, 2**30, params.factors)

    def read(block: Extent) -> tuple[AnyArray, AnyArray]:
        image, *pixels = block.slices
        return case.labels[block.slices], case.pred_probs[(image, slice(None), *pixels)]

    return summarize(region, plan.blocks(region), read, params, bound)
