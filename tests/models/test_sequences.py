"""Networks of sequences."""

from __future__ import annotations

from dataclasses import replace

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx

from jaxsmooth import box, fixed, smooth
from jaxsmooth.errors import DiscontinuityError
from tests.models.harness import (
    LAYER_NORM,
    SLOW,
    built,
    cases,
    check_inputs_in_a_box,
    check_training,
    cross_entropy,
    normal,
    of_equinox,
    of_haiku,
    of_linen,
    of_nnx,
)

TOKENS = jnp.array([[1, 4, 0, 2]])
NEXT = cross_entropy([[4, 0, 2, 3]])


class LSTMTagger(nn.Module):
    cell: type = nn.OptimizedLSTMCell

    @nn.compact
    def __call__(self, x):
        x = nn.RNN(self.cell(4))(x)
        return nn.Dense(2)(x[:, -1])


def lstm():
    return of_linen(LSTMTagger(), normal(1, 2, 4, 3), loss=cross_entropy([0, 1]))


def gru():
    def network(x):
        core = hk.GRU(4)
        outputs, _ = hk.dynamic_unroll(core, x, core.initial_state(x.shape[1]))
        return hk.Linear(2)(outputs[-1])

    return of_haiku(network, normal(2, 4, 2, 3), loss=cross_entropy([0, 1]))


def haiku_lstm():
    def network(x):
        core = hk.LSTM(4)
        outputs, _ = hk.dynamic_unroll(core, x, core.initial_state(x.shape[1]))
        return hk.BatchApply(hk.Linear(2))(outputs)

    return of_haiku(network, normal(2, 4, 2, 3))


class EquinoxGRU(eqx.Module):
    """As in the recurrent example of Equinox."""

    hidden_size: int
    cell: eqx.Module
    linear: eqx.nn.Linear
    bias: jax.Array

    def __init__(self, in_size, out_size, hidden_size, *, key):
        ckey, lkey = jax.random.split(key)
        self.hidden_size = hidden_size
        self.cell = eqx.nn.GRUCell(in_size, hidden_size, key=ckey)
        self.linear = eqx.nn.Linear(hidden_size, out_size, use_bias=False, key=lkey)
        self.bias = jnp.zeros(out_size)

    def __call__(self, input):
        hidden = jnp.zeros((self.hidden_size,))

        def f(carry, inp):
            return self.cell(inp, carry), None

        out, _ = jax.lax.scan(f, hidden, input)
        return jax.nn.sigmoid(self.linear(out) + self.bias)


def equinox_gru():
    return of_equinox(EquinoxGRU(2, 1, 4, key=jax.random.key(0)), normal(3, 2, 4, 2))


class EquinoxLSTM(eqx.Module):
    cell: eqx.nn.LSTMCell
    linear: eqx.nn.Linear

    def __init__(self, *, key):
        a, b = jax.random.split(key)
        self.cell = eqx.nn.LSTMCell(2, 4, key=a)
        self.linear = eqx.nn.Linear(4, 1, key=b)

    def __call__(self, xs):
        def scan_fn(state, input):
            return self.cell(input, state), None

        init_state = (jnp.zeros(self.cell.hidden_size), jnp.zeros(self.cell.hidden_size))
        (h, _), _ = jax.lax.scan(scan_fn, init_state, xs)
        return self.linear(h)


def equinox_lstm():
    return of_equinox(EquinoxLSTM(key=jax.random.key(0)), normal(3, 2, 4, 2))


class ReluRNN(nnx.Module):
    def __init__(self, rngs):
        self.rnn = nnx.RNN(nnx.SimpleCell(3, 4, activation_fn=nnx.relu, rngs=rngs), rngs=rngs)
        self.head = nnx.Linear(4, 2, rngs=rngs)

    def __call__(self, x):
        return self.head(self.rnn(x))


def relu_rnn():
    return of_nnx(ReluRNN(nnx.Rngs(0)), normal(4, 2, 4, 3))


