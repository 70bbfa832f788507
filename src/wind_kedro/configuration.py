"""The configuration loader: Kedro's, with each file checked before its values are built."""

from __future__ import annotations

import contextlib
import functools
import pickle
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.config.omegaconf_config import _NO_VALUE
from kedro.utils import find_kedro_project
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_yaml_loader
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError
from yaml.constructor import SafeConstructor
from yaml.cyaml import CParser  # type: ignore[attr-defined]
from yaml.resolver import Resolver

from wind_kedro.errors import WindKedroError
from wind_kedro.governance.provenance import Provenance
from wind_kedro.storage.bounds import check_yaml

#: Kedro passes over a name with one of these that is no file, and the values of base would then hold in silence.
_SUFFIXES = {".yml", ".yaml", ".json"}

#: Begins a text that stands for a list or a mapping of the globals. No file can have it: YAML allows no such character.
_STANDS_FOR = "\0globals:"
#: Begins a text that stands for a list of a file: OmegaConf would take seconds for the cards of a few hundred farms.
_LIST = "\0list:"
#: Types of values that OmegaConf takes as they are.
_PLAIN = {str, int, float, bool, type(None)}

#: The loader of this thread's run, and of the newest of the process, for threads that a runner started.
_of_this_thread = threading.local()
_newest: list[BoundedConfigLoader | None] = [None]


class ConfigurationError(WindKedroError):
    """A file of the configuration cannot be read; the message names it."""


