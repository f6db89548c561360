"""Sources of tasks for `fit`, each with its exact predictor."""

from keras_sparse_rl.meta.tasks.bandit_expert import BanditExpert
from keras_sparse_rl.meta.tasks.bernoulli import Bernoulli
from keras_sparse_rl.meta.tasks.dirichlet import Dirichlet
from keras_sparse_rl.meta.tasks.exponential import Exponential
from keras_sparse_rl.meta.tasks.gaussian import Gaussian
from keras_sparse_rl.meta.tasks.markov import Markov
from keras_sparse_rl.meta.tasks.piecewise import Piecewise
from keras_sparse_rl.meta.tasks.task import Task
