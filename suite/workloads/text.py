"""Language modelling: GPT-1's four layers on WikiText-2 and PTB, and a small GPT on Python's own documentation."""

from functools import partial
from typing import Any

from suite.workloads import examples
from suite.workloads.base import WorkloadSpec
from suite.workloads.language.ptb import load_ptb, version_ptb
from suite.workloads.language.pydoc import NUM_POSITIONS as PYDOC_POSITIONS
from suite.workloads.language.pydoc import VOCAB_SIZE as PYDOC_VOCAB_SIZE
from suite.workloads.language.pydoc import load_pydoc, sha256
from suite.workloads.language.wikitext2 import load_wikitext2, version_wikitext2
from suite.workloads.networks.gpt import NUM_POSITIONS, VOCAB_SIZE, gpt1, small_gpt
from suite.workloads.tasks import perplexity, sample_token_loss, token_loss

# Published counts of the training and the validation texts' words, less their lines, whose ends count but make no token
WIKITEXT2_WORDS = (2_088_628 - 36_718, 217_646 - 3_760)
PTB_WORDS = (929_589 - 42_068, 73_760 - 3_370)
PIECES_PER_WORD = 1.15  # an estimate, to a tenth or so: GPT-1's byte pairs in a word of such texts
PYDOC_WINDOWS = (1_218, 154)  # of Python 3.11; the topics of other versions are longer or shorter


def _num_windows(num_words: int) -> int:
    return round(num_words * PIECES_PER_WORD / NUM_POSITIONS)


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
    "full_example": partial(examples.tokens, length=NUM_POSITIONS, vocab_size=VOCAB_SIZE),
}

SPECS = (
    WorkloadSpec(
        name="pydoc_gpt",
        load=load_pydoc,
        num_train=PYDOC_WINDOWS[0],
        num_train_paper=sum(PYDOC_WINDOWS),
        build_model=partial(small_gpt, PYDOC_VOCAB_SIZE),
        worst_metric=float(PYDOC_VOCAB_SIZE),
        target=120.0,
        target_set_by="SGD at lr 0.3 and AdamW at 1e-3, weight decay 0.1, 15 epochs, seed 0: 107.6 and 123.3",
        eval_batch_size=64,
        example=partial(examples.tokens, length=2, vocab_size=PYDOC_VOCAB_SIZE),
        full_example=partial(examples.tokens, length=PYDOC_POSITIONS, vocab_size=PYDOC_VOCAB_SIZE),
        data_version=sha256,
        reference="a GPT of 235,136 parameters on CPython's documentation topics (pydoc_data.topics), in words",
        **_LANGUAGE_MODELLING,
    ),
    WorkloadSpec(
        name="wikitext2_gpt",
        load=load_wikitext2,
        num_train=_num_windows(WIKITEXT2_WORDS[0]),
        num_train_paper=_num_windows(sum(WIKITEXT2_WORDS)),
        target=175.06,
        target_set_by="Table 5: AdamW's test perplexity",
        data_version=version_wikitext2,
        reference="GPT-1 with 4 layers on WikiText-2, in byte pairs: Merity et al. (2016); the paper's Table 5",
        **_GPT1,
    ),
    WorkloadSpec(
        name="ptb_gpt",
        load=load_ptb,
        num_train=_num_windows(PTB_WORDS[0]),
        num_train_paper=_num_windows(sum(PTB_WORDS)),
        target=44.7,
        target_set_by="Table 5: AdamW's test perplexity",
        data_version=version_ptb,
        reference="GPT-1 with 4 layers on the Penn Treebank, in byte pairs: Marcus et al. (1993); the paper's Table 5",
        **_GPT1,
    ),
)