class EncoderBlock(nn.Module):
    @nn.compact
    def __call__(self, x, deterministic=True, mask=None):
        y = nn.LayerNorm()(x)
        y = nn.MultiHeadDotProductAttention(num_heads=2, dropout_rate=0.1)(
            y, y, mask=mask, deterministic=deterministic
        )
        x = x + nn.Dropout(0.1)(y, deterministic=deterministic)
        y = nn.LayerNorm()(x)
        y = nn.Dense(6)(y)
        y = nn.relu(y)
        y = nn.Dense(x.shape[-1])(y)
        return x + nn.Dropout(0.1)(y, deterministic=deterministic)


class Encoder(nn.Module):
    tokens: int = 5
    features: int = 8

    @nn.compact
    def __call__(self, x, tokens, deterministic=True):
        """Known tokens and what is added to their embeddings."""
        x = x + nn.Embed(self.tokens, self.features)(tokens)
        x = x + self.param("positions", nn.initializers.normal(0.02), (1, *x.shape[1:]))
        mask = nn.make_attention_mask(tokens > 0, tokens > 0)
        for _ in range(2):
            x = EncoderBlock()(x, deterministic, mask)
        x = nn.LayerNorm()(x)
        return nn.Dense(3)(x.mean(axis=1))


def encoder(deterministic=True):
    return of_linen(
        Encoder(),
        0.1 * normal(5, 1, 4, 8),
        TOKENS,
        deterministic=deterministic,
        rngs={"dropout": jax.random.key(3)},
        loss=cross_entropy([1]),
    )


def encoder_with_dropout():
    return encoder(deterministic=False)


class DecoderBlock(nnx.Module):
    def __init__(self, features, heads, *, rngs):
        self.norm1 = nnx.LayerNorm(features, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            num_heads=heads, in_features=features, decode=False, rngs=rngs
        )
        self.norm2 = nnx.LayerNorm(features, rngs=rngs)
        self.up = nnx.Linear(features, 2 * features, rngs=rngs)
        self.down = nnx.Linear(2 * features, features, rngs=rngs)

    def __call__(self, x, mask):
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.down(nnx.relu(self.up(self.norm2(x))))


class Decoder(nnx.Module):
    def __init__(self, *, rngs):
        self.embed = nnx.Embed(5, 4, rngs=rngs)
        self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), (4, 4)))
        self.blocks = nnx.List([DecoderBlock(4, 2, rngs=rngs) for _ in range(2)])
        self.norm = nnx.LayerNorm(4, rngs=rngs)

    def __call__(self, x, tokens):
        x = x + self.embed(tokens) + self.positions
        mask = nnx.make_causal_mask(tokens)
        for block in self.blocks:
            x = block(x, mask)
        return self.embed.attend(self.norm(x))


def decoder():
    return of_nnx(Decoder(rngs=nnx.Rngs(0)), 0.1 * normal(6, 1, 4, 4), TOKENS, loss=NEXT)


def haiku_decoder():
    def network(x, tokens):
        x = x + hk.Embed(5, 4)(tokens)
        init = hk.initializers.VarianceScaling(1.0)
        causal = jnp.tril(jnp.ones((1, 1, 4, 4)))
        for _ in range(2):
            y = hk.LayerNorm(axis=-1, create_scale=True, create_offset=True)(x)
            x = x + hk.MultiHeadAttention(num_heads=2, key_size=2, model_size=4, w_init=init)(
                y, y, y, mask=causal
            )
            y = hk.LayerNorm(axis=-1, create_scale=True, create_offset=True)(x)
            x = x + hk.Sequential([hk.Linear(8), jax.nn.gelu, hk.Linear(4)])(y)
        x = hk.LayerNorm(axis=-1, create_scale=True, create_offset=True)(x)
        return hk.Linear(5)(x)

    made = of_haiku(network, 0.1 * normal(6, 1, 4, 4), TOKENS, loss=NEXT)
    return replace(made, reach=0.002)


