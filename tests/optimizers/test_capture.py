import copy
import gc
import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from optimizers import AdaFisher
from optimizers.capture import Capture
from optimizers.rules import PAPER_RULES

TOLERANCE = 1e-12  # float64 sums in another order


def mlp():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 3)).double()


def batch(size=6):
    return torch.randn(size, 4, dtype=torch.float64), torch.randint(3, (size,))


def loss_of(model, inputs, targets):
    return nn.functional.cross_entropy(model(inputs), targets)


def taken(capture):
    """Return by layer name H, S and the counts; H and S as from a summed loss."""
    return {layer.name: layer.take() for layer in capture.layers}


def factors_after(model, *, loss_scale=None, backward):
    """Return the factors that one step folds in."""
    optimizer = AdaFisher(model, gamma=1.0, loss_scale=loss_scale)
    backward(model)
    optimizer.step()
    return optimizer.state_dict()["adafisher"]["factors"]


def assert_same(actual, expected, rtol=TOLERANCE):
    assert actual.keys() == expected.keys()
    for name, pair in expected.items():
        for key, factor in pair.items():
            torch.testing.assert_close(actual[name][key], factor, rtol=rtol, atol=0)


def test_a_use_gives_means_of_squares():
    model, (inputs, targets) = mlp(), batch()
    capture = Capture(model, PAPER_RULES)
    output = model(inputs)
    output.retain_grad()
    nn.functional.cross_entropy(output, targets).backward()
    h, s, counts = taken(capture)["3"]
    normed = model[:3](inputs)
    assert counts.rows == 6
    torch.testing.assert_close(h, torch.cat([normed.square().mean(0), torch.ones(1, dtype=torch.float64)]))
    torch.testing.assert_close(s, output.grad.square().mean(0))
    assert taken(capture)["3"] is None


def test_micro_batches_equal_one_batch():
    model, (inputs, targets) = mlp(), batch()

    def in_two(model):
        for half in (slice(3), slice(3, 6)):
            (loss_of(model, inputs[half], targets[half]) / 2).backward()

    whole = factors_after(copy.deepcopy(model), backward=lambda model: loss_of(model, inputs, targets).backward())
    assert_same(factors_after(model, backward=in_two), whole)


def test_in_place_activation():
    inputs, targets = batch()
    results = []
    for inplace in (False, True):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=inplace), nn.Linear(8, 3)).double()
        results.append(factors_after(model, backward=lambda model: loss_of(model, inputs, targets).backward()))
    assert_same(results[1], results[0], rtol=0)


def test_forwards_that_do_not_train_count_for_nothing():
    model, (inputs, targets) = mlp(), batch()
    capture = Capture(model, PAPER_RULES)
    with torch.no_grad():
        model(inputs)
    model(inputs)  # never differentiated
    model.eval()
    loss_of(model, inputs, targets).backward()
    model.train()
    assert all(sums is None for sums in taken(capture).values())
    capture.is_enabled = False
    loss_of(model, inputs, targets).backward()
    capture.is_enabled = True
    assert all(sums is None for sums in taken(capture).values())
    loss_of(model, inputs, targets).backward()
    assert all(counts.rows == 6 for _, _, counts in taken(capture).values())


def test_a_layer_in_eval_mode_inside_a_training_model_counts():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).double()
    model[1].eval()
    capture = Capture(model, PAPER_RULES)
    loss_of(model, *batch()).backward()
    assert taken(capture)["1"] is not None


def test_frozen_layers_are_not_captured():
    model = mlp()
    capture = Capture(model, PAPER_RULES)
    model[2].requires_grad_(False)
    loss_of(model, *batch()).backward()
    assert {name for name, sums in taken(capture).items() if sums} == {"0", "3"}


