"""The Hugging Face Hub, for the sources that keep their weights there.

Files that this machine has are used without asking the network. For others the Hub is asked once, for at most 10 s per
wait, before a library begins its own attempts: without internet those take the better part of a minute.
"""

import importlib
import logging
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from types import ModuleType

from xaikit.foundation.errors import BadInput, MissingExtra, UnknownName

_LOG = logging.getLogger("xaikit")
_SECONDS = 10.0


def package(name: str) -> ModuleType:
    """Return an optional package, whose extra has its name.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtra(name, name) from error


def check_reached(repository: str, name: str, remedy: str) -> None:
    """Check that the Hub answers and has a repository.

    Args:
        repository: name on the Hub, OWNER/NAME.
        name: name of the model, for the message.
        remedy: what to do without internet, for the message.

    Raises:
        UnknownName: the Hub has no such repository; the message suggests those that this machine keeps.
        BadInput: the Hub cannot be reached.
    """
    hub = package("huggingface_hub")
    try:
        hub.HfApi().model_info(repository, timeout=_SECONDS)
    except hub.errors.RepositoryNotFoundError as error:
        kept = [f"{name.partition('/')[0]}/{found}" for found in kept_names()]
        raise UnknownName("model", name, kept, "the Hugging Face Hub has no public one of this name") from error
    except Exception as error:  # the Hub's client has errors of three packages
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BadInput(f"{name}: could not download the weights ({reason}); {remedy}") from error


def downloaded(repository: str, file: str, name: str, remedy: str) -> Path:
    """Return a file of the Hub, downloaded if this machine does not have it; the arguments are those above.

    Raises:
        UnknownName: the Hub has no such repository.
        BadInput: the Hub cannot be reached, or has no such file.
    """
    hub = package("huggingface_hub")
    try:
        return Path(hub.hf_hub_download(repository, file, local_files_only=True))
    except hub.errors.LocalEntryNotFoundError:
        check_reached(repository, name, remedy)
    try:
        _LOG.info("downloading %s of %s", file, repository)
        with redirect_stderr(StringIO()):  # its progress bar
            return Path(hub.hf_hub_download(repository, file))
    except (OSError, hub.errors.HfHubHTTPError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{name}: could not download the weights ({reason}); {remedy}") from error


def kept_names() -> list[str]:
    """Return the names of the models that this machine keeps, OWNER/NAME."""
    hub = package("huggingface_hub")
    try:
        kept = hub.scan_cache_dir(hub.constants.HF_HUB_CACHE)
    except hub.errors.CacheNotFound:
        return []
    return sorted(found.repo_id for found in kept.repos if found.repo_type == "model")
