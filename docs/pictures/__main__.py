"""Draw every picture again."""

from pathlib import Path

from . import blocks, patterns

IMAGES = Path(__file__).parents[1] / "images"


def main() -> None:
    """Write docs/images/blocks and docs/images/missing."""
    for folder, pictures in (("blocks", blocks.draw()), ("missing", patterns.draw())):
        (IMAGES / folder).mkdir(exist_ok=True)
        for name, canvas in pictures.items():
            canvas.save(IMAGES / folder / f"{name}.svg")


if __name__ == "__main__":
    main()
