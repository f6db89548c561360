"""Models of others that `benchmarks.coverage` makes sparse, small ones.

Each function returns a built model with random weights, a batch of inputs, and
a regular expression for the paths of what gives its outputs, which `sparsify`
leaves plain on purpose: it is said here once more, by hand.
"""

import functools

import keras
import numpy as np

BATCH = 2
LENGTH = 16  # of a text
NOTHING = "^$"


def images(size):
    generator = np.random.default_rng(0)
    return generator.normal(size=(BATCH, size, size, 3)).astype("float32")


def tokens(vocabulary):
    shape = (BATCH, LENGTH)
    return np.random.default_rng(0).integers(1, vocabulary, shape, "int32")


def application(name, size, outputs):
    network = getattr(keras.applications, name)
    model = network(
        weights=None,
        input_shape=(size, size, 3),
        classes=10,
        classifier_activation=None,
    )
    return model, images(size), outputs


def unet(size=64):
    """The U-Net of keras.io's segmentation example: Xception's blocks."""
    layers = keras.layers

    def block(x, filters, layer, change):
        before = x
        for _ in range(2):
            x = layers.ReLU()(x)
            x = layer(filters, 3, padding="same")(x)
            x = layers.BatchNormalization()(x)
        return layers.Add()([change(x), change(before, filters)])

    def down(x, filters=None):
        if filters:
            return layers.Conv2D(filters, 1, strides=2, padding="same")(x)
        return layers.MaxPooling2D(3, strides=2, padding="same")(x)

    def up(x, filters=None):
        x = layers.UpSampling2D(2)(x)
        return layers.Conv2D(filters, 1)(x) if filters else x

    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(32, 3, strides=2, padding="same")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for filters in (64, 128, 256):
        x = block(x, filters, layers.SeparableConv2D, down)
    for filters in (256, 128, 64, 32):
        x = block(x, filters, layers.Conv2DTranspose, up)
    outputs = layers.Conv2D(3, 3, padding="same", name="classes")(x)
    return keras.Model(inputs, outputs), images(size), "classes"


@keras.saving.register_keras_serializable("benchmarks")
class TransformerBlock(keras.layers.Layer):
    """That of keras.io's text classifier: layers of Keras in a layer."""

    def __init__(self, width, heads, inner, **kwargs):
        super().__init__(**kwargs)
        self.sizes = {"width": width, "heads": heads, "inner": inner}
        self.attention = keras.layers.MultiHeadAttention(heads, width)
        self.feed_forward = keras.Sequential(
            [
                keras.layers.Dense(inner, activation="relu"),
                keras.layers.Dense(width),
            ]
        )
        self.norms = [keras.layers.LayerNormalization() for _ in range(2)]
        self.dropouts = [keras.layers.Dropout(0.1) for _ in range(2)]

    def call(self, inputs, training=False):
        x = self.attention(inputs, inputs)
        x = self.dropouts[0](x, training=training)
        middle = self.norms[0](inputs + x)
        x = self.feed_forward(middle)
        x = self.dropouts[1](x, training=training)
        return self.norms[1](middle + x)

    def get_config(self):
        return {**super().get_config(), **self.sizes}


@keras.saving.register_keras_serializable("benchmarks")
class TokenAndPosition(keras.layers.Layer):
    """Embeddings of words and places, as in the same example."""

    def __init__(self, vocabulary, length, width, **kwargs):
        super().__init__(**kwargs)
        self.sizes = dict(vocabulary=vocabulary, length=length, width=width)
        self.words = keras.layers.Embedding(vocabulary, width)
        self.places = keras.layers.Embedding(length, width)

    def call(self, inputs):
        places = keras.ops.arange(keras.ops.shape(inputs)[-1])
        return self.words(inputs) + self.places(places)

    def get_config(self):
        return {**super().get_config(), **self.sizes}


