"""Networks of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from tests.models.harness import (
    LAYER_NORM,
    SLOW,
    built,
    cases,
    check_inputs_in_a_box,
    check_training,
    cross_entropy,
    known,
    normal,
    of_equinox,
    of_haiku,
    of_haiku_with_state,
    of_linen,
    of_nnx,
    uniform,
)

LABELS = cross_entropy([1, 0])


def mlp():
    network = eqx.nn.MLP(in_size=6, out_size=3, width_size=8, depth=2, key=jax.random.key(0))
    return of_equinox(network, normal(1, 2, 6), loss=LABELS)


class LeNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(features=3, kernel_size=(5, 5))(x)
        x = nn.relu(x)
        x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = nn.Conv(features=4, kernel_size=(3, 3), padding="VALID")(x)
        x = nn.relu(x)
        x = nn.max_pool(x, window_shape=(2, 2), strides=(2, 2))
        x = x.reshape((x.shape[0], -1))
        x = nn.relu(nn.Dense(features=8)(x))
        x = nn.relu(nn.Dense(features=6)(x))
        return nn.Dense(features=3)(x)


def lenet():
    return of_linen(LeNet(), uniform(2, 2, 12, 12, 1), loss=LABELS)


def vgg():
    def network(x):
        for features, repeats in ((3, 2), (4, 2)):
            for _ in range(repeats):
                x = jax.nn.relu(hk.Conv2D(features, kernel_shape=3)(x))
            x = hk.max_pool(x, window_shape=(1, 2, 2, 1), strides=(1, 2, 2, 1), padding="VALID")
        x = hk.Flatten()(x)
        return hk.nets.MLP([8, 3])(x)

    return of_haiku(network, uniform(3, 2, 8, 8, 2), loss=LABELS)


class ResNetBlock(nn.Module):
    """As in the ImageNet example of Flax."""

    filters: int
    conv: Any
    norm: Any
    act: Callable
    strides: tuple[int, int] = (1, 1)

    @nn.compact
    def __call__(self, x):
        residual = x
        y = self.conv(self.filters, (3, 3), self.strides)(x)
        y = self.norm()(y)
        y = self.act(y)
        y = self.conv(self.filters, (3, 3))(y)
        y = self.norm(scale_init=nn.initializers.zeros_init())(y)
        if residual.shape != y.shape:
            residual = self.conv(self.filters, (1, 1), self.strides, name="conv_proj")(residual)
            residual = self.norm(name="norm_proj")(residual)
        return self.act(residual + y)


class ResNet(nn.Module):
    stage_sizes: Sequence[int]
    block_cls: Any
    num_classes: int
    num_filters: int = 64
    act: Callable = nn.relu

    @nn.compact
    def __call__(self, x, train: bool = True):
        conv = partial(nn.Conv, use_bias=False)
        norm = partial(
            nn.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5, axis_name=None
        )
        x = conv(self.num_filters, (7, 7), (2, 2), padding=[(3, 3), (3, 3)], name="conv_init")(x)
        x = norm(name="bn_init")(x)
        x = nn.relu(x)
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        for i, block_size in enumerate(self.stage_sizes):
            for j in range(block_size):
                strides = (2, 2) if i > 0 and j == 0 else (1, 1)
                x = self.block_cls(
                    self.num_filters * 2**i, strides=strides, conv=conv, norm=norm, act=self.act
                )(x)
        x = jnp.mean(x, axis=(1, 2))
        x = nn.Dense(self.num_classes)(x)
        return jnp.asarray(x, jnp.float32)


def linen_resnet(train):
    module = ResNet(stage_sizes=[2, 2, 2, 2], block_cls=ResNetBlock, num_classes=3, num_filters=2)
    mutable = ["batch_stats"] if train else False
    return of_linen(module, uniform(4, 2, 16, 16, 2), loss=LABELS, train=train, mutable=mutable)


def resnet():
    return linen_resnet(train=False)


def resnet_in_training():
    return linen_resnet(train=True)


def haiku_resnet():
    def network(x, is_training):
        stem = {"output_channels": 2, "kernel_shape": 7, "stride": 2, "with_bias": False}
        net = hk.nets.ResNet(
            blocks_per_group=(2, 2, 2, 2),
            num_classes=3,
            bn_config={"decay_rate": 0.9},
            bottleneck=False,
            channels_per_group=(2, 2, 4, 4),
            use_projection=(False, True, True, True),
            initial_conv_config={**stem, "name": "initial_conv"},
        )
        return net(x, is_training)

    return of_haiku_with_state(network, uniform(4, 2, 16, 16, 2), train=False, loss=LABELS)


class SqueezeExcite(nnx.Module):
    def __init__(self, features: int, *, rngs: nnx.Rngs):
        self.squeeze = nnx.Conv(features, max(1, features // 4), (1, 1), rngs=rngs)
        self.excite = nnx.Conv(max(1, features // 4), features, (1, 1), rngs=rngs)

    def __call__(self, x):
        scale = jnp.mean(x, axis=(1, 2), keepdims=True)
        scale = nnx.relu(self.squeeze(scale))
        return x * nnx.hard_sigmoid(self.excite(scale))


class InvertedResidual(nnx.Module):
    """The block of MobileNetV2 and, with squeeze-and-excite and hard-swish, of V3."""

    def __init__(self, inputs, expanded, outputs, strides, act, excite, *, rngs: nnx.Rngs):
        self.act = act
        self.residual = strides == 1 and inputs == outputs
        self.expand = nnx.Conv(inputs, expanded, (1, 1), use_bias=False, rngs=rngs)
        self.norm1 = nnx.BatchNorm(expanded, rngs=rngs)
        self.depthwise = nnx.Conv(
            expanded,
            expanded,
            (3, 3),
            strides=strides,
            feature_group_count=expanded,
            use_bias=False,
            rngs=rngs,
        )
        self.norm2 = nnx.BatchNorm(expanded, rngs=rngs)
        self.excite = SqueezeExcite(expanded, rngs=rngs) if excite else None
        self.project = nnx.Conv(expanded, outputs, (1, 1), use_bias=False, rngs=rngs)
        self.norm3 = nnx.BatchNorm(outputs, rngs=rngs)

    def __call__(self, x):
        y = self.act(self.norm1(self.expand(x)))
        y = self.act(self.norm2(self.depthwise(y)))
        if self.excite is not None:
            y = self.excite(y)
        y = self.norm3(self.project(y))
        return x + y if self.residual else y


class MobileNet(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        self.stem = nnx.Conv(3, 2, (3, 3), strides=2, use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(2, rngs=rngs)
        self.first = InvertedResidual(2, 4, 2, 1, nnx.relu6, False, rngs=rngs)
        self.second = InvertedResidual(2, 4, 3, 2, nnx.hard_swish, True, rngs=rngs)
        self.head = nnx.Linear(3, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.hard_swish(self.norm(self.stem(x)))
        x = self.second(self.first(x))
        return self.head(jnp.mean(x, axis=(1, 2)))


def mobilenet():
    model = MobileNet(rngs=nnx.Rngs(0))
    model.eval()
    return of_nnx(model, uniform(5, 2, 8, 8, 3), loss=LABELS)


class UNet(nn.Module):
    norm: Any = None

    @nn.compact
    def __call__(self, x):
        def block(x, features):
            for _ in range(2):
                x = nn.Conv(features, (3, 3))(x)
                if self.norm is not None:
                    x = self.norm()(x)
                x = nn.relu(x)
            return x

        skips = []
        for features in (2, 3):
            x = block(x, features)
            skips.append(x)
            x = nn.max_pool(x, (2, 2), (2, 2))
        x = block(x, 4)
        for features, skip in zip((3, 2), reversed(skips), strict=True):
            b, h, w, _ = skip.shape
            x = jax.image.resize(x, (b, h, w, x.shape[-1]), method="bilinear")
            x = nn.Conv(features, (2, 2))(x)
            x = jnp.concatenate([skip, x], axis=-1)
            x = block(x, features)
        return nn.Conv(1, (1, 1))(x)


def unet():
    return of_linen(UNet(), uniform(6, 1, 8, 8, 1), jointly=False)


def unet_with_group_norm():
    return of_linen(UNet(norm=partial(nn.GroupNorm, num_groups=1)), uniform(6, 1, 8, 8, 1))


class TransformerEncoder(nnx.Module):
    """As in the vision transformer of the Flax tutorials."""

    def __init__(self, hidden, mlp, heads, dropout=0.0, *, rngs: nnx.Rngs):
        self.norm1 = nnx.LayerNorm(hidden, rngs=rngs)
        self.attn = nnx.MultiHeadAttention(
            num_heads=heads,
            in_features=hidden,
            dropout_rate=dropout,
            broadcast_dropout=False,
            decode=False,
            deterministic=False,
            rngs=rngs,
        )
        self.norm2 = nnx.LayerNorm(hidden, rngs=rngs)
        self.mlp = nnx.Sequential(
            nnx.Linear(hidden, mlp, rngs=rngs),
            nnx.gelu,
            nnx.Dropout(dropout, rngs=rngs),
            nnx.Linear(mlp, hidden, rngs=rngs),
            nnx.Dropout(dropout, rngs=rngs),
        )

    def __call__(self, x):
        x = x + self.attn(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return x


class VisionTransformer(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs):
        classes, channels, size, patch, layers, heads, mlp, hidden = 3, 1, 8, 4, 2, 2, 6, 8
        n_patches = (size // patch) ** 2
        self.patch_embeddings = nnx.Conv(
            channels,
            hidden,
            kernel_size=(patch, patch),
            strides=(patch, patch),
            padding="VALID",
            use_bias=True,
            rngs=rngs,
        )
        initializer = jax.nn.initializers.truncated_normal(stddev=0.02)
        self.position_embeddings = nnx.Param(
            initializer(rngs.params(), (1, n_patches + 1, hidden), jnp.float32)
        )
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.cls_token = nnx.Param(jnp.zeros((1, 1, hidden)))
        self.encoder = nnx.Sequential(
            *[TransformerEncoder(hidden, mlp, heads, 0.1, rngs=rngs) for _ in range(layers)]
        )
        self.final_norm = nnx.LayerNorm(hidden, rngs=rngs)
        self.classifier = nnx.Linear(hidden, classes, rngs=rngs)

    def __call__(self, x):
        patches = self.patch_embeddings(x)
        batch_size = patches.shape[0]
        patches = patches.reshape(batch_size, -1, patches.shape[-1])
        cls_token = jnp.tile(self.cls_token, [batch_size, 1, 1])
        x = jnp.concat([cls_token, patches], axis=1)
        embeddings = x + self.position_embeddings
        embeddings = self.dropout(embeddings)
        x = self.encoder(embeddings)
        x = self.final_norm(x)
        x = x[:, 0]
        return self.classifier(x)


def vit():
    model = VisionTransformer(rngs=nnx.Rngs(0))
    model.eval()
    return of_nnx(model, uniform(7, 2, 8, 8, 1), loss=LABELS)


def vit_with_dropout():
    return of_nnx(VisionTransformer(rngs=nnx.Rngs(0)), uniform(7, 2, 8, 8, 1), loss=LABELS)


class MixerBlock(eqx.Module):
    patch_mixer: eqx.nn.MLP
    hidden_mixer: eqx.nn.MLP
    norm1: eqx.nn.LayerNorm
    norm2: eqx.nn.LayerNorm

    def __init__(self, num_patches, hidden_size, mix_patch_size, mix_hidden_size, *, key):
        tkey, ckey = jax.random.split(key, 2)
        self.patch_mixer = eqx.nn.MLP(num_patches, num_patches, mix_patch_size, depth=1, key=tkey)
        self.hidden_mixer = eqx.nn.MLP(hidden_size, hidden_size, mix_hidden_size, depth=1, key=ckey)
        self.norm1 = eqx.nn.LayerNorm((hidden_size, num_patches))
        self.norm2 = eqx.nn.LayerNorm((num_patches, hidden_size))

    def __call__(self, y):
        y = y + jax.vmap(self.patch_mixer)(self.norm1(y))
        y = y.T
        y = y + jax.vmap(self.hidden_mixer)(self.norm2(y))
        return y.T


class Mixer(eqx.Module):
    conv_in: eqx.nn.Conv2d
    blocks: list
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, key):
        k1, k2, k3, k4 = jax.random.split(key, 4)
        self.conv_in = eqx.nn.Conv2d(1, 4, 4, stride=4, key=k1)
        self.blocks = [MixerBlock(4, 4, 5, 6, key=k) for k in (k2, k3)]
        self.norm = eqx.nn.LayerNorm((4, 4))
        self.head = eqx.nn.Linear(4, 3, key=k4)

    def __call__(self, y):
        y = self.conv_in(y)
        hidden, height, width = y.shape
        y = y.reshape(hidden, height * width)
        for block in self.blocks:
            y = block(y)
        y = self.norm(y)
        return self.head(jnp.mean(y, axis=-1))


def mixer():
    made = of_equinox(Mixer(jax.random.key(1)), uniform(8, 2, 1, 8, 8), loss=LABELS)
    return replace(made, reach=0.02)


MODELS = [
    mlp,
    lenet,
    vgg,
    resnet,
    resnet_in_training,
    haiku_resnet,
    mobilenet,
    unet,
    unet_with_group_norm,
    vit,
    vit_with_dropout,
    mixer,
]

MARKS = {
    lenet: SLOW,
    vgg: SLOW,
    resnet: SLOW,
    resnet_in_training: [LAYER_NORM, SLOW],
    haiku_resnet: SLOW,
    mobilenet: SLOW,
    unet: SLOW,
    unet_with_group_norm: [LAYER_NORM, SLOW],
    vit: [LAYER_NORM, SLOW],
    vit_with_dropout: [LAYER_NORM, SLOW],
    mixer: SLOW,
}
IN_TRAINING = {
    unet: [known("every convolution adds the products of the norms of all others"), SLOW],
}


@pytest.mark.parametrize("build", cases(MODELS, MARKS))
def test_inputs_in_a_box(build):
    check_inputs_in_a_box(built(build))


@pytest.mark.parametrize("build", cases(MODELS, MARKS | IN_TRAINING))
def test_training(build):
    check_training(built(build))
