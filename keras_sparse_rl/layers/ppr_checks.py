"""What `PPRCore` refuses, and why."""

import keras

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_per_step
from keras_sparse_rl._checks import fits
from keras_sparse_rl.layers.cell_state import leaves_of


def check_cell(cell, units, names):
    """Returns one of `names`, or a Keras cell with an output of `units`."""
    if isinstance(cell, str):
        return check_choice("cell", cell, names)
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


def check_inputs(inputs, defaults):
    """Returns what each core sees: a dict of tuples of names, or None."""
    inputs = _by_core("inputs", inputs, defaults)
    return {core: _checked_names(core, seen) for core, seen in inputs.items()}


def check_starts(starts, defaults):
    """Returns how each core starts an interval: a dict of names."""
    starts = _by_core("starts", starts, defaults)
    for core, start in starts.items():
        choices = ("zeros", "slow", "keep")
        if core == "perception":
            choices = ("zeros", "keep")
        check_choice(f"starts[{core!r}]", start, choices)
    return starts


def _by_core(name, options, defaults):
    options = {} if options is None else options
    if not isinstance(options, dict) or not set(options) <= set(defaults):
        raise ValueError(
            f"`{name}` must be a dict with keys out of {tuple(defaults)}. "
            f"Received: {name}={options!r}."
        )
    return {**defaults, **options}


def _checked_names(core, names):
    if names is None:
        return None
    if isinstance(names, str) or not all(isinstance(x, str) for x in names):
        raise ValueError(
            f"`inputs` of {core!r} must be a tuple of names, or None for all "
            f"inputs. Received: {names!r}."
        )
    if core == "perception" and (not names or "slow" in names):
        raise ValueError(
            "`inputs` of 'perception' must be observations, without 'slow': "
            "the slow core hears perception, not the other way round. "
            f"Received: {names!r}."
        )
    return tuple(names)


def check_features(shapes):
    """Returns the widths of the inputs, of a dict of their shapes."""
    for key, shape in shapes.items():
        if len(shape) != 3 or shape[-1] is None:
            raise ValueError(
                "`inputs` must have the shape (batch, time, features) with a "
                f"known number of features. Received: {key!r} of shape "
                f"{tuple(shape)}. For one step write layer.step(...)."
            )
    return {key: shape[-1] for key, shape in shapes.items()}


def check_seen(core, names, features):
    """Raises unless a core sees what there is: inputs, or 'slow'."""
    for key in names:
        if key not in features and key != "slow":
            raise ValueError(
                f"`inputs` of {core!r} must name inputs of the layer, "
                f"{sorted(features)}, or 'slow'. Received: {key!r}."
            )


def check_segment(inputs, features, signals, state, state_specs):
    """Raises unless all that a call gets fits together.

    Args:
        inputs: dict of tensors `(batch, time, features)`.
        features: dict of their widths, that the layer was built for.
        signals: dict of tensors `(batch, time)`, or None.
        state: dict, or None.
        state_specs: dict with the names of the state.
    """
    if set(inputs) != set(features):
        raise ValueError(
            f"`inputs` must be those that the layer was built for, "
            f"{sorted(features)}. Received: {sorted(inputs)}."
        )
    batch, time = next(iter(inputs.values())).shape[:2]
    for key, x in inputs.items():
        expected = (batch, time, features[key])
        if not fits(x.shape, expected) or time == 0:
            raise ValueError(
                "`inputs` must have the shape (batch, time, features) = "
                f"{expected} with at least one step. Received: {key!r} of "
                f"shape {tuple(x.shape)}. For one step write "
                "layer.step(...)."
            )
    check_per_step(signals, (batch, time))
    if state is not None and (
        not isinstance(state, dict) or set(state) != set(state_specs)
    ):
        found = sorted(state) if isinstance(state, dict) else type(state)
        raise ValueError(
            f"`state` must be a dict of {sorted(state_specs)}, as layer."
            "initial_state(batch_size) or an earlier call returns it. "
            f"Received: {found}."
        )
