from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.continual.mask_search import packnet_mask
from keras_sparse_rl.continual.task_callback import TaskCallback


class PackNet(TaskCallback):
    """Every task gets the same share of the weights and uses all older ones.

    After training, each kernel keeps the largest of the weights that were
    free, `1 / tasks left` of them, for this task; the others are given to the
    next. The task computes with its own weights and those of all tasks before
    it ("PackNet: Adding Multiple Tasks to a Single Network by Iterative
    Pruning", Mallya & Lazebnik 2018, https://arxiv.org/abs/1711.05769,
    section 3). Two things differ: what is given away starts anew from the
    initializer instead of from 0, where an exponent above 1 would hold it;
    and biases exist once a task. Use and errors as `TaskCallback`.

    Args:
        task: str, the name of the task.
        num_tasks: int, how many tasks will be learned in all.
        retrain_epochs: int, how many of the last epochs of `fit` train what
            the task keeps alone; 0 prunes when `fit` ends.

    Raises:
        ValueError: as `TaskCallback`; and, when training starts, if
            `num_tasks` have been learned already.

    Example:

    >>> from keras_sparse_rl.continual import PackNet
    >>> callback = PackNet("second", num_tasks=10, retrain_epochs=2)
    >>> callback.task
    'second'
    """

    def __init__(self, task, num_tasks, retrain_epochs=0):
        super().__init__(task, retrain_epochs)
        self.num_tasks = check_integer("num_tasks", num_tasks)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        if len(self.model.tasks) >= self.num_tasks:
            raise ValueError(
                f"All num_tasks={self.num_tasks} shares of the weights are "
                f"given away, to {self.model.tasks}. PackNet must know from "
                "the start how many tasks come; EfficientPackNet need not."
            )

    def choose_masks(self):
        left = self.num_tasks - len(self.model.tasks)
        return {
            name: owned
            | packnet_mask(self.model.kernels[name].weight(), ~owned, left)
            for name, owned in self.model.owned_masks().items()
        }
