"""Project settings: https://docs.kedro.org/en/stable/configure/configuration_basics/."""

from wind_kedro.configuration import BoundedConfigLoader
from wind_kedro.hooks import MlflowTags, RunStart

HOOKS = (RunStart(), MlflowTags())

CONFIG_LOADER_CLASS = BoundedConfigLoader

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # An overlay holds only what differs; lists, such as those of the cards, are replaced whole.
    "merge_strategy": {"parameters": "soft", "mlflow": "soft"},
    "config_patterns": {
        # The cards are globals, so that an overlay replaces a whole list of farms, and catalog and parameters see the same.
        "globals": ["globals*", "farms*", "markets*", "products*"],
        # As kedro-mlflow has it, for commands that read the configuration without a session.
        "mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"],
    },
}
