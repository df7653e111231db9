"""A training step as the tensors that it gives, and what absent content may change of them: nothing."""

import torch


def step(model, inputs, masks, keep, labels):
    """Prediction, loss and gradients of every parameter; buffers, which may be a memory, are as before."""
    model.zero_grad()
    buffers = [(part, part.clone()) for part in model.buffers()]
    output = model(inputs, masks, keep, labels)
    output.loss.backward()
    for part, former in buffers:
        part.copy_(former)
    return [output.prediction, output.loss, *(parameter.grad for parameter in model.parameters())]


def assert_absent_content_changes_nothing(model, inputs, masks, keep, labels):
    """Poison what is masked, in training and in evaluation mode."""
    for training in (True, False):
        model.train(training)
        expected = step(model, inputs, masks, keep, labels)
        for poison in (torch.nan, torch.inf, 1e30):
            content = {"text": 10**9, "audio": poison, "vision": poison}  # no token has this id
            spoiled = {
                name: torch.where(masks[name].view(masks[name].shape + (1,) * (part.ndim - 2)), part, content[name])
                for name, part in inputs.items()
            }
            got = step(model, spoiled, masks, keep, labels)
            assert all(part is None or part.isfinite().all() for part in got)
            torch.testing.assert_close(got, expected, rtol=0, atol=0)