def transformer(blocks=1, width=32):
    inputs = keras.Input((LENGTH,), dtype="int32")
    x = TokenAndPosition(1000, LENGTH, width)(inputs)
    for _ in range(blocks):
        x = TransformerBlock(width, 2, width)(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    x = keras.layers.Dropout(0.1)(x)
    x = keras.layers.Dense(20, activation="relu")(x)
    x = keras.layers.Dropout(0.1)(x)
    x = keras.layers.Dense(2, activation="softmax", name="classes")(x)
    return keras.Model(inputs, x), tokens(1000), "classes"


@keras.saving.register_keras_serializable("benchmarks")
class OwnMatrices(keras.Model):
    """A model that multiplies with matrices of its own."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first = keras.layers.Dense(units, activation="relu")
        self.last = keras.layers.Dense(5, name="classes")

    def build(self, input_shape):
        units = self.units
        self.mixing = self.add_weight((units, units), name="mixing")
        self.gates = self.add_weight((input_shape[-1], units), name="gates")
        self.first.build(input_shape)
        self.last.build((None, units))

    def call(self, inputs):
        gates = keras.ops.sigmoid(inputs @ self.gates)
        x = keras.ops.relu(self.first(inputs) @ self.mixing)
        return self.last(gates * x)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def own_matrices():
    x = np.random.default_rng(0).normal(size=(BATCH, 20)).astype("float32")
    model = OwnMatrices(64)
    model(x)
    return model, x, "classes"


@keras.saving.register_keras_serializable("benchmarks")
class Translator(keras.Model):
    """An encoder and a decoder of gated recurrent units."""

    def __init__(self, vocabulary, units, **kwargs):
        super().__init__(**kwargs)
        self.sizes = {"vocabulary": vocabulary, "units": units}
        self.source = keras.layers.Embedding(vocabulary, units)
        self.target = keras.layers.Embedding(vocabulary, units)
        self.encoder = keras.layers.GRU(units, return_state=True)
        self.decoder = keras.layers.GRU(units, return_sequences=True)
        self.words = keras.layers.Dense(vocabulary, name="words")

    def call(self, inputs):
        source, target = inputs
        _, state = self.encoder(self.source(source))
        x = self.decoder(self.target(target), initial_state=state)
        return self.words(x)

    def get_config(self):
        return {**super().get_config(), **self.sizes}


def translator():
    x = tokens(100), tokens(100)[::-1]
    model = Translator(100, 32)
    model(x)
    return model, x, "words"


def text(vocabulary, **others):
    mask = np.ones((BATCH, LENGTH), "int32")
    return {"token_ids": tokens(vocabulary), "padding_mask": mask, **others}


def hub_bert(sizes=(1000, 2, 2, 64, 128)):
    import keras_hub

    model = keras_hub.models.BertBackbone(*sizes)
    segments = np.zeros((BATCH, LENGTH), "int32")
    return model, text(sizes[0], segment_ids=segments), "pooled_dense"


def hub_distilbert():
    import keras_hub

    backbone = keras_hub.models.DistilBertBackbone(1000, 2, 2, 64, 128)
    model = keras_hub.models.DistilBertTextClassifier(backbone, num_classes=4)
    return model, text(1000), "logits"


def hub_gpt2():
    import keras_hub

    backbone = keras_hub.models.GPT2Backbone(1000, 2, 2, 64, 128)
    model = keras_hub.models.GPT2CausalLM(backbone, preprocessor=None)
    return model, text(1000), NOTHING  # words come from the embedding


def hub_resnet():
    import keras_hub

    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 64, 64],
        stackwise_num_blocks=[2, 2, 2],
        stackwise_num_strides=[1, 2, 2],
        block_type="bottleneck_block",
        image_shape=(64, 64, 3),
    )
    model = keras_hub.models.ResNetImageClassifier(backbone, num_classes=10)
    return model, images(64), "predictions"


MODELS = {
    name: functools.partial(application, name, size, outputs)
    for name, size, outputs in (
        ("MobileNetV2", 64, "predictions"),
        ("MobileNetV3Small", 64, "logits"),
        ("ResNet50", 64, "predictions"),
        ("EfficientNetB0", 64, "predictions"),
        ("DenseNet121", 64, "predictions"),
        ("Xception", 71, "predictions"),
        ("NASNetMobile", 64, "predictions"),
        ("ConvNeXtTiny", 64, "head_dense"),
    )
}
MODELS |= {
    "unet": unet,
    "transformer_block": transformer,
    "own_matrices": own_matrices,
    "gru_seq2seq": translator,
    "hub_bert": hub_bert,
    "hub_distilbert": hub_distilbert,
    "hub_gpt2": hub_gpt2,
    "hub_resnet": hub_resnet,
}
