"""A picture of each block, with its shapes and the numbers of its equations."""

from .canvas import Canvas


def draw() -> dict[str, Canvas]:
    """Draw all of them, by the name of the file."""
    return {
        "model": model(),
        "encoder": encoder(),
        "disentangler": disentangler(),
        "reconstructor": reconstructor(),
        "fusion": fusion(),
    }


def model() -> Canvas:
    """How the blocks follow one another in DERL."""
    c = Canvas(480, 470, "The blocks in the order of the data: encoder, disentangler, router of views, transformer")
    c.box(124, 6, 220, 40, "sequences (B, L_m, D_m)", "text, audio, or any others")
    c.arrow((234, 46), (234, 68))
    c.box(124, 68, 220, 40, "what is missing is erased", "modx.missing, eq. 1", kind="router")
    c.arrow((234, 108), (234, 130))
    c.box(124, 130, 220, 40, "BottleneckEncoder", "eq. 2: N tokens per modality (B, N, D)")
    c.arrow((234, 170), (234, 192))
    c.box(124, 192, 220, 40, "HybridExpertDisentangler", "eq. 3-4: two views of every token")
    c.arrow((177, 232), (177, 254))
    c.box(124, 254, 106, 40, "private views", "M x (B, N, D)", kind="private")
    c.arrow((291, 232), (291, 254))
    c.box(238, 254, 106, 40, "shared views", "M x (B, N, D)", kind="shared")
    c.arrow((177, 294), (177, 316))
    c.arrow((291, 294), (291, 316))
    c.box(124, 316, 220, 40, "ModalityRouter", "eq. 13-15: weighs 2 M views (B, N, D)")
    c.arrow((234, 356), (234, 378))
    c.box(124, 378, 220, 40, "TransformerEncoder", "eq. 16, then a head (eq. 17)")
    c.text(234, 442, "dashed: in training only", "small")
    c.box(4, 254, 100, 40, "orthogonality", "eq. 5")
    c.arrow((124, 274), (104, 274), kind="dashed")
    c.box(364, 192, 112, 102, "reconstruction", "MultiLevel-", "Reconstructor", "eq. 6-12")
    c.arrow((344, 212), (364, 212), kind="dashed")
    c.arrow((344, 274), (364, 274), kind="dashed")
    return c


def encoder() -> Canvas:
    """BottleneckEncoder, for one modality."""
    c = Canvas(480, 356, "BottleneckEncoder: learned tokens attend to all frames, and only they leave")
    c.box(6, 6, 130, 40, "tokens (N, D)", "learned, one set", kind="shared")
    c.box(176, 6, 298, 40, "frames of a modality (B, L, D_m)", "with a mask of the frames to attend to")
    c.arrow((325, 46), (325, 72))
    c.box(176, 72, 298, 40, "linear layer", "D_m to D, of each modality")
    c.arrow((71, 46), (71, 140))
    c.arrow((325, 112), (325, 140))
    c.box(6, 140, 130, 30, "N rows", kind="shared")
    c.box(136, 140, 338, 30, "L rows")
    c.arrow((240, 170), (240, 196))
    c.box(
        6,
        196,
        468,
        40,
        "+ positions (N + L, D), then transformer blocks",
        "every row sees all rows that the mask shows",
    )
    c.arrow((71, 236), (71, 262))
    c.box(6, 262, 130, 40, "(B, N, D)", "leaves", kind="shared")
    c.box(136, 262, 338, 40, "L rows", "stay behind: the last block does not compute them", kind="group")
    c.text(240, 332, "eq. 2, for every modality apart", "small")
    return c


