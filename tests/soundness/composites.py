"""Steps made of steps: residuals, products, maxima of branches, loops, losses."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tests.soundness.choices import Choices, array, flag, pick
from tests.soundness.recurrent import recurrent, repeated
from tests.soundness.steps import Shape, Step, dense, leaf, out_shape


def _merge(*steps: Step) -> tuple[dict[str, Shape], list[Any]]:
    """The parameters of all steps under names of their own, and how each reads its own."""
    merged: dict[str, Shape] = {}
    readers = []
    for index, step in enumerate(steps):
        names = {key: f"{index}{key}" for key in step.parameters}
        merged |= {names[key]: shape for key, shape in step.parameters.items()}
        readers.append(lambda p, names=names: {key: p[name] for key, name in names.items()})
    return merged, readers


def _square(choices: Choices, shape: Shape) -> Step:
    """A step that keeps the shape."""
    if shape and shape[-1] <= 5 and flag(choices, 40):
        n = shape[-1]
        if flag(choices, 50):
            return Step("dense same", lambda p, x: x @ p["w"], {"w": (n, n)})
        values = array(choices, (n, n), 0.6)
        return Step("dense same constant", lambda _, x: x @ jnp.asarray(values, x.dtype))
    for _ in range(20):
        step = leaf(choices, shape)
        if out_shape(step, shape) == shape:
            return step
    return Step("abs", lambda _, x: jnp.abs(x))


BRANCHES = {
    "f + g": lambda a, b: a + b,
    "f − g": lambda a, b: a - b,
    "f · g": lambda a, b: a * b,
    "max(f, g)": jnp.maximum,
    "min(f, g)": jnp.minimum,
    "f / (1 + g²)": lambda a, b: a / (1 + b**2),
    "f σ(g)": lambda a, b: a * jax.nn.sigmoid(b),
    "logaddexp(f, g)": jnp.logaddexp,
    "[f, g]": lambda a, b: jnp.concatenate([jnp.atleast_1d(a), jnp.atleast_1d(b)], -1),
    "where(f > g, f, g)": lambda a, b: jnp.where(a > b, a, b),
    "|f − g|": lambda a, b: jnp.abs(a - b),
    "hypot": lambda a, b: jnp.sqrt(0.2 + a**2 + b**2),
    "clip(f, −1, g²)": lambda a, b: jnp.clip(a, -1.0, b**2),
}


def branches(choices: Choices, shape: Shape) -> Step:
    """Two steps of the same array, or one and the array itself, joined."""
    first = _square(choices, shape)
    second = Step("x", lambda _, x: x) if flag(choices, 40) else _square(choices, shape)
    name = pick(choices, sorted(BRANCHES))
    join = BRANCHES[name]
    parameters, (one, two) = _merge(first, second)
    return Step(
        f"{name} of <{first.name}>, <{second.name}>",
        lambda p, x: join(first.apply(one(p), x), second.apply(two(p), x)),
        parameters,
    )


def loop(choices: Choices, shape: Shape) -> Step:
    """The same step a few times over, in one of JAX's ways, with shared parameters."""
    step = _square(choices, shape)
    times = choices.integer(1, 3)
    form = pick(choices, ["scan", "scan with outputs", "fori_loop", "while_loop", "unrolled"])

    def apply(p, x):
        if form == "scan":
            return lax.scan(lambda c, _: (step.apply(p, c), None), x, length=times)[0]
        if form == "scan with outputs":
            shifts = jnp.linspace(-0.2, 0.3, times).astype(x.dtype)
            end, all_of_it = lax.scan(lambda c, s: (step.apply(p, c + s), c), x, shifts)
            return end + all_of_it.mean(0)
        if form == "fori_loop":
            return lax.fori_loop(0, times, lambda _, c: step.apply(p, c), x)
        if form == "while_loop":
            return lax.while_loop(
                lambda c: c[0] < times, lambda c: (c[0] + 1, step.apply(p, c[1])), (0, x)
            )[1]
        for _ in range(times):
            x = step.apply(p, x)
        return x

    return Step(f"{form} {times} × <{step.name}>", apply, step.parameters)


