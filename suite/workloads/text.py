"""Language modelling: GPT-1's four layers on WikiText-2 and PTB, and a small GPT on Python's own documentation."""

from functools import partial
from typing import Any

from suite.workloads import examples
from suite.workloads.base import WorkloadSpec
from suite.workloads.language.ptb import load_ptb, version_ptb
from suite.workloads.language.pydoc import VOCAB_SIZE as PYDOC_VOCAB_SIZE
from suite.workloads.language.pydoc import load_pydoc, sha256
from suite.workloads.language.wikitext2 import load_wikitext2, version_wikitext2
from suite.workloads.networks.gpt import VOCAB_SIZE, gpt1, small_gpt
from suite.workloads.tasks import perplexity, sample_token_loss, token_loss

_LANGUAGE_MODELLING: dict[str, Any] = {
    "loss": token_loss,
    "metric": sample_token_loss,
    "metric_name": "perplexity",
    "metric_goal": "minimize",
    "of_mean": perplexity,
    "batch_size": 32,
}
_GPT1: dict[str, Any] = {
    **_LANGUAGE_MODELLING,
    "build_model": gpt1,
    "worst_metric": float(VOCAB_SIZE),  # of a model that gives all tokens the same probability
    "eval_batch_size": 8,  # the logits of a window are 512 x 40,478 numbers
    "example": partial(examples.tokens, length=2, vocab_size=VOCAB_SIZE),
}

SPECS = (
    WorkloadSpec(
        name="pydoc_gpt",
        load=load_pydoc,
        build_model=partial(small_gpt, PYDOC_VOCAB_SIZE),
        worst_metric=float(PYDOC_VOCAB_SIZE),
        target=120.0,
        target_set_by="SGD at lr 0.3 and AdamW at 1e-3, weight decay 0.1, 15 epochs, seed 0: 107.6 and 123.3",
        eval_batch_size=64,
        example=partial(examples.tokens, length=2, vocab_size=PYDOC_VOCAB_SIZE),
        data_version=sha256,
        reference="a GPT of 235,136 parameters on CPython's documentation topics (pydoc_data.topics), in words",
        **_LANGUAGE_MODELLING,
    ),
    WorkloadSpec(
        name="wikitext2_gpt",
        load=load_wikitext2,
        target=175.06,
        target_set_by="Table 5: AdamW's test perplexity",
        data_version=version_wikitext2,
        reference="GPT-1 with 4 layers on WikiText-2, in byte pairs: Merity et al. (2016); the paper's Table 5",
        **_GPT1,
    ),
    WorkloadSpec(
        name="ptb_gpt",
        load=load_ptb,
        target=44.7,
        target_set_by="Table 5: AdamW's test perplexity",
        data_version=version_ptb,
        reference="GPT-1 with 4 layers on the Penn Treebank, in byte pairs: Marcus et al. (1993); the paper's Table 5",
        **_GPT1,
    ),
)
