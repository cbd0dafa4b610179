"""The page of `pose2seg-app` and of `--mode=app`: move a joint of a person, and the mask follows.

`page` holds the components and their events, `scenes` opens photos and pose files, `pictures` draws. What can be done to a
scene without a page is in `prediction.scene`.
"""

import threading
from typing import Any

from pose2seg_jax.errors import UserError
from pose2seg_jax.program.app.page import Page
from pose2seg_jax.program.app.scenes import Networks
from pose2seg_jax.weights.files import Weights

_SYSTEM_FONTS = ["system-ui", "sans-serif"]  # others would be fetched


def _import_gradio() -> Any:
    try:
        import gradio
    except ImportError:
        raise UserError("the page needs Gradio: pip install 'pose2seg_jax[app]'.") from None
    return gradio


def launch(loaded: Weights, dtype: str = "float32", **options: Any) -> Any:
    """Serves the page until it is interrupted, on 127.0.0.1:7860 unless GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say otherwise.

    Args:
        loaded: the network of the masks.
        dtype: of the computation.
        **options: of `gradio.Blocks.launch`.

    Returns:
        What `gradio.Blocks.launch` returns.

    Raises:
        UserError: Gradio is not installed, or the network has no segmentation branch.
    """
    gradio = _import_gradio()
    networks = Networks(loaded, dtype)
    networks.predictor(False)  # a network that cannot predict is refused now
    threading.Thread(target=networks.warm, daemon=True).start()
    theme = gradio.themes.Soft(font=_SYSTEM_FONTS, font_mono=["monospace"])
    usual = {"theme": theme, "show_error": True, "max_file_size": "100mb", "ssr_mode": False}
    return Page(gradio, networks).blocks.launch(**{**usual, **options})
