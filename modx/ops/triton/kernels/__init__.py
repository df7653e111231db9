"""The GPU kernels in Triton's language. The modules of the folder above launch them."""
