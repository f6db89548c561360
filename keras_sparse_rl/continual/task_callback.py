import keras

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.callbacks.model_optimizers import ModelOptimizers
from keras_sparse_rl.continual.task_model import TaskModel
from keras_sparse_rl.optimizers.kernel_slots import without_wrapper


class TaskCallback(keras.callbacks.Callback):
    """Learns one task of a `TaskModel` in one `fit`; the base of both methods.

    Training starts with all weights in use, those that no earlier task owns
    trained, and a fresh optimizer (its moments and its step, and with it the
    learning rate's schedule, start anew). Then a subclass says which weights
    the task keeps, in `choose_masks`. Put it after callbacks that change
    weights when training ends (`EarlyStopping`). The optimizer must be
    `optimizers.Powerprop(...)`, whatever is inside it. A run that
    `BackupAndRestore` resumes goes on in the task it was interrupted in.

    Args:
        task: str, the name of the task, for `TaskModel.use_task`.
        retrain_epochs: int, how many of the last epochs of `fit` train what
            the task keeps alone; 0 chooses when `fit` ends.

    Raises:
        TypeError: when training starts, if the model is not a `TaskModel`.
        ValueError: if `task` is not a name; and, when training starts, if the
            task has been learned, the optimizer does not hold the weights of
            old tasks, or `fit` has no epoch beside `retrain_epochs`.

    Example:

    >>> from keras_sparse_rl.continual import PackNet, TaskCallback
    >>> issubclass(PackNet, TaskCallback)
    True
    """

    def __init__(self, task, retrain_epochs=0):
        super().__init__()
        if not isinstance(task, str) or not task:
            raise ValueError(
                "`task` is the name that use_task will know the task by. "
                f"Received: task={task!r}. Write a string, such as 'first'."
            )
        self.task = task
        self.retrain_epochs = check_integer(
            "retrain_epochs", retrain_epochs, minimum=0
        )

    def choose_masks(self):
        """Dict of kernel name to boolean array: what the task keeps."""
        raise TypeError(f"{type(self).__name__} does not define choose_masks.")

    def on_train_begin(self, logs=None):
        if not isinstance(self.model, TaskModel):
            raise TypeError(
                f"{type(self).__name__} trains a continual.TaskModel, and "
                f"'{self.model.name}' is a {type(self.model).__name__}. Write "
                "model = keras_sparse_rl.continual.TaskModel(model) and "
                "compile that."
            )
        ModelOptimizers(self.model).require_powerprop(
            self, "leaves the weights of old tasks alone"
        )
        if self.retrain_epochs >= self.params["epochs"]:
            raise ValueError(
                f"retrain_epochs={self.retrain_epochs} leaves no epoch to "
                "train before the choice. Call fit with more than "
                f"epochs={self.params['epochs']}."
            )

    def on_epoch_begin(self, epoch, logs=None):
        # Not earlier: BackupAndRestore may have put a half-learned task back.
        if not self.model.is_training(self.task):
            self.model.start_task(self.task)
            _start_anew(without_wrapper(self.model.optimizer), self.model)
        if epoch >= self.params["epochs"] - self.retrain_epochs:
            self._prune()

    def on_train_end(self, logs=None):
        if self.model.is_training(self.task):
            self._prune()
            self.model.keep_task(self.task)

    def _prune(self):
        if not self.model.is_pruned:
            self.model.prune_task(self.choose_masks())
            # The search may have evaluated in between.
            self.model.reset_metrics()


def _start_anew(optimizer, model):
    """Gives an optimizer the variables of a new one, the rate apart."""
    with model.distribute_strategy.scope():
        fresh = type(optimizer).from_config(optimizer.get_config())
        fresh.build(model.trainable_variables)
    for variable, value in zip(
        optimizer.variables, fresh.variables, strict=True
    ):
        variable.assign(keras.ops.convert_to_numpy(value))