def wrapped(choices: Choices, shape: Shape) -> Step:
    """A step inside another transform."""
    step = leaf(choices, shape)
    form = pick(choices, ["jit", "checkpoint", "vmap", "map", "cond", "grad"])
    if form in ("vmap", "map") and not shape:
        form = "jit"

    def apply(p, x):
        inner = lambda z: step.apply(p, z)  # noqa: E731
        if form == "jit":
            return jax.jit(inner)(x)
        if form == "checkpoint":
            return jax.checkpoint(inner)(x)
        if form in ("vmap", "map"):
            row = lambda z: jnp.tanh(z) + jnp.abs(z)  # noqa: E731
            return inner(jax.vmap(row)(x) if form == "vmap" else lax.map(row, x))
        if form == "cond":
            return lax.cond(jnp.arange(3).sum() > 2, inner, lambda z: 2 * inner(z), x)
        return inner(jax.grad(lambda z: jnp.sum(jax.nn.relu(z) ** 2) / 2)(x))

    return Step(f"{form} of <{step.name}>", apply, step.parameters)


def _hinge(x):
    """Multiclass hinge of class 0."""
    margins = 1 + x[..., 1:] - x[..., :1]
    return jnp.sum(jnp.maximum(margins, 0), -1)


LOSSES = {
    "cross-entropy": lambda x: jax.nn.logsumexp(x, -1) - x[..., 0],
    "cross-entropy by log_softmax": lambda x: -jax.nn.log_softmax(x)[..., 0],
    "cross-entropy one-hot": lambda x: (
        -jnp.sum(jax.nn.log_softmax(x) * jax.nn.one_hot(0, x.shape[-1], dtype=x.dtype), -1)
    ),
    "hinge": _hinge,
    "largest margin": lambda x: jnp.max(1 + x - x[..., :1], -1),
    "l1 to 0.3": lambda x: jnp.mean(jnp.abs(x - 0.3)),
    "squares to 0.3": lambda x: jnp.mean((x - 0.3) ** 2) / 2,
    "logistic": lambda x: jnp.mean(jnp.logaddexp(0.0, -x)),
    "binary": lambda x: jnp.mean(jax.nn.softplus(x) - 0.4 * x),
    "hinge squared": lambda x: jnp.mean(jax.nn.relu(1 - x) ** 2),
    "quantile": lambda x: jnp.mean(jnp.maximum(0.7 * (x - 0.1), -0.3 * (x - 0.1))),
}


def loss(choices: Choices, shape: Shape) -> Step | None:
    name = pick(choices, sorted(LOSSES))
    use = LOSSES[name]
    step = Step(name, lambda _, x: use(x))
    return step if shape and out_shape(step, shape) is not None else None


KINDS = [leaf] * 6 + [branches] * 3 + [loop, wrapped, recurrent, repeated]


def any_step(choices: Choices, shape: Shape) -> Step:
    """Any step, simple or composite, that fits the shape."""
    for _ in range(20):
        step = pick(choices, KINDS)(choices, shape)
        if step is not None and out_shape(step, shape) is not None:
            return step
    return leaf(choices, shape)


def layers(choices: Choices, shape: Shape, depth: int, skip: frozenset[int]) -> list[Step]:
    """A chain of that many steps; those skipped are left out, and the rest is as before."""
    chain: list[Step] = []
    for index in range(depth):
        source = choices.child(f"step {index}")
        if index in skip:
            continue
        last = index == depth - 1
        step: Step | None = None
        if last and flag(source, 40):
            step = loss(source, shape)
        elif index == 0 and len(shape) < 3 and flag(source, 60):
            step = dense(source, shape)
        step = step or any_step(source, shape)
        out = out_shape(step, shape)
        if out is None or np.prod(out, dtype=int) == 0:
            continue
        chain.append(step)
        shape = out
    return chain
