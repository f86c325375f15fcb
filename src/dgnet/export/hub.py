"""Models to the Hugging Face Hub; `dgnet.load("hub:user/name")` brings them back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from dgnet.errors import UserError
from dgnet.weights.foreign import shown


def push(repo: str, files: Mapping[str, Path], *, private: bool, token: str | None, message: str) -> str:
    """Put files into a repository of the hub, in one commit, making it where there is none; returns its address.

    Raises UserError for a name that is none, a missing package, and whatever the hub refuses.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise UserError(f"{repo}: write it as user/name, the repository that is to hold the model")
    try:
        from huggingface_hub import CommitOperationAdd, HfApi
    except ImportError as error:
        raise UserError("push_to_hub: needs huggingface_hub: pip install 'dgnet[hub]'") from error
    api = HfApi(token=token)
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in files.items()]
    try:
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.create_commit(repo, operations, commit_message=message)
    except Exception as error:  # the hub's own, and those of the network below it, have no base of their own
        reason = shown((str(error).strip() or repr(error)).splitlines()[0])
        raise UserError(
            f"{repo}: the hub did not take it ({reason}); a token that may write is needed (hf auth login), and a "
            "repository of yours"
        ) from error
    return str(address)
