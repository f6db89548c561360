"""Environments: an adapter for Gymnasium, and tasks made of TensorFlow."""

from keras_sparse_rl import _tf_agents  # says what is missing, first of all
from keras_sparse_rl.environments.barcode_bandit import BarcodeBandit
from keras_sparse_rl.environments.bernoulli_bandit import BernoulliBandit
from keras_sparse_rl.environments.cart_pole import CartPole
from keras_sparse_rl.environments.compositional_bandit import (
    CompositionalBandit,
)
from keras_sparse_rl.environments.contextual_bandit import ContextualBandit
from keras_sparse_rl.environments.contextual_task import ContextualTask
from keras_sparse_rl.environments.go_to_target import GoToTarget
from keras_sparse_rl.environments.grid_world_values import grid_world_values
from keras_sparse_rl.environments.gymnasium_environment import (
    GymnasiumEnvironment,
)
from keras_sparse_rl.environments.in_graph_environment import InGraphEnvironment
from keras_sparse_rl.environments.large_action_grid import LargeActionGrid
from keras_sparse_rl.environments.numpad import Numpad
from keras_sparse_rl.environments.omniglot import load_omniglot
from keras_sparse_rl.environments.omniglot_bandit import OmniglotBandit
from keras_sparse_rl.environments.random_grid_world import RandomGridWorld
from keras_sparse_rl.environments.repeat_previous import RepeatPrevious
from keras_sparse_rl.environments.t_maze import TMaze
from keras_sparse_rl.environments.two_step import TwoStep
from keras_sparse_rl.environments.walk_to_target import WalkToTarget
from keras_sparse_rl.environments.water_maze import WaterMaze
from keras_sparse_rl.environments.with_previous_action_and_reward import (
    WithPreviousActionAndReward,
)

__all__ = [
    "BarcodeBandit",
    "BernoulliBandit",
    "CartPole",
    "CompositionalBandit",
    "ContextualBandit",
    "ContextualTask",
    "GoToTarget",
    "GymnasiumEnvironment",
    "InGraphEnvironment",
    "LargeActionGrid",
    "Numpad",
    "OmniglotBandit",
    "RandomGridWorld",
    "RepeatPrevious",
    "TMaze",
    "TwoStep",
    "WalkToTarget",
    "WaterMaze",
    "WithPreviousActionAndReward",
    "grid_world_values",
    "load_omniglot",
]
