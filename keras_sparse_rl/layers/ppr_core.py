import keras
import tensorflow as tf
from keras import ops

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_flag
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import fits
from keras_sparse_rl.layers.intervals import interval_phase
from keras_sparse_rl.layers.intervals import over_steps
from keras_sparse_rl.layers.powerprop_kernels import PowerpropKernels
from keras_sparse_rl.layers.powerprop_kernels import check_keras_cells
from keras_sparse_rl.layers.slow_core import SlowCell
from keras_sparse_rl.layers.slow_core import SlowLayer
from keras_sparse_rl.layers.slow_core import leaves_of
from keras_sparse_rl.layers.slow_core import packed
from keras_sparse_rl.layers.slow_core import where

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
            kernels of all cells and maps sparse-ready (`sparse_kernels`), if
            the cells are Keras' own. None for plain ones. A `GTrXL` as
            `slow_cell` has an `alpha` of its own.
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
        self.cell = _check_cell(cell, self.units)
        self.slow_cell = slow_cell
        self.inputs = _check_options("inputs", inputs, INPUTS, _check_inputs)
        self.starts = _check_options("starts", starts, STARTS, _check_start)
        self.return_state = check_flag("return_state", return_state)
        self.supports_masking = True
        self._cells = {name: self._new_cell(name) for name in CORES}
        if slow_cell is None:
            slow_cell = self._new_cell("slow")
        elif isinstance(slow_cell, keras.layers.RNN):
            slow_cell = slow_cell.cell
        kind = SlowCell if hasattr(slow_cell, "state_size") else SlowLayer
        self._slow = kind(slow_cell, dtype=self.dtype_policy, name="slow")
        self._maps = {
            name: keras.layers.Dense(
                sum(leaves_of(self._cells[name].state_size)),
                dtype=self.dtype_policy,
                name=f"{name}_start",
            )
            for name in CORES
            if self.starts[name] == "slow"
            and self._slow.leaf_sizes != leaves_of(self._cells[name].state_size)
        }
        if alpha is not None:
            self._adopted()

    def _adopted(self):
        """The layers whose kernels `alpha` is about."""
        cells = list(self._cells.values())
        if isinstance(self._slow, SlowCell):
            cells.append(self._slow.cell)
        found = [part for cell in cells for part in check_keras_cells(cell)]
        return [*found, *self._maps.values()]

    def _new_cell(self, name):
        if isinstance(self.cell, str):
            return CELLS[self.cell](
                self.units, dtype=self.dtype_policy, name=name
            )
        config = {**self.cell.get_config(), "name": name}
        return type(self.cell).from_config(config)

    @property
    def _remembers_prediction(self):
        """Whether the prediction's state does not follow from the slow one."""
        sees = self.inputs["prediction"]
        only_slow = sees is not None and set(sees) <= {"slow"}
        return not only_slow or self.starts["prediction"] == "keep"

    def build(self, inputs_shape):
        self._features = _features(inputs_shape)
        self._slow.build((None, None, self.units))
        sizes = {**self._features, "slow": self._slow.units}
        for name, cell in self._cells.items():
            seen = self._seen(name)
            for key in seen:
                if key not in sizes:
                    raise ValueError(
                        f"`inputs` of {name!r} must name inputs of the layer, "
                        f"{sorted(self._features)}, or 'slow'. Received: "
                        f"{key!r}."
                    )
            if not cell.built:
                # A kernel cannot be empty: without inputs there is a zero.
                cell.build((None, sum(sizes[key] for key in seen) or 1))
        for layer in self._maps.values():
            layer.build((None, self._slow.units))
        if self.alpha is not None:
            self.adopt_kernels(self._adopted())

    def _seen(self, name):
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
        self._check(inputs, state, is_first, mask)
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
        steps = tick, first, counted
        new_state = {"clock": clock}
        perception = self._run(
            "perception", inputs, None, steps, state, new_state, training
        )
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
            outputs["prediction"] = self._run(
                "prediction", inputs, starts, steps, before, new_state, training
            )
        outputs["reaction"] = self._run(
            "reaction", inputs, starts, steps, state, new_state, training
        )
        specs = self._state_specs()
        return (
            {key: ops.swapaxes(x, 0, 1) for key, x in outputs.items()},
            {key: new_state[key] for key in specs},
        )

    def _run(self, name, inputs, starts, steps, state, new_state, training):
        """A fast core's outputs `(time, batch, units)`; writes its state."""
        cell, start = self._cells[name], self.starts[name]
        tick, first, counted = steps
        sizes = leaves_of(cell.state_size)
        leaves = [
            ops.cast(state[f"{name}_{k}"], self.compute_dtype)
            for k in range(len(sizes))
        ]
        seen = [inputs[key] for key in self._seen(name)]
        if seen:
            x = ops.concatenate(seen, axis=-1) if len(seen) > 1 else seen[0]
        else:
            x = ops.zeros((*ops.shape(tick), 1), self.compute_dtype)
        xs = [x, first if start == "keep" else tick]
        from_slow = start == "slow"
        if from_slow:
            xs += starts[name]
        if counted is not None:
            xs.append(counted)

        def step(carry, xs):
            x, begins, *xs = xs
            for k in range(len(sizes)):
                fresh = xs[k] if from_slow else ops.zeros_like(carry[k])
                carry[k] = where(begins, fresh, carry[k])
            output, new = cell(
                x, packed(cell, carry[: len(sizes)]), training=training
            )
            new = [*keras.tree.flatten(new), output]
            if counted is not None:
                new = [where(xs[-1], a, b) for a, b in zip(new, carry)]
            return new, [new[-1]]

        output = ops.zeros_like(leaves[0][:, :1]) * ops.zeros(
            (1, self.units), self.compute_dtype
        )
        carry, (outputs,) = over_steps(
            step, [*leaves, output], xs, [(leaves[0].shape[0], self.units)]
        )
        for k in range(len(sizes)):
            new_state[f"{name}_{k}"] = carry[k]
        return outputs

    def _starts(self, output, leaves):
        """What each core starts from, by the slow core's output and state."""
        found = {}
        for name in CORES:
            if self.starts[name] != "slow":
                continue
            found[name] = leaves
            if name in self._maps:
                sizes = leaves_of(self._cells[name].state_size)
                ends = [sum(sizes[: k + 1]) for k in range(len(sizes) - 1)]
                values = self._maps[name](output)
                found[name] = [values]
                if ends:
                    found[name] = ops.split(values, ends, axis=-1)
        return found

    def _caught_up(self, state, training):
        """The prediction's state: what it came to since the last tick."""
        cell = self._cells["prediction"]
        clock = state["clock"]
        output = ops.cast(state["slow_output"], self.compute_dtype)
        if self.starts["prediction"] == "slow":
            leaves = self._starts(output, self._slow.leaves(state))
            leaves = leaves["prediction"]
        else:
            leaves = [
                ops.zeros((ops.shape(clock)[0], size), self.compute_dtype)
                for size in leaves_of(cell.state_size)
            ]
        x = output if self.inputs["prediction"] else output[:, :1] * 0

        # Variables are read outside of the loop: a loop that holds any is run
        # even where nobody wants its result, as in acting.
        values = [(v, tf.convert_to_tensor(v.value)) for v in cell.variables]

        def step(k, *leaves):
            with keras.StatelessScope(values):
                _, new = cell(x, packed(cell, list(leaves)), training=training)
            new = keras.tree.flatten(new)
            new = [where(k < clock, a, b) for a, b in zip(new, leaves)]
            return k + 1, *new

        # At most one less than a whole interval: then it ticks.
        _, *leaves = ops.while_loop(
            lambda k, *_: k < ops.max(clock),
            step,
            (0, *leaves),
            maximum_iterations=self.slow_period - 1,
        )
        return {f"prediction_{k}": leaf for k, leaf in enumerate(leaves)}

    def _state_specs(self):
        """Shape without batch, and dtype, of each part of the state."""
        dtype = self.compute_dtype
        specs = {
            "clock": ((), "int32"),
            "perceived": ((self.units,), dtype),
            "slow_output": ((self._slow.units,), dtype),
            **self._slow.state_specs(),
        }
        for name in CORES:
            if name == "prediction" and not self._remembers_prediction:
                continue
            for k, size in enumerate(leaves_of(self._cells[name].state_size)):
                specs[f"{name}_{k}"] = ((size,), dtype)
        # In the order in which nests of TensorFlow are flattened.
        return dict(sorted(specs.items()))

    def _check(self, inputs, state, is_first, mask):
        if set(inputs) != set(self._features):
            raise ValueError(
                f"`inputs` must be those that the layer was built for, "
                f"{sorted(self._features)}. Received: {sorted(inputs)}."
            )
        batch, time = next(iter(inputs.values())).shape[:2]
        for key, x in inputs.items():
            expected = (batch, time, self._features[key])
            if not fits(x.shape, expected) or time == 0:
                raise ValueError(
                    "`inputs` must have the shape (batch, time, features) = "
                    f"{expected} with at least one step. Received: {key!r} of "
                    f"shape {tuple(x.shape)}. For one step write "
                    "layer.step(...)."
                )
        for name, tensor in (("is_first", is_first), ("mask", mask)):
            if tensor is not None and not fits(tensor.shape, (batch, time)):
                raise ValueError(
                    f"`{name}` must have the shape (batch, time) of the "
                    f"inputs = ({batch}, {time}). Received: {name} of shape "
                    f"{tuple(tensor.shape)}."
                )
        specs = self._state_specs()
        if state is not None and (
            not isinstance(state, dict) or set(state) != set(specs)
        ):
            found = sorted(state) if isinstance(state, dict) else type(state)
            raise ValueError(
                f"`state` must be a dict of {sorted(specs)}, as layer."
                "initial_state(batch_size) or an earlier call returns it. "
                f"Received: {found}."
            )

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


