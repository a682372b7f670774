"""Factorized layers in the tools that people use with PyTorch."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from tenfold import FactorizedConv, relative_error


def network(**arguments: object) -> nn.Sequential:
    """Two factorized convolutions among other layers, for `(batch, 3, 12, 12)`."""
    torch.manual_seed(0)
    return nn.Sequential(
        FactorizedConv(3, 8, (3, 3), padding=1, rank=4, factorization="tucker", **arguments),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        FactorizedConv(8, 8, (3, 3), stride=2, rank=4, factorization="cp", **arguments),
        nn.Flatten(),
        nn.Linear(200, 5),
    )


def images(batch: int = 4) -> torch.Tensor:
    return torch.randn(batch, 3, 12, 12, generator=torch.Generator().manual_seed(1))


class LitModule(nn.Module):
    """A module as Lightning has it: the steps in methods, the optimizer made by one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.model = network()
        self.loss = nn.CrossEntropyLoss()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        x, labels = batch
        return self.loss(self(x), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def test_a_sequential_holds_it_trains_it_and_moves_it():
    model, x = network(), images()
    assert model(x).shape == (4, 5)
    assert {p.dtype for p in model.double().parameters()} == {torch.float64}
    assert model(x.double()).dtype == torch.float64
    names = set(model.state_dict())
    assert {"0.weight.factors.0", "0.bias", "3.weight.factors.3"} <= names
    again = network()
    again.load_state_dict(model.state_dict())


def test_a_lightning_style_module_learns():
    module = LitModule().train()
    optimizer = module.configure_optimizers()
    batch = (images(16), torch.arange(16) % 5)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = module.training_step(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_torchinfo_shows_it_and_counts_its_parameters():
    torchinfo = pytest.importorskip("torchinfo")
    model = network()
    shown = torchinfo.summary(model, input_data=images(), verbose=0)
    assert shown.total_params == sum(parameter.numel() for parameter in model.parameters())
    assert "FactorizedConv" in str(shown)


@pytest.mark.parametrize("factorization", ["cp", "tucker", "tt", "spatial_svd"])
@pytest.mark.parametrize("implementation", ["factorized", "reconstructed"])
@pytest.mark.parametrize("transposed", [False, True])
def test_the_flop_counter_agrees_with_its_macs(factorization, implementation, transposed):
    layer = FactorizedConv(
        6,
        8,
        (3, 5),
        stride=(2, 1),
        padding=1,
        rank=3,
        factorization=factorization,
        implementation=implementation,
        transposed=transposed,
    )
    with FlopCounterMode(display=False) as counter:
        layer(torch.randn(2, 6, 9, 9))
    counted = sum(
        flops
        for operator, flops in counter.get_flop_counts()["Global"].items()
        if "convolution" in str(operator)
    )
    assert counted == 2 * 2 * layer.macs((9, 9))  # two images, and two FLOPs a MAC


def test_safetensors_stores_it(tmp_path):
    model, other, x = network().eval(), network().eval(), images()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other(x), model(x))


def test_a_factor_can_be_pruned_and_the_pruning_made_permanent():
    model, x = network(), images()
    layer = model[3]
    prune.l1_unstructured(layer.weight.factors, "0", amount=0.5)
    assert int((layer.weight.factors[0] == 0).sum()) == layer.weight.factors[0].numel() // 2
    dense = layer.to_conv()
    inner = torch.randn(2, 8, 9, 9)
    assert relative_error(dense(inner), layer(inner)) < 1e-5
    model(x).sum().backward()
    prune.remove(layer.weight.factors, "0")
    assert relative_error(dense(inner), layer(inner)) < 1e-5


def test_an_averaged_model_averages_its_factors():
    model = network()
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(2)
    averaged.update_parameters(model)
    for mean, last in zip(averaged.module.parameters(), model.parameters(), strict=True):
        assert torch.allclose(mean, last - 1)
    averaged.eval()(images())


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_gives_the_same_gradients(reentrant):
    model = network(implementation="reconstructed")
    model[1] = nn.Identity()  # whose statistics a second run would change
    other, x = copy.deepcopy(model), images().requires_grad_()
    model(x).sum().backward()
    checkpoint(other, x, use_reentrant=reentrant).sum().backward()
    for one, another in zip(model.parameters(), other.parameters(), strict=True):
        assert relative_error(one.grad, another.grad) < 1e-6
