"""GPT: sizes, values against torch's own encoder layers, tying, curvature, and pretrained embeddings."""

import copy
import functools
import math
import pickle
import warnings

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.attention import SDPBackend, sdpa_kernel

from optimizers.adafisher import AdaFisher
from suite.errors import UsageError
from suite.workloads.networks import gpt
from suite.workloads.networks.gpt import GPT, EmbeddingWarning, GPTConfig, gpt1, small_gpt
from suite.workloads.tasks import token_loss

EXACT = 1e-10  # float64, two orders of summation
VOCAB = 30


def tiny(dropout=0.0):
    return GPT(GPTConfig(vocab_size=VOCAB, num_positions=8, dim=16, num_heads=4, num_layers=2, dropout=dropout))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FISHERBENCH_DATA", str(tmp_path))
    monkeypatch.setenv("FISHERBENCH_OFFLINE", "1")
    gpt._warn_once.cache_clear()
    path = tmp_path / "openai-gpt"
    path.mkdir()
    return path


@pytest.fixture
def narrow(monkeypatch):
    """Let ``gpt1`` build 24 of its 768 columns: the rest of its code is as it is."""

    def build(config):
        return GPT(
            GPTConfig(
                vocab_size=config.vocab_size,
                num_positions=config.num_positions,
                dim=24,
                num_heads=config.num_heads,
                num_layers=1,
                dropout=config.dropout,
            )
        )

    monkeypatch.setattr(gpt, "GPT", build)
    return functools.partial(gpt1, VOCAB, 8)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def encoder_logits(model, tokens):
    """Return the logits of torch's own post-LayerNorm layers with a model's weights."""
    config = model.config
    x = model.tokens.weight[tokens] + model.positions.weight[: tokens.shape[1]]
    for block in model.blocks:
        layer = nn.TransformerEncoderLayer(
            config.dim,
            config.num_heads,
            4 * config.dim,
            dropout=0.0,
            activation=lambda h: 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3))),
            batch_first=True,
            norm_first=False,
            dtype=torch.float64,
        )
        pairs = [
            (layer.self_attn.in_proj_weight, block.attention.qkv.weight),
            (layer.self_attn.in_proj_bias, block.attention.qkv.bias),
            (layer.self_attn.out_proj.weight, block.attention.out.weight),
            (layer.self_attn.out_proj.bias, block.attention.out.bias),
            (layer.linear1.weight, block.mlp[0].weight),
            (layer.linear1.bias, block.mlp[0].bias),
            (layer.linear2.weight, block.mlp[2].weight),
            (layer.linear2.bias, block.mlp[2].bias),
            (layer.norm1.weight, block.attention_norm.weight),
            (layer.norm1.bias, block.attention_norm.bias),
            (layer.norm2.weight, block.mlp_norm.weight),
            (layer.norm2.bias, block.mlp_norm.bias),
        ]
        with torch.no_grad():
            for theirs, ours in pairs:
                theirs.copy_(ours)
        x = layer(x, src_mask=nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], dtype=torch.float64))
    return x @ model.tokens.weight.T


def test_gpt1_has_the_parameters_of_the_paper():
    with torch.device("meta"), pytest.warns(EmbeddingWarning):
        model = gpt1()
    assert [count(block) for block in model.blocks] == [7_087_872] * 4
    assert count(model.blocks) == 28_351_488
    assert count(model) == 59_831_808
    assert model.tokens.weight.shape == (40_478, 768)
    assert model.positions.weight.shape == (512, 768)
    assert model.config.dropout == 0.1


def test_small_gpt_is_as_small_as_it_says():
    assert count(small_gpt(2048)) == 235_136


def test_logits_are_those_of_torchs_encoder_layers():
    model = tiny().double()
    with torch.no_grad():
        for parameter in model.parameters():  # no zero biases, no unit scales
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    tokens = torch.randint(VOCAB, (3, 8))
    torch.testing.assert_close(model(tokens), encoder_logits(model, tokens), rtol=0, atol=EXACT)


@pytest.mark.parametrize("length", [1, 5, 8])
def test_a_shorter_context_gives_the_same_logits(length):
    model, tokens = tiny().double(), torch.randint(VOCAB, (2, 8))
    torch.testing.assert_close(model(tokens[:, :length]), model(tokens)[:, :length], rtol=0, atol=EXACT)