def disentangler() -> Canvas:
    """HybridExpertDisentangler, for two modalities."""
    c = Canvas(480, 410, "HybridExpertDisentangler: private experts of each modality, and shared experts of all")
    for x, name in ((6, "text"), (328, "audio")):
        c.box(x, 6, 146, 40, f"{name} tokens", "(B, N, D)")
        c.arrow((x + 73, 46), (x + 73, 72))
        c.box(x, 72, 146, 56, f"router of {name}", "softmax(logits / τ)", "P + S weights, eq. 3", kind="router")
        c.arrow((x + 73, 128), (x + 73, 172))
        c.box(x, 172, 146, 56, "P private experts", f"of {name} alone", "D to H to D", kind="private")
        c.arrow((x + 73, 228), (x + 73, 284))
        c.box(x, 284, 146, 56, name, "private view (B, N, D)", "Σ weight · expert, eq. 4", kind="private")
    c.box(166, 172, 148, 56, "S shared experts", "of all modalities", "D to H to D", kind="shared")
    c.arrow((79, 150), (205, 150), (205, 172))
    c.arrow((401, 150), (275, 150), (275, 172))
    for x, name in ((166, "text"), (244, "audio")):
        c.arrow((x + 35, 228), (x + 35, 284))
        c.box(x - 2, 284, 74, 56, name, "shared view", "eq. 4", kind="shared")
    c.text(240, 372, "A token's P + S weights sum to 1 over both kinds of expert.", "small")
    c.text(240, 392, "One call runs them all: modx.ops.expert_mixture", "small")
    return c


def reconstructor() -> Canvas:
    """MultiLevelReconstructor, for one modality."""
    c = Canvas(480, 356, "MultiLevelReconstructor: networks rebuild the complete features and views at three levels")
    c.text(84, 12, "of the corrupted input", "small")
    c.text(396, 12, "targets, of the complete input", "small")
    rows = [
        (26, "features", "(B, N, D)", "R1", "input, eq. 6", "features", "eq. 7", ""),
        (96, "private view", "(B, N, D)", "R2", "disentangled, eq. 8", "private view", "eq. 9", "private"),
        (146, "shared view", "(B, N, D)", "R2", "disentangled, eq. 8", "shared view", "eq. 9", "shared"),
        (216, "[private; shared]", "(B, N, 2 D)", "R3", "joint, eq. 10", "features", "eq. 11", ""),
    ]
    for y, source, shape, network, level, target, loss, kind in rows:
        c.box(6, y, 156, 42, source, shape, kind=kind)
        c.arrow((162, y + 21), (182, y + 21))
        c.box(182, y, 116, 42, network, level, kind="router")
        c.arrow((298, y + 21), (324, y + 21), kind="dashed")
        c.box(324, y, 150, 42, target, f"mean |difference|, {loss}", kind=kind)
    c.box(182, 286, 292, 42, "reconstruction_loss, total", "eq. 12: a third of their sum, over all modalities")
    c.arrow((399, 258), (399, 286), kind="dashed")
    return c


def fusion() -> Canvas:
    """ModalityRouter."""
    c = Canvas(480, 330, "ModalityRouter: weights for every token, made from all views side by side")
    for number, (name, kind) in enumerate(
        (("private", "private"), ("private", "private"), ("shared", "shared"), ("shared", "shared"))
    ):
        c.box(6 + 118 * number, 6, 114, 42, name, ("text", "audio")[number % 2] + " (B, N, D)", kind=kind)
        c.arrow((63 + 118 * number, 48), (63 + 118 * number, 74))
    c.box(6, 74, 468, 30, "side by side: (B, N, I D), here I = 4 views")
    c.arrow((130, 104), (130, 130))
    c.box(6, 130, 248, 42, "two-layer MLP", "eq. 14: I logits a token", kind="router")
    c.arrow((130, 172), (130, 198))
    c.box(6, 198, 248, 42, "softmax(logits / τ)", "eq. 14: weights (B, N, I); absent views: 0", kind="router")
    c.arrow((254, 219), (300, 219))
    c.arrow((387, 104), (387, 198))
    c.box(300, 198, 174, 42, "Σ weight · view", "eq. 15")
    c.arrow((387, 240), (387, 266))
    c.box(300, 266, 174, 42, "fused (B, N, D)")
    return c
