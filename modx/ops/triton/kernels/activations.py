"""Activations and their derivatives inside a kernel, in float32.

All but ReLU have the form z c(z), c a sigmoid or a normal distribution function. Half-precision GELU takes the
normal distribution function from a fit by a logistic one of an odd polynomial: the GELU is off by 2.6e-5 at most,
less than half precision resolves, for a third of erf's instructions. z² is clamped because the polynomial turns
around at |z| = 11; beyond |z| = 5.7 the fit is 0 or 1 anyway.
"""

import triton
import triton.language as tl


@triton.jit
def activate(z, ACTIVATION: tl.constexpr, EXACT: tl.constexpr):
    """act(z)."""
    if ACTIVATION == "relu":
        value = tl.where(z <= 0.0, 0.0, z)  # a maximum would turn NaN into 0
    elif ACTIVATION == "silu":
        value = z * tl.sigmoid(z)
    elif ACTIVATION == "gelu_tanh":
        value = z * tl.sigmoid(z * (1.5957691216 + 0.0713548163 * z * z))
    else:
        value = z * _normal_cdf(z, EXACT)
    return value


@triton.jit
def activate_with_derivative(z, ACTIVATION: tl.constexpr, EXACT: tl.constexpr):
    """act(z) and act'(z)."""
    if ACTIVATION == "relu":
        value = tl.where(z <= 0.0, 0.0, z)
        slope = tl.where(z <= 0.0, 0.0, 1.0)
    elif ACTIVATION == "silu":
        s = tl.sigmoid(z)
        value = z * s
        slope = s * (1.0 + z - value)
    elif ACTIVATION == "gelu_tanh":
        s = tl.sigmoid(z * (1.5957691216 + 0.0713548163 * z * z))
        value = z * s
        slope = s + value * (1.0 - s) * (1.5957691216 + 0.2140644488 * z * z)
    else:
        c = _normal_cdf(z, EXACT)
        value = z * c
        slope = c + z * tl.exp2(-0.7213475204 * z * z) * 0.3989422804
    return value, slope


@triton.jit
def _normal_cdf(z, EXACT: tl.constexpr):
    if EXACT:
        c = 0.5 + 0.5 * tl.erf(z * 0.7071067812)
    else:
        q = tl.minimum(z * z, 32.0)
        c = tl.sigmoid(z * (1.595016 + q * (0.0740112 - 0.0007033 * q)))
    return c