def test_a_later_token_changes_no_earlier_logit():
    model, tokens = tiny().double(), torch.randint(VOCAB, (1, 8))
    before = model(tokens)
    for place in range(8):
        changed = tokens.clone()
        changed[0, place] = (changed[0, place] + 1) % VOCAB
        after = model(changed)
        assert torch.equal(after[:, :place], before[:, :place])
        assert not torch.isclose(after[:, place:], before[:, place:]).all(dim=2).any()


def test_dropout_is_for_training_alone():
    model, tokens = tiny(dropout=0.5), torch.randint(VOCAB, (2, 8))
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


def is_tied(model):
    names = [name for name, _ in model.named_parameters()]
    return model.head.weight is model.tokens.weight and "tokens.weight" in names and "head.weight" not in names


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model,
        lambda model: model.to(torch.float64),
        lambda model: model.to("cpu", torch.bfloat16),
        copy.deepcopy,
        lambda model: pickle.loads(pickle.dumps(model)),
    ],
    ids=["built", "to float64", "to bfloat16", "deepcopy", "pickle"],
)
def test_output_and_embedding_stay_one_parameter(change):
    assert is_tied(change(tiny()))


def test_a_state_dict_is_loaded_into_both():
    source, model = tiny(), tiny()
    model.load_state_dict(source.state_dict())
    assert is_tied(model)
    assert torch.equal(model.head.weight, source.tokens.weight)
    tokens = torch.randint(VOCAB, (2, 8))
    assert torch.equal(model(tokens), source(tokens))


def test_both_uses_of_the_embedding_reach_its_gradient():
    model, tokens = tiny().double(), torch.randint(VOCAB, (2, 8))
    token_loss(model(tokens), tokens).backward()
    whole = model.tokens.weight.grad.clone()
    untied = copy.deepcopy(model)
    untied.zero_grad()
    untied.head.weight = nn.Parameter(untied.head.weight.detach().clone())
    token_loss(untied(tokens), tokens).backward()
    torch.testing.assert_close(whole, untied.tokens.weight.grad + untied.head.weight.grad, rtol=0, atol=EXACT)


def identity_parameters(layers):
    model, tokens = small_gpt(VOCAB, 8), torch.randint(VOCAB, (4, 8))
    optimizer = AdaFisher(model, layers=layers)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            optimizer.zero_grad()
            token_loss(model(tokens), tokens.roll(1, 1)).backward()
            optimizer.step()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    return [str(each.message).partition(": ")[2] for each in caught if "identity" in str(each.message)]


def test_adafisher_sees_all_layers_but_the_positions():
    assert identity_parameters("paper") == ["positions.weight"]
    assert identity_parameters("all") == []


def test_second_derivatives_are_those_of_finite_differences():
    model, tokens = tiny().double(), torch.randint(VOCAB, (2, 8))
    parameters = list(model.parameters())
    probes = [torch.randn_like(parameter) for parameter in parameters]

    def gradient(create_graph=False):
        return torch.autograd.grad(token_loss(model(tokens), tokens), parameters, create_graph=create_graph)

    with sdpa_kernel(SDPBackend.MATH):
        products = torch.autograd.grad(gradient(create_graph=True), parameters, probes)
        ends = []
        for step in (1e-5, -2e-5, 1e-5):
            with torch.no_grad():
                for parameter, probe in zip(parameters, probes, strict=True):
                    parameter.add_(probe, alpha=step)
            ends.append(gradient())
    for product, above, below in zip(products, ends[0], ends[1], strict=True):
        torch.testing.assert_close(product, (above - below) / 2e-5, rtol=1e-4, atol=1e-6)  # error of differences


def test_a_fresh_network_knows_nothing():
    model = small_gpt(2048)
    tokens = torch.randint(2048, (8, 65))
    assert token_loss(model(tokens[:, :-1]), tokens[:, 1:]).item() == pytest.approx(math.log(2048), abs=0.1)


def test_weights_are_drawn_as_radford_did():
    model = small_gpt(2048)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.05), name


def test_sgd_learns_a_repeating_text():
    model = small_gpt(10, 16)
    text = torch.arange(17).remainder(5).repeat(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = token_loss(model(text[:, :-1]), text[:, 1:])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(math.log(10), abs=0.2)
    assert losses[-1] < 0.1


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"dim": 10}, "dim=10 must be a multiple of num_heads=4"),
        ({"num_layers": 0}, "num_layers=0 must be a whole number >= 1"),
        ({"vocab_size": 2.5}, "vocab_size=2.5 must be a whole number >= 1"),
        ({"dropout": 1.0}, r"dropout=1.0 must be in \[0, 1\)"),
        ({"dropout": math.nan}, r"dropout=nan must be in \[0, 1\)"),
    ],
)
def test_a_size_that_breaks_its_rule_is_refused(change, rule):
    sizes = {"vocab_size": 9, "num_positions": 4, "dim": 8, "num_heads": 4, "num_layers": 1, "dropout": 0.0}
    with pytest.raises(UsageError, match=rule):
        GPTConfig(**{**sizes, **change})