def _features(shape):
    shapes = _as_dict(shape)
    for key, found in shapes.items():
        if len(found) != 3 or found[-1] is None:
            raise ValueError(
                "`inputs` must have the shape (batch, time, features) with a "
                f"known number of features. Received: {key!r} of shape "
                f"{tuple(found)}. For one step write layer.step(...)."
            )
    return {key: found[-1] for key, found in shapes.items()}


def _held(slow, tick, before):
    """The slow core's output at every step, from the ticks."""
    before = ops.cast(before, slow.dtype)

    def step(carry, xs):
        held = where(xs[1], xs[0], carry[0])
        return [held], [held]

    shape = tuple(before.shape)
    return over_steps(step, [before], [slow, tick], [shape])[1][0]


def _check_cell(cell, units):
    if isinstance(cell, str):
        return check_choice("cell", cell, tuple(CELLS))
    if isinstance(cell, keras.layers.RNN):
        cell = cell.cell
    if not isinstance(cell, keras.layers.Layer) or not hasattr(
        cell, "state_size"
    ):
        raise ValueError(
            "`cell` must be 'lstm', 'gru' or a Keras cell, such as "
            f"keras.layers.GRUCell({units}). Received: cell={cell!r} of type "
            f"{type(cell)}."
        )
    if getattr(cell, "dropout", 0) or getattr(cell, "recurrent_dropout", 0):
        raise ValueError(
            "`cell` must have no dropout: put a Dropout layer before or after "
            f"the core. Received: cell={cell!r} with dropout={cell.dropout}, "
            f"recurrent_dropout={cell.recurrent_dropout}."
        )
    found = getattr(cell, "output_size", leaves_of(cell.state_size)[0])
    if found != units:
        raise ValueError(
            f"`cell` must have an output of `units`={units} units. Received: "
            f"cell={cell!r}, whose output has {found}."
        )
    return cell


def _check_options(name, options, defaults, check):
    options = {} if options is None else options
    if not isinstance(options, dict) or not set(options) <= set(CORES):
        raise ValueError(
            f"`{name}` must be a dict with keys out of {CORES}. Received: "
            f"{name}={options!r}."
        )
    options = {**defaults, **options}
    return {core: check(core, value) for core, value in options.items()}


def _check_inputs(core, value):
    if value is None:
        return None
    if isinstance(value, str) or not all(isinstance(x, str) for x in value):
        raise ValueError(
            f"`inputs` of {core!r} must be a tuple of names, or None for all "
            f"inputs. Received: {value!r}."
        )
    if core == "perception" and (not value or "slow" in value):
        raise ValueError(
            "`inputs` of 'perception' must be observations, without 'slow': "
            "the slow core hears perception, not the other way round. "
            f"Received: {value!r}."
        )
    return tuple(value)


def _check_start(core, value):
    choices = ("zeros", "slow", "keep")
    if core == "perception":
        choices = ("zeros", "keep")
    return check_choice(f"starts[{core!r}]", value, choices)


def _serialized(cell):
    if cell is None or isinstance(cell, str):
        return cell
    return keras.saving.serialize_keras_object(cell)
