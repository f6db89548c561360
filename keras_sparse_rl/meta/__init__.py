"""Meta-learning: tasks, their exact predictors, and the optima of bandits."""

from keras_sparse_rl.meta import tasks
from keras_sparse_rl.meta.bandit_optimum import BanditOptimum
from keras_sparse_rl.meta.bandit_policies import gittins_policy
from keras_sparse_rl.meta.bandit_policies import greedy_policy
from keras_sparse_rl.meta.bandit_policies import thompson_policy
from keras_sparse_rl.meta.bandit_policies import ucb1_policy
from keras_sparse_rl.meta.bayes_predictor import BayesPredictor
from keras_sparse_rl.meta.bernoulli_log_loss import BernoulliLogLoss
from keras_sparse_rl.meta.beta_bandit import BetaBandit
from keras_sparse_rl.meta.beta_bernoulli import BetaBernoulli
from keras_sparse_rl.meta.categorical_log_loss import CategoricalLogLoss
from keras_sparse_rl.meta.dirichlet_categorical import DirichletCategorical
from keras_sparse_rl.meta.dirichlet_markov import DirichletMarkov
from keras_sparse_rl.meta.gamma_exponential import GammaExponential
from keras_sparse_rl.meta.gittins_index import gittins_index
from keras_sparse_rl.meta.linear_probe import linear_probe
from keras_sparse_rl.meta.log_loss import LogLoss
from keras_sparse_rl.meta.lomax_log_loss import LomaxLogLoss
from keras_sparse_rl.meta.normal_log_loss import NormalLogLoss
from keras_sparse_rl.meta.normal_mean import NormalMean
from keras_sparse_rl.meta.piecewise_bernoulli import PiecewiseBernoulli
from keras_sparse_rl.meta.play_bandit import play_bandit
from keras_sparse_rl.meta.state_machine_similarity import StateMachineSimilarity
from keras_sparse_rl.meta.state_machine_similarity import (
    state_machine_similarity,
)

__all__ = [
    "BanditOptimum",
    "BayesPredictor",
    "BernoulliLogLoss",
    "BetaBandit",
    "BetaBernoulli",
    "CategoricalLogLoss",
    "DirichletCategorical",
    "DirichletMarkov",
    "GammaExponential",
    "LogLoss",
    "LomaxLogLoss",
    "NormalLogLoss",
    "NormalMean",
    "PiecewiseBernoulli",
    "StateMachineSimilarity",
    "gittins_index",
    "gittins_policy",
    "greedy_policy",
    "linear_probe",
    "play_bandit",
    "state_machine_similarity",
    "tasks",
    "thompson_policy",
    "ucb1_policy",
]