def test_more_tokens_than_positions_are_refused():
    with pytest.raises(UsageError, match="9 tokens exceed num_positions=8"):
        tiny()(torch.zeros(1, 9, dtype=torch.int64))


def embeddings(dtype=torch.float32):
    return {
        "tokens_embed.weight": torch.randn(VOCAB, 24).to(dtype),
        "positions_embed.weight": torch.randn(8, 24).to(dtype),
    }


def test_without_a_file_the_embedding_is_random_and_says_so_once(narrow, folder):
    with pytest.warns(EmbeddingWarning) as caught:
        narrow()
        narrow()
    assert [str(each.message) for each in caught] == [f"random token embeddings: no file at {folder}/model.safetensors"]
    assert gpt.embeddings_version() == "random"


@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_pretrained_embeddings_take_the_place_of_random_ones_only(narrow, folder, prefix, dtype):
    torch.manual_seed(3)
    with pytest.warns(EmbeddingWarning):
        random = narrow()
    stored = embeddings(dtype)
    others = {"h.0.attn.c_attn.weight": torch.zeros(2, 6)}
    save_file({prefix + name: values for name, values in {**stored, **others}.items()}, folder / "model.safetensors")
    torch.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = narrow()
    assert is_tied(model)
    assert torch.equal(model.tokens.weight, stored["tokens_embed.weight"].float())
    assert torch.equal(model.positions.weight, stored["positions_embed.weight"].float())
    for name, parameter in model.named_parameters():
        if name.startswith("blocks"):
            assert torch.equal(parameter, random.get_parameter(name)), name


def test_the_version_is_that_of_the_embeddings(folder):
    path = folder / "model.safetensors"
    stored = embeddings()
    save_file(stored, path)
    version = gpt.embeddings_version()
    save_file({**stored, "h.0.ln_1.bias": torch.ones(3)}, path)
    assert gpt.embeddings_version() == version
    stored["tokens_embed.weight"][0, 0] += 1
    save_file(stored, path)
    assert gpt.embeddings_version() != version


def truncated(path):
    save_file(embeddings(), path)
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("write", "rule"),
    [
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (truncated, "cannot be read"),
        (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "cannot be read"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: save_file({"wte.weight": torch.ones(2, 2)}, path), "lacks tokens_embed.weight"),
        (
            lambda path: save_file({**embeddings(), "tokens_embed.weight": torch.ones(VOCAB, 23)}, path),
            r"shape \[30, 23\], but the network takes \[30, 24\]",
        ),
        (
            lambda path: save_file({**embeddings(), "positions_embed.weight": torch.ones(9, 24)}, path),
            r"shape \[9, 24\], but the network takes \[8, 24\]",
        ),
        (
            lambda path: save_file({**embeddings(), "tokens_embed.weight": torch.full((VOCAB, 24), math.nan)}, path),
            "no matrix of finite numbers",
        ),
        (
            lambda path: save_file({**embeddings(), "tokens_embed.weight": torch.ones(VOCAB, 24).int()}, path),
            "torch.int32 of shape",
        ),
    ],
    ids=["empty", "truncated", "lfs", "folder", "names", "width", "positions", "nan", "integers"],
)
def test_a_bad_file_of_embeddings_is_one_line(narrow, folder, write, rule):
    write(folder / "model.safetensors")
    with pytest.raises(UsageError, match=rule) as caught:
        narrow()
    assert str(folder / "model.safetensors") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_asked_for_has_to_be_there(narrow, folder):
    with pytest.raises(UsageError, match="elsewhere.safetensors cannot be read"):
        narrow(folder / "elsewhere.safetensors")


def test_the_loss_of_a_sample_does_not_depend_on_the_others():
    model, tokens = tiny().double(), torch.randint(VOCAB, (4, 8))
    each = torch.cat([model(tokens[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(model(tokens), each, rtol=0, atol=EXACT)
    assert F.cross_entropy(each.flatten(0, 1), tokens.flatten()).isfinite()
