"""Models of data: autoencoders, with and without noise."""

from __future__ import annotations

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import linen as nn
from flax import nnx

from tests.models.harness import (
    SLOW,
    built,
    cases,
    check_inputs_in_a_box,
    check_training,
    normal,
    of_equinox,
    of_haiku,
    of_linen,
    of_nnx,
    uniform,
)


class Encoder(nn.Module):
    latents: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(6, name="fc1")(x)
        x = nn.relu(x)
        mean_x = nn.Dense(self.latents, name="fc2_mean")(x)
        logvar_x = nn.Dense(self.latents, name="fc2_logvar")(x)
        return mean_x, logvar_x


class Decoder(nn.Module):
    outputs: int

    @nn.compact
    def __call__(self, z):
        z = nn.Dense(6, name="fc1")(z)
        z = nn.relu(z)
        z = nn.Dense(self.outputs, name="fc2")(z)
        return z


class VAE(nn.Module):
    """As in the VAE example of Flax."""

    latents: int = 2

    def setup(self):
        self.encoder = Encoder(self.latents)
        self.decoder = Decoder(8)

    def __call__(self, x, z_rng):
        mean, logvar = self.encoder(x)
        z = reparameterize(z_rng, mean, logvar)
        recon_x = self.decoder(z)
        return recon_x, mean, logvar


def reparameterize(rng, mean, logvar):
    std = jnp.exp(0.5 * logvar)
    eps = jax.random.normal(rng, logvar.shape)
    return mean + eps * std


@jax.vmap
def kl_divergence(mean, logvar):
    return -0.5 * jnp.sum(1 + logvar - jnp.square(mean) - jnp.exp(logvar))


@jax.vmap
def binary_cross_entropy_with_logits(logits, labels):
    logits = nn.log_sigmoid(logits)
    return -jnp.sum(labels * logits + (1.0 - labels) * jnp.log(-jnp.expm1(logits)))


DATA = uniform(1, 3, 8)


def elbo(outputs):
    recon_x, mean, logvar = outputs
    bce_loss = binary_cross_entropy_with_logits(recon_x, DATA).mean()
    kld_loss = kl_divergence(mean, logvar).mean()
    return bce_loss + kld_loss


def vae():
    return of_linen(VAE(), DATA, jax.random.key(5), loss=elbo)


class NoiseVAE(nnx.Module):
    def __init__(self, rngs):
        self.encode = nnx.Linear(8, 6, rngs=rngs)
        self.mean = nnx.Linear(6, 2, rngs=rngs)
        self.scale = nnx.Linear(6, 2, rngs=rngs)
        self.decode = nnx.Sequential(
            nnx.Linear(2, 6, rngs=rngs), nnx.relu, nnx.Linear(6, 8, rngs=rngs)
        )

    def __call__(self, inputs):
        x, noise = inputs
        h = nnx.relu(self.encode(x))
        mean, std = self.mean(h), nnx.softplus(self.scale(h))
        return self.decode(mean + std * noise), mean, std


def noise_loss(outputs):
    y, mean, std = outputs
    kl = 0.5 * jnp.mean(jnp.sum(-jnp.log(std**2) - 1.0 + std**2 + mean**2, axis=-1))
    return optax.sigmoid_binary_cross_entropy(y, DATA).sum(axis=-1).mean() + kl


def noise_vae():
    return of_nnx(NoiseVAE(nnx.Rngs(0)), (DATA, normal(2, 3, 2)), loss=noise_loss)


IMAGES = uniform(3, 2, 6, 6, 1)


def autoencoder():
    def network(x):
        z = hk.Sequential([hk.Conv2D(2, 3, stride=2), jax.nn.relu, hk.Flatten(), hk.Linear(3)])(x)
        h = jax.nn.relu(hk.Linear(3 * 3 * 2)(z)).reshape(-1, 3, 3, 2)
        return jax.nn.sigmoid(hk.Conv2DTranspose(1, 3, stride=2)(h))

    return of_haiku(network, IMAGES, loss=lambda y: jnp.mean((y - IMAGES) ** 2))


class EquinoxAutoencoder(eqx.Module):
    conv: eqx.nn.Conv2d
    act: eqx.nn.PReLU
    pool: eqx.nn.MaxPool2d
    encode: eqx.nn.Linear
    decode: eqx.nn.Linear
    deconv: eqx.nn.ConvTranspose2d

    def __init__(self, key):
        k = jax.random.split(key, 4)
        self.conv = eqx.nn.Conv2d(1, 2, 3, stride=2, key=k[0])
        self.act = eqx.nn.PReLU(0.1)
        self.pool = eqx.nn.MaxPool2d(2)
        self.encode = eqx.nn.Linear(2, 3, key=k[1])
        self.decode = eqx.nn.Linear(3, 8, key=k[2])
        self.deconv = eqx.nn.ConvTranspose2d(2, 1, 3, stride=2, key=k[3])

    def __call__(self, x):
        z = self.encode(self.pool(self.act(self.conv(x))).ravel())
        return self.deconv(jax.nn.leaky_relu(self.decode(z)).reshape(2, 2, 2))


def equinox_autoencoder():
    return of_equinox(EquinoxAutoencoder(jax.random.key(1)), uniform(3, 2, 1, 6, 6), jointly=False)


MODELS = [vae, noise_vae, autoencoder, equinox_autoencoder]
MARKS = {noise_vae: SLOW, autoencoder: SLOW, equinox_autoencoder: SLOW}


@pytest.mark.parametrize("build", cases(MODELS, MARKS))
def test_inputs_in_a_box(build):
    check_inputs_in_a_box(built(build))


@pytest.mark.parametrize("build", cases(MODELS, MARKS))
def test_training(build):
    check_training(built(build))
