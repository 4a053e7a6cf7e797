"""Uploading a saved model to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from jaxembed.encoders.errors import EncoderError


def push_to_hub(
    folder: str | Path,
    repository: str,
    *,
    private: bool = False,
    message: str = "Upload model trained with jaxembed",
) -> str:
    """Uploads a model's folder, and returns its address; the repository is made if it is new.

    The token is that of `hf auth login` or of the variable HF_TOKEN; HF_ENDPOINT names another hub.

    Raises:
        EncoderError: the folder holds no model.
        ConnectionError: the hub cannot be reached, or refuses; the folder stays as it is.
    """
    from huggingface_hub import HfApi

    folder = Path(folder)
    if not (folder / "config.json").exists() and not (folder / "modules.json").exists():
        raise EncoderError(f"{folder} holds no model to upload; save one there first")
    hub = HfApi()
    try:
        repo = hub.create_repo(repository, private=private, exist_ok=True).repo_id
        hub.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
    except Exception as error:  # of the network, of the hub, or of a name that cannot be
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ConnectionError(
            f"{folder} could not be uploaded to {repository} ({reason}); later, this does it:"
            f" hf upload {repository} {folder}"
        ) from error
    return f"{hub.endpoint}/{repo}"