class BoundedConfigLoader(OmegaConfigLoader):
    """`OmegaConfigLoader` that refuses in one line what it cannot read: not UTF-8, not YAML, too large, too deep, recursive,
    no mapping, the same key twice in a file or in two files of a folder.
    """

    def __init__(self, conf_source: str | Path, env: str | None = None, *args: Any, **options: Any) -> None:
        if env and (Path(env).is_absolute() or ".." in Path(env).parts):
            raise ConfigurationError(f"environment '{env}': is no folder of the configuration (conf/README.md)")
        self._lists: list[bytes] = []  # pickled
        super().__init__(conf_source, env, *args, **options)
        _of_this_thread.loader = _newest[0] = self

    def __getitem__(self, key: str) -> dict[str, Any]:
        """The configuration of a kind; two are more than what the files of base and the environment hold.

        Credentials of the default environment (conf/local) hold in every other one too, where its own come first: Kedro reads
        base and the environment of the run only. Parameters have `provenance`, which nodes take as any other parameter.
        """
        if key == "credentials" and key not in self and self.env not in {None, self.default_run_env}:
            self[key] = self._credentials()
        known = key in self
        config: dict[str, Any] = super().__getitem__(key)
        if not known:
            # OmegaConf would copy the cards value by value, and again for each reference: 20 s for a thousand farms.
            config = self._filled(config)
        if key == "parameters" and "provenance" not in config:
            config = {**config, "provenance": Provenance.collect(self._project(), config).model_dump()}
        if key == "globals":
            self[key] = config  # the cards of a thousand farms are parsed once a run
        return config

    def _credentials(self) -> dict[str, Any]:
        # By this loader: a second one would take over the resolvers of the process.
        found: dict[str, Any] = {}
        with contextlib.suppress(MissingConfigException):
            found |= self.load_and_merge_dir_config(
                f"{self.conf_source}/{self.default_run_env}", self.config_patterns["credentials"], "credentials", set(), True
            )
        with contextlib.suppress(MissingConfigException):
            found |= super().__getitem__("credentials")
        return dict(self._filled(found))

    def _project(self) -> Path:
        """The project's folder: around the configuration, else around the working directory."""
        here = Path.cwd()
        around = Path(self.conf_source).absolute().parent
        return find_kedro_project(around) or find_kedro_project(here) or here

    def _read_dir_configs(
        self,
        conf_path: str,
        patterns: Iterable[str],
        key: str,
        processed_files: set[Path],
        read_environment_variables: bool | None = False,
    ) -> dict[Path, DictConfig]:
        folder = Path(conf_path).as_posix()
        if not self._fs.isdir(folder):
            raise MissingConfigException(
                f"{folder}: no such folder; an environment is a folder of the configuration (conf/README.md)"
            )
        found = {
            Path(each)
            for pattern in patterns
            for each in self._fs.glob(f"{folder}/{pattern}")
            if not self.ignore_hidden or not self._is_hidden(each)
        }
        configs = {}
        for path in sorted(path for path in found if path.suffix in _SUFFIXES):
            configs[path] = self._read(path)
            processed_files.add(path)
            if read_environment_variables:
                self._resolve_environment_variables(configs[path])
        try:
            self._check_duplicates(key, configs)
        except ValueError as error:
            raise ConfigurationError(f"{' '.join(str(error).split())}: keep it in one of them") from None
        return configs

    @staticmethod
    def _soft_merge(config: dict[str, Any], env_config: dict[str, Any], env_path: str | None = None) -> dict[str, Any]:
        """Values of base with those of the environment, section by section; lists are replaced whole.

        Kedro's own makes configurations of OmegaConf of both, which takes as long as reading them where parameters are large.
        """
        return _merged(config, env_config)

    def _get_globals_value(self, variable: str, default_value: Any = _NO_VALUE) -> Any:
        """The value of ``${globals:variable}``: of lists and mappings a text that stands for them, see `__getitem__`."""
        found = self._global(variable, default_value)
        if found is _NO_VALUE or variable.startswith("_"):
            return super()._get_globals_value(variable, default_value)  # which raises
        return f"{_STANDS_FOR}{variable}" if isinstance(found, dict | list) else found

    def _global(self, variable: str, default_value: Any = _NO_VALUE) -> Any:
        """The value of the globals at a path of names with dots between them."""
        found: Any = self._globals
        for name in variable.split("."):
            if not isinstance(found, dict) or name not in found:
                return default_value
            found = found[name]
        return found

    def _filled(self, value: Any) -> Any:
        """A value with what its texts stand for in their place."""
        if isinstance(value, dict):
            return {name: self._filled(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._filled(each) for each in value]
        if isinstance(value, str) and value.startswith(_LIST):
            return pickle.loads(self._lists[int(value.removeprefix(_LIST))])  # noqa: S301 - of this process
        if not (isinstance(value, str) and value.startswith(_STANDS_FOR)):
            return value
        # A copy, in a fifth of the time that copy.deepcopy takes.
        return pickle.loads(pickle.dumps(self._global(value.removeprefix(_STANDS_FOR))))  # noqa: S301

    def _is_hidden(self, path: str) -> bool:
        try:
            return bool(super()._is_hidden(path))
        except (OSError, RuntimeError):  # a link to itself has no place; reading names it
            return False

    def _read(self, path: Path) -> DictConfig:
        # As in the messages about cards: conf/base/farms.yml.
        source = Path(self.conf_source).parent
        where = (path.relative_to(source) if path.is_relative_to(source) else path).as_posix()
        if not self._fs.isfile(path.as_posix()):  # opening a pipe would wait for ever
            raise ConfigurationError(f"{where}: is no regular file; put the file there, or remove it")
        try:
            with self._fs.open(path.as_posix()) as file:
                text = check_yaml(file.read(), where)
            values = pickle.loads(_parsed(text))  # noqa: S301 - of this process
            config = OmegaConf.create({} if values is None else self._without_lists(values, text))
        except OSError as error:
            raise ConfigurationError(f"{where}: cannot be read ({error.strerror or error})") from None
        # Neither quotes the file: it may hold secrets.
        except YAMLError as error:
            mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
            line = "" if mark is None else f" line {mark.line + 1}:"
            raise ConfigurationError(f"{where}:{line} {problem or 'not YAML'}") from None
        except (OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
            problem = " ".join(str(error).split()) or type(error).__name__
            raise ConfigurationError(f"{where}: holds what is no configuration ({problem})") from None
        if not isinstance(config, DictConfig):
            raise ConfigurationError(f"{where}: is a list; write a mapping, KEY: VALUE")
        strange = [name for name in config if not isinstance(name, str)]
        if strange:
            raise ConfigurationError(f"{where}: {strange[0]!r} is no name of a setting; put it in quotes, or remove it")
        return config

    def _without_lists(self, values: Any, text: str) -> Any:
        """The values of a file with texts in the place of lists at its top; where it has interpolations, as they are."""
        if not isinstance(values, dict) or "${" in text:
            return values
        found = dict(values)
        for name, value in values.items():
            if isinstance(value, list) and _is_plain(value):
                found[name] = f"{_LIST}{len(self._lists)}"
                self._lists.append(pickle.dumps(value))
        return found


def _is_plain(value: Any) -> bool:
    """Whether OmegaConf takes a value as it is."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(type(key) in _PLAIN for key in value) and all(map(_is_plain, value.values()))
    return type(value) in _PLAIN


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {name: _merged(under[name], value) for name, value in over.items() if _are_sections(under.get(name), value)}
    return {**under, **over, **both}


def _are_sections(*values: Any) -> bool:
    return all(isinstance(value, dict) for value in values)


@functools.lru_cache(maxsize=64)
def _parsed(text: str) -> bytes:
    """The values of a YAML text, pickled: a service reads the same files in each cycle, and parsing takes far longer."""
    return pickle.dumps(yaml.load(text, Loader=_loader()))  # noqa: S506 - a safe loader


@functools.cache
def _loader() -> Any:
    """OmegaConf's loader of YAML with the parser in C: cards of a thousand farms are 2 MB, and the one in Python takes four times
    as long.
    """
    rules: Any = get_yaml_loader()
    if not yaml.__with_libyaml__:
        return rules

    class Loader(CParser, rules):  # type: ignore[misc]
        def __init__(self, stream: str) -> None:
            CParser.__init__(self, stream)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)

    return Loader


def read_secrets(name: str) -> dict[str, str]:
    """The secrets of a name in credentials.yml, for the node that connects to a server with them.

    Configuration and parameters hold the name alone. The files are those of the run: base, conf/local and its environment, in
    which ``${oc.env:VARIABLE}`` reads an environment variable.

    Raises:
        ConfigurationError: if no file has an entry of that name. No message quotes a secret.
    """
    loader = getattr(_of_this_thread, "loader", None) or _newest[0]
    found: dict[str, Any] = {}
    if loader is not None:
        with contextlib.suppress(MissingConfigException):
            found = loader["credentials"]
    if not isinstance(found.get(name), dict):
        raise ConfigurationError(f"credentials '{name}' are in no credentials.yml; add them to conf/local/credentials.yml")
    return dict(found[name])
