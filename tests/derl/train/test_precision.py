"""Which precision ``--precision auto`` stands for."""

import pytest
import torch

from derl.train.trainer import has_bf16_units


@pytest.mark.skipif(torch.accelerator.is_available(), reason="asks about the processor")
@pytest.mark.parametrize(
    ("units", "expected"), [({"amx_bf16": True}, True), ({"avx512_bf16": True}, True), ({"avx512_f": True}, False)]
)
def test_auto_is_bf16_where_the_processor_has_units_for_it(monkeypatch, units, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    assert has_bf16_units() is expected
