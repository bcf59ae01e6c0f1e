"""Results read as attributes, as a dict and as a tuple, and travel whole."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from wavconformer import CausalLMOutput, Wav2Vec2ConformerBaseModelOutput, XVectorOutput

from .builders import CLASSES, build, build_pair, largest_difference, noise, task_arguments


def make() -> CausalLMOutput:
    return CausalLMOutput(
        logits=torch.ones(2, 3), loss=torch.tensor(0.5), hidden_states=(torch.zeros(1), torch.ones(1))
    )


def test_a_field_reads_three_ways() -> None:
    output = make()
    assert output.logits is output["logits"] is output[1]
    assert output[0] is output.loss
    assert output[-1] is output.hidden_states
    assert output[:2] == (output.loss, output.logits)
    loss, logits, hidden_states = output.to_tuple()
    assert (loss, logits, hidden_states) == tuple(output.values())
    assert list(output) == ["loss", "logits", "hidden_states"]
    assert dict(**output).keys() == output.keys()
    assert len(output) == 3


def test_what_was_not_computed_is_none_and_absent() -> None:
    output = CausalLMOutput(logits=torch.ones(1), loss=None)
    assert output.loss is None
    assert output.attentions is None
    assert "loss" not in output
    assert output.get("loss") is None
    with pytest.raises(KeyError):
        output["loss"]
    assert output.to_tuple() == (output.logits,)


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(TypeError, match="CausalLMOutput has no field embeddings"):
        CausalLMOutput(embeddings=torch.ones(1))
    with pytest.raises(AttributeError, match="no attribute 'embeddings'"):
        _ = make().embeddings
    with pytest.raises(KeyError, match="no field 'embeddings'"):
        make()["embeddings"] = torch.ones(1)
    with pytest.raises(KeyError, match="no field 'embeddings'"):
        make().embeddings = torch.ones(1)


def test_a_field_set_later_takes_its_place() -> None:
    output = CausalLMOutput(logits=torch.ones(1))
    output.loss = torch.tensor(2.0)
    assert output.to_tuple() == (output["loss"], output.logits)
    output["loss"] = None
    assert output.to_tuple() == (output.logits,)


def test_made_of_a_mapping_or_of_pairs() -> None:
    """As torch's DataParallel and accelerate put results together again."""
    output = make()
    assert list(CausalLMOutput(dict(output))) == list(output)
    assert list(CausalLMOutput((name, value) for name, value in output.items())) == list(output)
    assert list(CausalLMOutput({"logits": output.logits}, loss=output.loss)) == ["loss", "logits"]


@pytest.mark.parametrize(
    "travel",
    [lambda output: pickle.loads(pickle.dumps(output)), copy.copy, copy.deepcopy],  # noqa: S301
    ids=["pickle", "copy", "deepcopy"],
)
def test_copies_are_whole(travel: Any) -> None:
    output = make()
    found = travel(output)
    assert type(found) is CausalLMOutput
    assert list(found) == list(output)
    assert torch.equal(found.logits, output.logits)
    assert largest_difference(found.hidden_states, output.hidden_states) == 0


def test_torch_sees_the_tensors_inside() -> None:
    output = make()
    leaves, spec = pytree.tree_flatten(output)
    assert len(leaves) == 4
    assert all(isinstance(leaf, Tensor) for leaf in leaves)
    again = pytree.tree_unflatten(leaves, spec)
    assert type(again) is CausalLMOutput
    assert list(again) == list(output)
    doubled = pytree.tree_map(lambda x: 2 * x, output)
    assert torch.equal(doubled.logits, 2 * output.logits)


def test_printing_shows_shapes() -> None:
    text = repr(make())
    assert text == "CausalLMOutput(loss=0.5, logits=Tensor(2, 3), hidden_states=(Tensor(1,), Tensor(1,)))"


def test_the_fields_are_documented_and_in_the_oracles_order() -> None:
    assert XVectorOutput.fields() == ("loss", "logits", "embeddings", "hidden_states", "attentions")
    assert list(Wav2Vec2ConformerBaseModelOutput.fields()) == [
        "last_hidden_state",
        "extract_features",
        "hidden_states",
        "attentions",
    ]


@pytest.mark.parametrize("name", CLASSES)
@torch.no_grad()
def test_a_tuple_is_returned_where_it_is_asked_for(name: str) -> None:
    ours, oracle = build_pair(name)
    arguments = task_arguments(name, ours, 1, 6000)
    wanted = {"output_hidden_states": True, "output_attentions": True}
    output = ours(noise(1, 6000), **arguments, **wanted)
    found = ours(noise(1, 6000), **arguments, **wanted, return_dict=False)
    expected = oracle(noise(1, 6000), **arguments, **wanted, return_dict=False)
    assert isinstance(found, tuple)
    assert len(found) == len(expected)
    assert largest_difference(found, expected) <= 1e-4 * max(1, output[0].abs().max())
    ours.config.return_dict = False
    assert isinstance(ours(noise(1, 6000)), tuple)
    assert not isinstance(ours(noise(1, 6000), return_dict=True), tuple)


@torch.no_grad()
def test_the_configuration_may_ask_for_states_and_attentions() -> None:
    model = build("ForCTC", output_hidden_states=True, output_attentions=True)
    output = model(noise(1, 6000))
    assert len(output.hidden_states) == 3
    assert output.attentions[0].shape == (1, 3, 18, 18)
    silent = model(noise(1, 6000), output_hidden_states=False, output_attentions=False)
    assert list(silent) == ["logits"]