class Attender(eqx.Module):
    embedding: eqx.nn.Embedding
    norm: eqx.nn.RMSNorm
    attention: eqx.nn.MultiheadAttention
    rope: eqx.nn.RotaryPositionalEmbedding
    head: eqx.nn.Linear

    def __init__(self, key):
        a, b, c = jax.random.split(key, 3)
        self.embedding = eqx.nn.Embedding(5, 4, key=a)
        self.norm = eqx.nn.RMSNorm(4)
        self.attention = eqx.nn.MultiheadAttention(2, 4, key=b)
        self.rope = eqx.nn.RotaryPositionalEmbedding(2)
        self.head = eqx.nn.Linear(4, 5, key=c)

    def __call__(self, x, tokens):
        x = x + jax.vmap(self.embedding)(tokens)
        y = jax.vmap(self.norm)(x)
        mask = jnp.tril(jnp.ones((4, 4), bool))

        def process_heads(q, k, v):
            q = jax.vmap(self.rope, in_axes=1, out_axes=1)(q)
            k = jax.vmap(self.rope, in_axes=1, out_axes=1)(k)
            return q, k, v

        x = x + self.attention(y, y, y, mask=mask, process_heads=process_heads)
        return jax.vmap(self.head)(x)


def equinox_attention():
    return of_equinox(
        Attender(jax.random.key(0)),
        0.1 * normal(6, 4, 4),
        TOKENS[0],
        batched=False,
        loss=cross_entropy([4, 0, 2, 3]),
    )


class MixtureOfExperts(nn.Module):
    experts: int = 3
    hard: int = 0

    @nn.compact
    def __call__(self, x):
        gates = nn.softmax(nn.Dense(self.experts)(x))
        if self.hard:
            gates, chosen = jax.lax.top_k(gates, self.hard)
        experts = nn.vmap(
            nn.Dense,
            in_axes=None,
            out_axes=0,
            axis_size=self.experts,
            variable_axes={"params": 0},
            split_rngs={"params": True},
        )
        h = nn.relu(experts(4, name="up")(x))
        out = nn.vmap(
            nn.Dense,
            in_axes=0,
            out_axes=0,
            axis_size=self.experts,
            variable_axes={"params": 0},
            split_rngs={"params": True},
        )(2, name="down")(h)
        if self.hard:
            out = jnp.take_along_axis(jnp.moveaxis(out, 0, 1), chosen[..., None], axis=1)
            return jnp.einsum("bk,bko->bo", gates, out)
        return jnp.einsum("be,ebo->bo", gates, out)


def mixture_of_experts():
    return of_linen(MixtureOfExperts(), normal(7, 2, 3))


MODELS = [
    lstm,
    gru,
    haiku_lstm,
    equinox_gru,
    equinox_lstm,
    relu_rnn,
    encoder,
    encoder_with_dropout,
    decoder,
    haiku_decoder,
    equinox_attention,
    mixture_of_experts,
]

MARKS = {
    haiku_lstm: SLOW,
    equinox_gru: SLOW,
    equinox_lstm: SLOW,
    encoder: [LAYER_NORM, SLOW],
    encoder_with_dropout: [LAYER_NORM, SLOW],
    decoder: [LAYER_NORM, SLOW],
    haiku_decoder: SLOW,
}


@pytest.mark.parametrize("build", cases(MODELS, MARKS))
def test_inputs_in_a_box(build):
    check_inputs_in_a_box(built(build))


@pytest.mark.parametrize("build", cases(MODELS, MARKS))
def test_training(build):
    check_training(built(build))


def test_hard_router_is_refused():
    """Which expert is asked jumps; the router's gate does not close the gap."""
    model = of_linen(MixtureOfExperts(hard=1), normal(7, 2, 3))
    bounds = (fixed(model.parameters), box(-1.0, 1.0))
    with pytest.raises(DiscontinuityError, match=r"'top_k' at .*test_sequences.py.*jump"):
        smooth(model.apply, 0.1, bounds).certificate(model.parameters, model.inputs)
