"""GTrXL in NumPy, written from the papers' equations, one query at a time.

It loops where the layer batches, gathers the keys that a query may see where
the layer masks, and runs each row of a batch alone.
"""

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def layer_norm(x, scale=1.0, offset=0.0, epsilon=1e-5):
    x = x - x.mean(-1, keepdims=True)
    return (
        x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * scale + offset
    )


def input_gate(x, y, W):
    return sigmoid(x @ W) * x + y


def output_gate(x, y, W, b):
    return x + sigmoid(x @ W - b) * y


def highway_gate(x, y, W, b):
    return sigmoid(x @ W + b) * x + (1 - sigmoid(x @ W + b)) * y


def sigmoid_tanh_gate(x, y, W, U, b):
    return x + sigmoid(y @ W - b) * np.tanh(y @ U)


def gru_gate(x, y, Wr, Wz, Wg, Ur, Uz, Ug, b):
    r = sigmoid(y @ Wr + x @ Ur)
    z = sigmoid(y @ Wz + x @ Uz - b)
    h = np.tanh(y @ Wg + (r * x) @ Ug)
    return (1 - z) * x + z * h


def sinusoid(distance, dim):
    angles = distance / 10000 ** (np.arange(0, dim, 2) / dim)
    return np.concatenate([np.sin(angles), np.cos(angles)])


def attend(query, keys, distances, weights):
    """One query `(dim,)` on `keys` `(count, dim)` at integer distances."""
    Wq, Wk, Wv, Wr, Wo, bo, u, v = weights
    heads, head_dim = u.shape
    parts = []
    for h in range(heads):
        own = slice(h * head_dim, (h + 1) * head_dim)
        q = query @ Wq[:, own]
        scores = []
        for key, distance in zip(keys, distances):
            R = sinusoid(distance, heads * head_dim)
            content = (q + u[h]) @ (key @ Wk[:, own])
            position = (q + v[h]) @ (R @ Wr[:, own])
            scores.append((content + position) / np.sqrt(head_dim))
        parts.append(softmax(np.array(scores)) @ (keys @ Wv[:, own]))
    return np.concatenate(parts) @ Wo + bo


def run(blocks, x, is_first, memory_length, ordering, gate):
    """All steps of one row, `x` `(time, dim)`, from an empty memory."""
    streams = [[] for _ in range(len(blocks) + 1)]
    episode = 0
    episodes = []
    for t, token in enumerate(x):
        episode += bool(is_first[t])
        episodes.append(episode)
        stream = token
        streams[0].append(stream)
        for number, block in enumerate(blocks):
            seen = [
                s
                for s in range(max(0, t - memory_length), t + 1)
                if episodes[s] == episode
            ]
            keys = np.array([streams[number][s] for s in seen])
            distances = [t - s for s in seen]
            stream = run_block(block, stream, keys, distances, ordering, gate)
            streams[number + 1].append(stream)
    return np.array(streams[-1])


def run_block(block, x, keys, distances, ordering, gate):
    norm1, norm2 = block["norm1"], block["norm2"]
    W1, b1, W2, b2 = block["feedforward"]

    def f(y):
        return np.maximum(y @ W1 + b1, 0) @ W2 + b2

    def join(x, y, weights):
        return x + y if gate is None else gate(x, y, *weights)

    if ordering == "identity":
        a = attend(
            layer_norm(x), layer_norm(keys), distances, block["attention"]
        )
        y = join(x, np.maximum(a, 0), block["gate1"])
        update = np.maximum(f(layer_norm(y, *norm2)), 0)
        return join(y, update, block["gate2"])
    a = attend(x, keys, distances, block["attention"])
    y = layer_norm(join(x, a, block["gate1"]), *norm1)
    return layer_norm(join(y, f(y), block["gate2"]), *norm2)
