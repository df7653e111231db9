"""Activations and their derivatives inside a kernel, in float32.

All except ReLU have the form z c(z), where c is a sigmoid or the normal distribution function. In half precision, the
sigmoid of an odd polynomial approximates the latter, with a third of the instructions of erf. The GELU's error is at
most 2.6e-5, below the resolution of half precision. z² is clamped because the polynomial is not monotonic beyond
|z| = 11; beyond |z| = 5.7 the approximation is 0 or 1 anyway.
"""

import triton
import triton.language as tl


@triton.jit
def activate(z, ACTIVATION: tl.constexpr, EXACT: tl.constexpr):
    """Compute act(z)."""
    if ACTIVATION == "relu":
        value = tl.where(z <= 0.0, 0.0, z)  # a maximum would turn NaN into 0
    elif ACTIVATION == "silu":
        value = z * tl.sigmoid(z)
    elif ACTIVATION == "gelu_tanh":
        s, _ = _tanh_gelu_sigmoid(z)
        value = z * s
    else:
        tl.static_assert(ACTIVATION == "gelu", "the kernels have no such activation")
        value = z * _normal_cdf(z, EXACT)
    return value


@triton.jit
def activate_with_derivative(z, ACTIVATION: tl.constexpr, EXACT: tl.constexpr):
    """Compute act(z) and act'(z)."""
    if ACTIVATION == "relu":
        value = tl.where(z <= 0.0, 0.0, z)
        slope = tl.where(z <= 0.0, 0.0, 1.0)
    elif ACTIVATION == "silu":
        s = tl.sigmoid(z)
        value = z * s
        slope = s * (1.0 + z - value)
    elif ACTIVATION == "gelu_tanh":
        s, inner_slope = _tanh_gelu_sigmoid(z)
        value = z * s
        slope = s + value * (1.0 - s) * inner_slope
    else:
        tl.static_assert(ACTIVATION == "gelu", "the kernels have no such activation")
        HALF_LOG2_E: tl.constexpr = 0.7213475204  # exp(-z² / 2) = exp2(-HALF_LOG2_E z²)
        INVERSE_SQRT_2_PI: tl.constexpr = 0.3989422804
        c = _normal_cdf(z, EXACT)
        value = z * c
        slope = c + z * tl.exp2(-HALF_LOG2_E * z * z) * INVERSE_SQRT_2_PI
    return value, slope


@triton.jit
def _tanh_gelu_sigmoid(z):
    """Compute the tanh GELU divided by z, the sigmoid of LINEAR z + CUBIC z³, and that polynomial's derivative."""
    LINEAR: tl.constexpr = 1.5957691216  # sqrt(8 / pi)
    CUBIC: tl.constexpr = 0.0713548163  # 0.044715 LINEAR
    THREE_CUBIC: tl.constexpr = 0.2140644488
    return tl.sigmoid(z * (LINEAR + CUBIC * z * z)), LINEAR + THREE_CUBIC * z * z


@triton.jit
def _normal_cdf(z, EXACT: tl.constexpr):
    """Compute the normal distribution function by erf, or fit it by the sigmoid of LINEAR z + CUBIC z³ - QUINTIC z⁵."""
    SQRT_HALF: tl.constexpr = 0.7071067812
    LINEAR: tl.constexpr = 1.595016
    CUBIC: tl.constexpr = 0.0740112
    QUINTIC: tl.constexpr = 0.0007033
    LARGEST_SQUARE: tl.constexpr = 32.0
    if EXACT:
        c = 0.5 + 0.5 * tl.erf(z * SQRT_HALF)
    else:
        q = tl.minimum(z * z, LARGEST_SQUARE)
        c = tl.sigmoid(z * (LINEAR + q * (CUBIC - QUINTIC * q)))
    return c
