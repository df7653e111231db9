"""Which of the kernels' two forms runs a call: fused, or wide with the vendor's products."""

MAX_WIDTH = {2: 256, 4: 128}  # by bytes of an element: the sums of a wider tile do not fit into the registers


def max_experts(width: int) -> int:
    """Experts of a bank in the fused form, which keeps the gradients of their gates in registers."""
    return 8 if width <= 128 else 4


def fits_fused(in_dim: int, out_dim: int, num_private: int, num_shared: int, element_size: int, exact: bool) -> bool:
    """Whether the fused form can run a call; exact float32 takes too many registers without matrix units."""
    width = max(in_dim, out_dim)
    return not exact and width <= MAX_WIDTH[element_size] and max(num_private, num_shared) <= max_experts(width)
