import copy

import keras
import tensorflow as tf
from keras import ops

from keras_sparse_rl._checks import check_flag
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.layers.cell_state import where
from keras_sparse_rl.layers.fast_core import FastCore
from keras_sparse_rl.layers.intervals import interval_phase
from keras_sparse_rl.layers.intervals import over_steps
from keras_sparse_rl.layers.powerprop_kernels import PowerpropKernels
from keras_sparse_rl.layers.ppr_checks import check_cell
from keras_sparse_rl.layers.ppr_checks import check_features
from keras_sparse_rl.layers.ppr_checks import check_inputs
from keras_sparse_rl.layers.ppr_checks import check_seen
from keras_sparse_rl.layers.ppr_checks import check_segment
from keras_sparse_rl.layers.ppr_checks import check_starts
from keras_sparse_rl.layers.slow_core import SlowCell
from keras_sparse_rl.layers.slow_core import slow_core

CELLS = {"lstm": keras.layers.LSTMCell, "gru": keras.layers.GRUCell}
CORES = ("perception", "prediction", "reaction")
INPUTS = {"perception": None, "prediction": (), "reaction": None}
STARTS = {"perception": "zeros", "prediction": "slow", "reaction": "slow"}


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PPRCore(PowerpropKernels, keras.layers.Layer):
    """Perception, prediction and reaction around a slow memory.

    See "Perception-Prediction-Reaction Agents for Deep Reinforcement
    Learning" by Stooke et al. 2020 (https://arxiv.org/abs/2006.15223). A slow
    recurrent core ticks at the first step of an episode and every
    `slow_period` steps after; at a tick it hears the last output of the
    perception core. Three fast cores run between ticks: *perception* knows the
    steps since the tick alone, *prediction* what was before it alone,
    *reaction* both. The reaction's output is the layer's; the others serve
    `losses.ppr_loss`.

    That much the paper's abstract says. What it leaves open is an option;
    the defaults are: perception starts an interval from zeros, prediction
    and reaction from the slow core's state, and prediction has no inputs.

    Args:
        units: int, width of each core.
        slow_period: int, steps between ticks of the slow core.
        cell: `"lstm"`, `"gru"`, or a Keras cell whose output has `units`
            units, of which every core gets a new one.
        slow_cell: what the slow core is made of: a Keras cell, or a layer with
            explicit state such as `GTrXL(..., return_state=True)`. None for
            another `cell`.
        inputs: dict from `"perception"`, `"prediction"`, `"reaction"` to what
            that core sees at each step: a tuple of keys of the layer's inputs
            (`"observation"` if they are one tensor) and `"slow"`, the slow
            core's output, or None for all inputs. Default: perception and
            reaction see all, prediction nothing.
        starts: dict from the same names to how that core starts an interval:
            `"zeros"`, `"slow"` (the slow core's state; if the cells differ, a
            learned linear map of its output) or `"keep"` (goes on).
        return_state: bool, whether the new state is returned too.
        alpha: float, at least 1, the exponent of Powerpropagation: makes the
            kernels of all cells and maps sparse-ready (`sparse_kernels`). None
            for plain ones. A `GTrXL` as `slow_cell` has an `alpha` of its
            own.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: tensor `(batch, time, features)`, or a dict of them.
        state: dict as returned by `initial_state` or an earlier call; None
            for the former. The prediction core is not in it unless it sees
            inputs: its state follows from the slow core's.
        is_first: boolean tensor `(batch, time)`, optional: true where an
            episode begins. All is forgotten there, and the slow core ticks.
        mask: boolean tensor `(batch, time)`, optional: false at padded steps,
            which leave the state as it is.
        inputs_mask: the name under which Keras hands on that mask when there
            are several tensors.
        training: bool, optional.
        return_cores: bool, whether to return the outputs of all three cores.
            Otherwise the prediction core is not computed.

    Returns:
        Tensor `(batch, time, units)`, the reaction's output; with
        `return_cores` a dict of `"perception"`, `"prediction"` and
        `"reaction"`. With `return_state` a tuple of it and the new state.

    Raises:
        ValueError: if an argument is out of range, perception is to hear the
            slow core, or inputs or state do not fit.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.layers import PPRCore
    >>> layer = PPRCore(8, slow_period=4, return_state=True)
    >>> x = np.ones((2, 10, 3), "float32")
    >>> outputs, state = layer(x, return_cores=True)
    >>> sorted(outputs), outputs["reaction"].shape, state["clock"].numpy()
    (['perception', 'prediction', 'reaction'], TensorShape([2, 10, 8]),
     array([2, 2], dtype=int32))
    >>> action_features, state = layer.step(x[:, 0], state)
    >>> action_features.shape
    TensorShape([2, 8])
    """

    def __init__(
        self,
        units,
        slow_period=16,
        cell="lstm",
        slow_cell=None,
        inputs=None,
        starts=None,
        return_state=False,
        alpha=None,
        **kwargs,
    ):
        super().__init__(alpha=alpha, **kwargs)
        self.units = check_integer("units", units)
        self.slow_period = check_integer("slow_period", slow_period)
        self.cell = check_cell(cell, self.units, tuple(CELLS))
        self.slow_cell = slow_cell
        self.inputs = check_inputs(inputs, INPUTS)
        self.starts = check_starts(starts, STARTS)
        self.return_state = check_flag("return_state", return_state)
        self.supports_masking = True
        names = (*CORES, "slow") if slow_cell is None else CORES
        cells = self._new_cells(names)
        slow_cell = cells.pop("slow", slow_cell)
        self._cells = cells
        self._slow = slow_core(slow_cell, dtype=self.dtype_policy, name="slow")
        self._cores = {
            name: FastCore(
                name,
                self._cells[name],
                self.starts[name],
                self._slow.leaf_sizes,
                self.dtype_policy,
            )
            for name in CORES
        }
        # Keras finds the variables in `_cells`, `_slow` and `_maps`: these
        # names are in saved files.
        self._maps = {
            name: core.start_map
            for name, core in self._cores.items()
            if core.start_map is not None
        }

    def read_layers(self):
        slow = [self._slow.cell] if isinstance(self._slow, SlowCell) else []
        return [*self._cells.values(), *slow, *self._maps.values()]

    def _new_cells(self, names):
        if isinstance(self.cell, str):
            kind, dtype = CELLS[self.cell], self.dtype_policy
            return {
                name: kind(self.units, dtype=dtype, name=name) for name in names
            }
        # Asked once: while Keras loads a file, it takes what is serialized
        # again, such as the cells of `StackedRNNCells`, for shared.
        config = self.cell.get_config()
        return {
            name: type(self.cell).from_config(
                {**copy.deepcopy(config), "name": name}
            )
            for name in names
        }

    @property
    def _remembers_prediction(self):
        """Whether the prediction's state does not follow from the slow one."""
        sees = self.inputs["prediction"]
        only_slow = sees is not None and set(sees) <= {"slow"}
        return not only_slow or self.starts["prediction"] == "keep"

    def build(self, inputs_shape):
        self._features = check_features(_as_dict(inputs_shape))
        self._slow.build((None, None, self.units))
        widths = {**self._features, "slow": self._slow.units}
        for name, cell in self._cells.items():
            seen = self._seen(name)
            check_seen(name, seen, self._features)
            if not cell.built:
                # A kernel cannot be empty: without inputs there is a zero.
                cell.build((None, sum(widths[key] for key in seen) or 1))
        for layer in self._maps.values():
            layer.build((None, self._slow.units))
        self.adopt_kernels(self.read_layers())

    def _seen(self, name):
        """The names of what a core sees."""
        seen = self.inputs[name]
        return tuple(sorted(self._features)) if seen is None else seen

    def initial_state(self, batch_size):
        """The state of agents that have seen nothing yet.

        Args:
            batch_size: int or scalar tensor.

        Returns:
            Dict of zeros: `clock`, int32 `(batch,)`, steps since the tick;
            `perceived`, the perception's last output; `slow_output`; and the
            cores' own states, `perception_0`, `slow_0`, `reaction_0`, ….
        """
        return {
            name: ops.zeros((batch_size, *shape), dtype)
            for name, (shape, dtype) in self._state_specs().items()
        }

    @tf.autograph.experimental.do_not_convert
    def step(self, inputs, state, is_first=None, training=False):
        """One step of acting: what a call on a segment of one step gives.

        Args:
            inputs: tensor `(batch, features)`, or a dict of them.
            state: dict from `initial_state` or an earlier call or step.
            is_first: tensor `(batch,)`, optional: true for rows whose episode
                begins with this step.
            training: bool.

        Returns:
            Tuple of the reaction's output, `(batch, units)`, and the new
            state.
        """
        inputs = keras.tree.map_structure(
            lambda x: ops.expand_dims(x, 1), inputs
        )
        if not self.built:
            self.build(keras.tree.map_structure(lambda x: x.shape, inputs))
        if is_first is not None:
            is_first = ops.expand_dims(is_first, 1)
        with self.effective_kernels(training):
            outputs, state = self._advance(
                inputs, state, is_first, None, training, False
            )
        return outputs["reaction"][:, 0], state

    def call(
        self,
        inputs,
        state=None,
        is_first=None,
        mask=None,
        inputs_mask=None,
        training=False,
        return_cores=False,
    ):
        mask = inputs_mask if mask is None else mask
        mask = next(
            (m for m in keras.tree.flatten(mask) if m is not None), None
        )
        with self.effective_kernels(training):
            outputs, state = self._advance(
                inputs, state, is_first, mask, training, return_cores
            )
        if not return_cores:
            outputs = outputs["reaction"]
        return (outputs, state) if self.return_state else outputs

    def _advance(self, inputs, state, is_first, mask, training, return_cores):
        inputs = _as_dict(inputs)
        check_segment(
            inputs,
            self._features,
            {"is_first": is_first, "mask": mask},
            state,
            self._state_specs(),
        )
        x = next(iter(inputs.values()))
        if state is None:
            state = self.initial_state(ops.shape(x)[0])
        if is_first is None:
            is_first = ops.zeros_like(x[:, :, 0], dtype="bool")
        is_first = ops.cast(is_first, "bool")
        if mask is not None:
            mask = ops.cast(mask, "bool")
            is_first = is_first & mask
        phase, clock = interval_phase(
            state["clock"], is_first, mask, self.slow_period
        )
        tick = ops.equal(phase, 0) if mask is None else (phase == 0) & mask
        # Time first, from here on.
        tick, first = ops.transpose(tick), ops.transpose(is_first)
        counted = None if mask is None else ops.transpose(mask)
        inputs = {
            key: ops.swapaxes(ops.cast(x, self.compute_dtype), 0, 1)
            for key, x in inputs.items()
        }
        new_state = {"clock": clock}

        def run(name, state, starts=None):
            outputs, after = self._cores[name].run(
                self._view(name, inputs, tick),
                state,
                starts,
                tick,
                first,
                counted,
                training,
            )
            new_state.update(after)
            return outputs

        perception = run("perception", state)
        perceived = ops.cast(state["perceived"], self.compute_dtype)
        new_state["perceived"] = perception[-1]
        heard = ops.concatenate([perceived[None], perception[:-1]], axis=0)
        heard = where(first, ops.zeros_like(heard), heard)
        slow_state = {
            key: state[key] for key in state if key.startswith("slow_")
        }
        slow, starts, slow_state = self._slow.at_ticks(
            heard, tick, first, slow_state, self._starts, training
        )
        new_state.update(slow_state)
        if any("slow" in self._seen(name) for name in CORES):
            inputs["slow"] = _held(slow, tick, state["slow_output"])
        outputs = {"perception": perception}
        if return_cores or self._remembers_prediction:
            before = state
            if not self._remembers_prediction:
                before = self._caught_up(state, training)
            outputs["prediction"] = run(
                "prediction", before, starts.get("prediction")
            )
        outputs["reaction"] = run("reaction", state, starts.get("reaction"))
        return (
            {key: ops.swapaxes(x, 0, 1) for key, x in outputs.items()},
            {key: new_state[key] for key in self._state_specs()},
        )

    def _view(self, name, inputs, tick):
        """What a core sees, side by side: `(time, batch, dim)`."""
        seen = [inputs[key] for key in self._seen(name)]
        if not seen:
            return ops.zeros((*ops.shape(tick), 1), self.compute_dtype)
        return ops.concatenate(seen, axis=-1) if len(seen) > 1 else seen[0]

    def _starts(self, output, leaves):
        """What each core starts from, by the slow core's output and state."""
        return {
            name: core.starts(output, leaves)
            for name, core in self._cores.items()
            if core.start == "slow"
        }

    def _caught_up(self, state, training):
        """The prediction's state: what it came to since the last tick."""
        prediction = self._cores["prediction"]
        output = ops.cast(state["slow_output"], self.compute_dtype)
        return prediction.after_tick(
            output if self.inputs["prediction"] else output[:, :1] * 0,
            prediction.starts(output, self._slow.leaves(state)),
            state["clock"],
            # One less than a whole interval: then it ticks.
            self.slow_period - 1,
            training,
        )

    def _state_specs(self):
        """Shape without batch, and dtype, of each part of the state."""
        dtype = self.compute_dtype
        specs = {
            "clock": ((), "int32"),
            "perceived": ((self.units,), dtype),
            "slow_output": ((self._slow.units,), dtype),
            **self._slow.state_specs(),
        }
        for name, core in self._cores.items():
            if name != "prediction" or self._remembers_prediction:
                specs.update(core.state_specs())
        # In the order in which nests of TensorFlow are flattened.
        return dict(sorted(specs.items()))

    def compute_mask(self, inputs, previous_mask):
        # One for each output in order: the state has none.
        return [previous_mask] if self.return_state else previous_mask

    def compute_output_spec(
        self,
        inputs,
        state=None,
        is_first=None,
        mask=None,
        inputs_mask=None,
        training=False,
        return_cores=False,
    ):
        batch, time = next(iter(_as_dict(inputs).values())).shape[:2]
        shape = (batch, time, self.units)
        outputs = keras.KerasTensor(shape, self.compute_dtype)
        if return_cores:
            outputs = {
                name: keras.KerasTensor(shape, self.compute_dtype)
                for name in CORES
            }
        if not self.return_state:
            return outputs
        return outputs, {
            name: keras.KerasTensor((batch, *shape), dtype)
            for name, (shape, dtype) in self._state_specs().items()
        }

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "units": self.units,
                "slow_period": self.slow_period,
                "cell": _serialized(self.cell),
                "slow_cell": _serialized(self.slow_cell),
                "inputs": dict(self.inputs),
                "starts": dict(self.starts),
                "return_state": self.return_state,
            }
        )
        return config

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        for name in ("cell", "slow_cell"):
            if isinstance(config[name], dict):
                config[name] = keras.saving.deserialize_keras_object(
                    config[name]
                )
        return cls(**config)


def _as_dict(inputs):
    return inputs if isinstance(inputs, dict) else {"observation": inputs}


def _held(slow, tick, before):
    """The slow core's output at every step, from the ticks."""
    before = ops.cast(before, slow.dtype)

    def step(carry, xs):
        held = where(xs[1], xs[0], carry[0])
        return [held], [held]

    shape = tuple(before.shape)
    return over_steps(step, [before], [slow, tick], [shape])[1][0]


def _serialized(cell):
    if cell is None or isinstance(cell, str):
        return cell
    return keras.saving.serialize_keras_object(cell)
