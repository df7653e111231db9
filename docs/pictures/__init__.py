"""The pictures of the pages: ``python -m docs.pictures`` draws them into docs/images."""
