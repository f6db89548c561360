"""Agents: TF-Agents on Keras 3, and a recurrent actor-critic."""

from keras_sparse_rl import _tf_agents  # says what is missing, first of all
from keras_sparse_rl.agents.action_distribution import action_distribution
from keras_sparse_rl.agents.action_distribution import action_entropy
from keras_sparse_rl.agents.action_distribution import action_log_probability
from keras_sparse_rl.agents.action_distribution import num_action_outputs
from keras_sparse_rl.agents.actor_critic_agent import ActorCriticAgent
from keras_sparse_rl.agents.actor_critic_policy import ActorCriticPolicy
from keras_sparse_rl.agents.advice import Advice
from keras_sparse_rl.agents.agent_member import AgentMember
from keras_sparse_rl.agents.build_model import actor_critic_model
from keras_sparse_rl.agents.build_model import build_model
from keras_sparse_rl.agents.default_policy_model import default_policy_model
from keras_sparse_rl.agents.distillation_agent import DistillationAgent
from keras_sparse_rl.agents.distillation_policy import DistillationPolicy
from keras_sparse_rl.agents.distillation_ppo_clip_agent import (
    DistillationPPOClipAgent,
)
from keras_sparse_rl.agents.distillation_term import DistillationTerm
from keras_sparse_rl.agents.evaluate import Evaluation
from keras_sparse_rl.agents.evaluate import evaluate
from keras_sparse_rl.agents.hyperparameter import Hyperparameter
from keras_sparse_rl.agents.keras_network import KerasNetwork
from keras_sparse_rl.agents.kl_regularized_agent import KLRegularizedAgent
from keras_sparse_rl.agents.kl_regularized_ppo_clip_agent import (
    KLRegularizedPPOClipAgent,
)
from keras_sparse_rl.agents.kl_regularized_sac_agent import (
    KLRegularizedSacAgent,
)
from keras_sparse_rl.agents.kl_to_default_term import KLToDefaultTerm
from keras_sparse_rl.agents.loss_term import LossTerm
from keras_sparse_rl.agents.mix_and_match_agent import MixAndMatchAgent
from keras_sparse_rl.agents.mix_and_match_model import mix_and_match_model
from keras_sparse_rl.agents.mixture_schedule import MixtureSchedule
from keras_sparse_rl.agents.policy_parameters import policy_parameters
from keras_sparse_rl.agents.policy_parameters import squashes
from keras_sparse_rl.agents.policy_parameters import unsquashed_action
from keras_sparse_rl.agents.population_member import PopulationMember
from keras_sparse_rl.agents.ppr_agent import PPRAgent
from keras_sparse_rl.agents.ppr_model import ppr_model
from keras_sparse_rl.agents.ppr_term import PPRTerm
from keras_sparse_rl.agents.reward_prediction_term import RewardPredictionTerm
from keras_sparse_rl.agents.segment import Segment
from keras_sparse_rl.agents.simple_policy import SimplePolicy
from keras_sparse_rl.agents.teacher import Teacher
from keras_sparse_rl.agents.train import train
from keras_sparse_rl.agents.train_population import PopulationResult
from keras_sparse_rl.agents.train_population import train_population

__all__ = [
    "ActorCriticAgent",
    "ActorCriticPolicy",
    "Advice",
    "AgentMember",
    "DistillationAgent",
    "DistillationPPOClipAgent",
    "DistillationPolicy",
    "DistillationTerm",
    "Evaluation",
    "Hyperparameter",
    "KLRegularizedAgent",
    "KLRegularizedPPOClipAgent",
    "KLRegularizedSacAgent",
    "KLToDefaultTerm",
    "KerasNetwork",
    "LossTerm",
    "MixAndMatchAgent",
    "MixtureSchedule",
    "PPRAgent",
    "PPRTerm",
    "PopulationMember",
    "PopulationResult",
    "RewardPredictionTerm",
    "Segment",
    "SimplePolicy",
    "Teacher",
    "action_distribution",
    "action_entropy",
    "action_log_probability",
    "actor_critic_model",
    "build_model",
    "default_policy_model",
    "evaluate",
    "mix_and_match_model",
    "num_action_outputs",
    "policy_parameters",
    "ppr_model",
    "squashes",
    "train",
    "train_population",
    "unsquashed_action",
]
