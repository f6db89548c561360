import json

import keras
import numpy as np
from keras import ops

from keras_sparse_rl.sparsity.selection import find_sparse_kernels


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class TaskModel(keras.Model):
    """A model that learns one task after another and forgets none.

    Its sparse kernels are shared: every task uses some of their weights, by a
    mask of its own, and what one task uses no later task changes. Every other
    variable (biases, normalization with its averages, plain layers, a head of
    plain `Dense` among them) exists once a task. So an old task's outputs are
    the same, bit for bit, whatever is learned after it. Tasks are learned by
    `fit` with the callback `PackNet` or `EfficientPackNet`, and used after
    `use_task`. Files (`.keras`, `.weights.h5`) hold all tasks.

    Args:
        network: Keras model, built, with sparse layers that multiply by masks
            (`PowerpropDense` and its kin; `sparsity.sparsify` makes them).
            A head that each task shall have of its own is a plain Keras
            layer.

    Attributes:
        network: the model given; after `use_task`, `densify(model.network)`
            is a plain Keras model for that task.
        tasks: list of str, the tasks learned, in order.
        task: str or None, the task whose masks are in place.

    Raises:
        ValueError: if the network has no weights yet, or no sparse layer that
            multiplies by masks.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.continual import PackNet, TaskModel
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> from keras_sparse_rl.optimizers import Powerprop
    >>> model = TaskModel(keras.Sequential([
    ...     keras.Input((20,)),
    ...     PowerpropDense(30, activation="relu"),
    ...     keras.layers.Dense(1),
    ... ]))
    >>> model.compile(Powerprop("adam"), "mse")
    >>> for name in ("sum", "difference"):
    ...     x, y = keras.ops.ones((8, 20)), keras.ops.ones((8, 1))
    ...     callback = PackNet(name, num_tasks=2)
    ...     history = model.fit(x, y, callbacks=[callback], verbose=0)
    >>> model.use_task("sum")
    >>> [entry["new"] for entry in model.task_summary()]
    [0.5, 0.5]
    """

    def __init__(self, network, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(network, keras.Model) or not network.built:
            raise ValueError(
                "`network` must be a Keras model with weights: start it with "
                f"keras.Input(...), or call it first. Received: {network!r}."
            )
        self.network = network
        self._memory = _Memory()
        self._check_kernels()
        self.built = True

    def call(self, inputs, training=False):
        return self.network(inputs, training=training)

    @property
    def tasks(self):
        """The tasks learned, in order."""
        return list(self._memory.tasks)

    @property
    def task(self):
        """The task whose masks are in place, or None."""
        return self._memory.active

    @property
    def kernels(self):
        """Dict of name to `SparseKernel`: the kernels that tasks share."""
        return find_sparse_kernels(self.network)

    def use_task(self, task):
        """Puts a task's masks and variables in place, to compute with them.

        Args:
            task: str, one of `tasks`.

        Raises:
            ValueError: for a task that has not been learned.
        """
        if task not in self._memory.tasks:
            raise ValueError(
                f"`task` must be one of the tasks learned, {self.tasks}. "
                f"Received: task={task!r}. A task is learned by fit(..., "
                "callbacks=[EfficientPackNet(task, validation_data)])."
            )
        record = self._memory.tasks[task]
        for kernel, bits in zip(self.kernels.values(), record.masks):
            mask = _unpack(bits, kernel.shape)
            kernel.assign_masks(mask, np.zeros_like(mask))
        self._assign_others(record.others)
        self._memory.active = task
        self._memory.training = None

    def owned_masks(self):
        """Which weights some task uses, and no other may change.

        Returns:
            Dict of kernel name to boolean array.
        """
        owned = {}
        for position, (name, kernel) in enumerate(self.kernels.items()):
            owned[name] = np.zeros(kernel.shape, bool)
            for record in self._memory.tasks.values():
                owned[name] |= _unpack(record.masks[position], kernel.shape)
        return owned

    def is_training(self, task):
        """Whether `start_task` was called for it, and `keep_task` not yet."""
        return self._memory.training == task

    def start_task(self, task):
        """Makes ready to train: all weights in use, those not owned trained.

        What no task owns starts anew from the layer's initializer, all other
        variables from what they were before the first task.

        Args:
            task: str, a name that is not in `tasks`.

        Raises:
            ValueError: if the task has been learned already.
        """
        if task in self._memory.tasks:
            raise ValueError(
                f"Task {task!r} has been learned, and its weights do not "
                "change any more. Give the new task another name; to use the "
                f"old one, model.use_task({task!r})."
            )
        if self._memory.initial is None:
            self._memory.initial = self._others_now()
        for name, owned in self.owned_masks().items():
            kernel = self.kernels[name]
            if self._memory.tasks:
                kernel.start_anew(~owned)
            kernel.assign_masks(np.ones_like(owned), ~owned)
        self._assign_others(self._memory.initial)
        self._memory.training, self._memory.active = task, None
        self._memory.is_pruned = False

    @property
    def is_pruned(self):
        """Whether `prune_task` was called for the task being trained."""
        return self._memory.is_pruned

    def prune_task(self, masks):
        """Leaves the task being trained what it keeps; new weights train on.

        Args:
            masks: dict of kernel name to boolean array, the weights it uses.
        """
        for name, owned in self.owned_masks().items():
            kernel = self.kernels[name]
            kernel.assign_masks(masks[name], masks[name] & ~owned)
        self._memory.is_pruned = True

    def keep_task(self, task):
        """Remembers the task being trained: its weights are owned from now on.

        Args:
            task: str.
        """
        masks = [kernel.forward_mask() for kernel in self.kernels.values()]
        self._memory.tasks[task] = _Record(
            [np.packbits(mask) for mask in masks], self._others_now()
        )
        self.use_task(task)

    def task_summary(self):
        """What each task uses of the shared kernels.

        Returns:
            List of dicts, one a task: `task`, `density` (share of all weights
            that it uses), `new` (share that no task before it used) and
            `capacity` (share used by it or a task before), in [0, 1].
        """
        rows, owned = [], None
        for task, record in self._memory.tasks.items():
            mask = np.concatenate(
                [
                    _unpack(bits, kernel.shape).reshape(-1)
                    for bits, kernel in zip(record.masks, self.kernels.values())
                ]
            )
            owned = np.zeros_like(mask) if owned is None else owned
            new = float((mask & ~owned).mean())
            owned |= mask
            rows.append(
                {
                    "task": task,
                    "density": float(mask.mean()),
                    "new": new,
                    "capacity": float(owned.mean()),
                }
            )
        return rows

    def get_config(self):
        network = keras.saving.serialize_keras_object(self.network)
        return {
            "network": network,
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        network = keras.saving.deserialize_keras_object(
            config.pop("network"), custom_objects=custom_objects
        )
        return cls(network, **config)

    def save_own_variables(self, store):
        for key, value in self._memory.arrays().items():
            store[key] = value

    def load_own_variables(self, store):
        self._memory = _Memory.from_arrays(store)

    def _others_now(self):
        return [ops.convert_to_numpy(v).copy() for v in self._others()]

    def _assign_others(self, values):
        for variable, value in zip(self._others(), values, strict=True):
            variable.assign(value)

    def _others(self):
        """The variables that exist once a task."""
        shared = set()
        for kernel in self.kernels.values():
            shared.update(id(v) for v in (kernel.theta, *kernel.bookkeeping))
        return [v for v in self.network.weights if id(v) not in shared]

    def _check_kernels(self):
        for name, kernel in self.kernels.items():
            if kernel.is_stored:
                raise ValueError(
                    f"Layer '{name}' stores some of its weights alone, and a "
                    "new task trains all that are free. Build the model with "
                    "PowerpropDense, or sparsify(model, execution='dense')."
                )


class _Record:
    """One task: bits of its masks, and its own variables."""

    def __init__(self, masks, others):
        self.masks = masks
        self.others = others


class _Memory:
    """All tasks; on the host, and nothing that Keras would track."""

    def __init__(self):
        self.tasks = {}
        self.initial = None
        self.training = None
        self.is_pruned = False
        self.active = None

    def arrays(self):
        """Everything as a dict of arrays, for a file."""
        state = {
            "tasks": list(self.tasks),
            "training": self.training,
            "is_pruned": self.is_pruned,
            "active": self.active,
        }
        arrays = {"state": np.frombuffer(json.dumps(state).encode(), "uint8")}
        parts = {"initial_other": self.initial or []}
        for position, record in enumerate(self.tasks.values()):
            parts[f"task{position}_mask"] = record.masks
            parts[f"task{position}_other"] = record.others
        for name, values in parts.items():
            for position, value in enumerate(values):
                arrays[f"{name}{position}"] = value
        return arrays

    @classmethod
    def from_arrays(cls, arrays):
        """What `arrays` was made from."""
        memory = cls()
        keys = set(arrays.keys())
        if "state" not in keys:
            return memory

        def listed(name):
            values = []
            while f"{name}{len(values)}" in keys:
                values.append(np.array(arrays[f"{name}{len(values)}"]))
            return values

        state = json.loads(np.array(arrays["state"]).tobytes().decode())
        memory.training, memory.active = state["training"], state["active"]
        memory.is_pruned = state["is_pruned"]
        if memory.training is not None or state["tasks"]:
            memory.initial = listed("initial_other")
        for position, task in enumerate(state["tasks"]):
            memory.tasks[task] = _Record(
                listed(f"task{position}_mask"), listed(f"task{position}_other")
            )
        return memory


def _unpack(bits, shape):
    count = int(np.prod(shape))
    return np.unpackbits(bits, count=count).astype(bool).reshape(shape)
