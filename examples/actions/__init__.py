"""Human actions from an inertial unit and a skeleton, any of which may be missing: UTD-MHAD. Never imports derl/."""