class Reused(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


def test_a_reused_module_sums_over_its_uses():
    model, (inputs, targets) = Reused().double(), batch()
    capture = Capture(model, PAPER_RULES)
    first = torch.tanh(model.layer(inputs))
    loss_of(model, inputs, targets).backward()
    h, _, counts = taken(capture)["layer"]
    assert counts.rows == 12
    torch.testing.assert_close(h[:4], torch.cat([inputs, first]).square().mean(0))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.decoder = nn.Linear(4, 7)
        self.decoder.weight = self.embedding.weight

    def forward(self, tokens):
        return self.decoder(self.embedding(tokens))


@pytest.mark.parametrize("layers", ["paper", "all"])
def test_a_tied_parameter_takes_the_mean_over_its_uses(layers):
    model, tokens = Tied(), torch.tensor([[1, 2, 2], [0, 1, 6]])
    optimizer = AdaFisher(model, layers=layers, damping=0.01)
    nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
    factors = optimizer.state_dict()["adafisher"]["factors"]

    def normalized(factor):
        return (factor - factor.min()) / (factor.max() - factor.min())

    decoder = normalized(factors["decoder"]["S"])[:, None] * normalized(factors["decoder"]["H"])[:4]
    embedding = torch.ones(7, 4)
    if layers == "all":
        embedding = normalized(factors["embedding"]["H"])[:, None] * normalized(factors["embedding"]["S"])
    expected = (decoder + embedding) / 2 + 0.01
    torch.testing.assert_close(optimizer.fisher_diag(model.embedding.weight), expected)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_activation_checkpointing_counts_once(use_reentrant):
    model, (inputs, targets) = mlp(), batch()
    capture = Capture(model, PAPER_RULES)
    loss_of(model, inputs, targets).backward()
    plain = taken(capture)
    output = checkpoint(model, inputs.clone().requires_grad_(), use_reentrant=use_reentrant)
    nn.functional.cross_entropy(output, targets).backward()
    for name, (h, s, counts) in taken(capture).items():
        assert counts.rows == 6
        torch.testing.assert_close((h, s), plain[name][:2], rtol=TOLERANCE, atol=0)


def test_keyword_inputs_and_zero_grad_between_forward_and_backward():
    model = nn.Linear(4, 3).double()
    optimizer = AdaFisher(model)
    inputs, targets = batch()
    loss = nn.functional.cross_entropy(model(input=inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    assert optimizer.state_dict()["adafisher"]["factors"][""]["S"].all()


def test_a_skipped_step_changes_nothing():
    model, (inputs, targets) = mlp(), batch()
    scale = 1024.0
    optimizer = AdaFisher(model, loss_scale=lambda: scale)
    weights, before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    (loss_of(model, inputs, targets) * torch.inf).backward()  # the scaler sees it and skips the step
    optimizer.zero_grad()
    assert_same(optimizer.state_dict()["adafisher"]["factors"], before["adafisher"]["factors"], rtol=0)
    torch.testing.assert_close(model.state_dict(), weights, rtol=0, atol=0)
    (loss_of(model, inputs, targets) * scale).backward()
    optimizer.step()
    plain = factors_after(restored(weights), backward=lambda model: loss_of(model, inputs, targets).backward())
    actual = optimizer.state_dict()["adafisher"]["factors"]
    assert_same(actual, {name: {key: 0.8 * f for key, f in pair.items()} for name, pair in plain.items()})


def test_grad_scaler_trains_as_without():
    plain = mlp().float()
    scaled = copy.deepcopy(plain)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    plain_optimizer, scaled_optimizer = AdaFisher(plain), AdaFisher(scaled, loss_scale=scaler.get_scale)
    for step in range(6):
        inputs, targets = torch.randn(6, 4), torch.randint(3, (6,))
        scaled_optimizer.zero_grad()
        loss = loss_of(scaled, inputs, targets)
        is_skipped = step == 2
        scaler.scale(loss * torch.inf if is_skipped else loss).backward()
        scaler.unscale_(scaled_optimizer)
        scaler.step(scaled_optimizer)
        scaler.update()
        if not is_skipped:
            plain_optimizer.zero_grad()
            loss_of(plain, inputs, targets).backward()
            plain_optimizer.step()
    torch.testing.assert_close(scaled.state_dict(), plain.state_dict(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("numerics", ["paper", "released"])
def test_sequences_of_different_lengths_add_up(numerics):
    model = mlp()
    optimizer = AdaFisher(model, numerics=numerics)
    for length in (5, 2, 3):
        model(torch.randn(3, length, 4, dtype=torch.float64)).square().mean().backward()
    optimizer.step()
    assert all(param.isfinite().all() for param in model.parameters())


class Verbose(nn.Linear):
    """Names its input in its own way and returns more than a tensor."""

    def forward(self, x, is_verbose=False):
        output = super().forward(x)
        return (output, x) if is_verbose else output


def test_subclasses_follow_their_base_where_they_can():
    model = Verbose(4, 3)
    capture = Capture(model, PAPER_RULES)
    model(x=torch.randn(2, 4), is_verbose=True)[0].sum().backward()
    assert taken(capture)[""] is None
    model(x=torch.randn(2, 4)).sum().backward()
    assert taken(capture)[""][2].rows == 2


def restored(state):
    model = mlp()
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize("numerics", ["paper", "released"])
def test_non_finite_statistics_are_not_folded_in(numerics):
    model, (inputs, targets) = mlp(), batch()
    optimizer = AdaFisher(model, numerics=numerics, update_interval=1, lr=0.0)
    loss_of(model, inputs, targets).backward()
    optimizer.step()
    before = optimizer.state_dict()["adafisher"]["factors"]
    optimizer.zero_grad()
    (loss_of(model, inputs, targets) * torch.nan).backward()
    optimizer.step()
    assert_same(optimizer.state_dict()["adafisher"]["factors"], before, rtol=0)


def test_statistics_under_autocast_are_float32():
    model, (inputs, targets) = mlp().float(), batch()
    optimizer = AdaFisher(model, gamma=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(model, inputs.float(), targets)
    loss.backward()
    optimizer.step()
    h = optimizer.state_dict()["adafisher"]["factors"]["0"]["H"]
    assert h.dtype == torch.float32
    torch.testing.assert_close(h[:4], inputs.float().square().mean(0), rtol=1e-6, atol=0)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = x[:, None] * torch.arange(1, 4, dtype=x.dtype)[:, None]
        return self.head(self.attention(x, x, x)[0].mean(1))


def test_functional_uses_take_the_identity_and_are_named_once():
    model = Attention().double()
    optimizer = AdaFisher(model, damping=0.01)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            optimizer.zero_grad()
            loss_of(model, *batch()).backward()
            optimizer.step()
    assert len(caught) == 1
    assert caught[0].filename == __file__
    named = set(str(caught[0].message).split(": ")[1].split(", "))
    assert named == {f"attention.{name}" for name, _ in model.attention.named_parameters()}
    diagonal = optimizer.fisher_diag(model.attention.out_proj.weight)
    torch.testing.assert_close(diagonal, torch.full_like(diagonal, 1.01))


class ChannelsFirst(nn.LayerNorm):
    """Of images ``[B, channels, H, W]``, as timm's and torchvision's ``LayerNorm2d``."""

    def forward(self, images):
        return super().forward(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ChannelsLast(nn.LayerNorm):
    def forward(self, images):
        return nn.functional.layer_norm(images, self.normalized_shape, self.weight, self.bias, self.eps)


class RMSChannelsFirst(nn.RMSNorm):
    def forward(self, images):
        return super().forward(images.movedim(1, -1)).movedim(-1, 1)


def step_on_images(norm, shape, **options):
    """Return the Fisher diagonal of a norm's weight after a step, and the parameters named in a warning."""
    model = nn.Sequential(norm, nn.Flatten(), nn.LazyLinear(3)).double()
    model(torch.randn(2, *shape, dtype=torch.float64))
    optimizer = AdaFisher(model, damping=0.01, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loss_of(model, torch.randn(6, *shape, dtype=torch.float64), torch.randint(3, (6,))).backward()
        optimizer.step()
    return optimizer.fisher_diag(norm.weight), [str(w.message).split(": ")[1] for w in caught]


@pytest.mark.parametrize(
    ("norm", "names"),
    [(lambda: ChannelsFirst(4), "0.weight, 0.bias"), (lambda: RMSChannelsFirst(4), "0.weight")],
    ids=["LayerNorm", "RMSNorm"],
)
@pytest.mark.parametrize("numerics", ["paper", "released"])
def test_a_norm_of_another_dimension_than_the_last_takes_the_identity(norm, names, numerics):
    diagonal, named = step_on_images(norm(), (4, 2, 6), numerics=numerics, layers="all")
    assert named == [names]
    torch.testing.assert_close(diagonal, torch.full_like(diagonal, 1.01))


def test_a_norm_with_a_forward_of_its_own_over_the_last_dimension_has_the_rule():
    for norm in (ChannelsLast(4), ChannelsLast([6, 4])):
        diagonal, named = step_on_images(norm, (2, 6, 4))
        assert named == []
        assert diagonal.max() - diagonal.min() > 0.1


def test_released_numerics_do_not_warn_of_steps_that_capture_nothing():
    model = mlp()
    optimizer = AdaFisher(model, numerics="released", params=[model[0].weight])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(102):
            if step == 5:
                optimizer.add_param_group({"params": [*model[2].parameters(), *model[3].parameters()]})
            optimizer.zero_grad()
            loss_of(model, *batch()).backward()
            optimizer.step()
            assert optimizer.refreshed == (step % 100 == 0)


def test_hooks_ignore_copies_and_go_with_their_optimizer():
    model = mlp()
    optimizer = AdaFisher(model)
    before = optimizer.state_dict()["adafisher"]["factors"]
    loss_of(copy.deepcopy(model), *batch()).backward()
    loss_of(model, *batch())
    optimizer.step()
    assert_same(optimizer.state_dict()["adafisher"]["factors"], before, rtol=0)
    del optimizer
    gc.collect()
    assert not any(module._forward_hooks for module in model.modules())


def test_no_host_synchronisation_in_step():
    """On the meta device every read of a value fails."""
    model = mlp().to("meta")
    optimizer = AdaFisher(model)
    model(torch.randn(6, 4, dtype=torch.float64, device="meta")).sum().backward()
    optimizer.step()
