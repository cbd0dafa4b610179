"""The page of this project as a Hugging Face Space runs it: `python app.py`."""

from pose2seg_jax.errors import run_program
from pose2seg_jax.program import app
from pose2seg_jax.weights import files

if __name__ == "__main__":
    run_program(lambda: app.launch(files.load()))
