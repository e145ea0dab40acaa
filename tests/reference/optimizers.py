"""NumPy twins of the optimizers, in float64, written from the equations of the papers and of Keras'
documentation.

They share no code with the package and are not built like it: one function per family, one dictionary of
state per variable, every option spelt out. A twin takes the whole run, a list of updates, and returns the
weights after each.
"""

import numpy as np


def length(x):
    return float(np.sqrt(np.sum(np.asarray(x, np.float64) ** 2)))


def clipped(gradients, maximum):
    if maximum is None:
        return gradients
    total = np.sqrt(sum(length(g) ** 2 for g in gradients.values()))
    return {k: g * min(1.0, maximum / total) if total > 0 else g for k, g in gradients.items()}


def limits(bounds, schedule, rate, t):
    if bounds is None:
        return -np.inf, np.inf
    low, high = bounds
    if schedule == "adabound":
        return low * (1 - 1 / (rate * t + 1)), high * (1 + 1 / (rate * t))
    return low, high


def quotient(numerator, denominator):
    """The trust ratio; the convention that a zero norm means no adaptation."""
    return 1.0 if numerator == 0 or denominator == 0 else numerator / denominator


def family(kind, weights, gradients, rates, *, undecayed=(), unadapted=(), weight_decay=0.0, layerwise=False,
           trust_coefficient=1.0, trust_bounds=None, trust_bounds_schedule="fixed", trust_bounds_rate=1e-3,
           clip_global_norm=None, momentum=0.0, nesterov=False, rho=0.9, beta_1=0.9, beta_2=0.999,
           epsilon=1e-7, epsilon_placement=None, initial_accumulator_value=0.1, bias_correction=True,
           weight_norm_bounds=None, decoupled_weight_decay=False):
    """kind: sgd, adagrad, rmsprop, adam or lamb. gradients: one {name: array} an update. rates: one number an
    update.

    Returns [({name: weights}, {name: trust ratio}) after each update].
    """
    w = {k: np.asarray(x, np.float64) for k, x in weights.items()}
    state = {k: {"a": np.full_like(x, initial_accumulator_value), "s": np.zeros_like(x),
                 "m": np.zeros_like(x), "v": np.zeros_like(x)} for k, x in w.items()}
    history = []
    for t, (raw, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        raw = clipped({k: np.asarray(g, np.float64) for k, g in raw.items()}, clip_global_norm)
        low, high = limits(trust_bounds, trust_bounds_schedule, trust_bounds_rate, t)
        ratios = {}
        for k, g in raw.items():
            memory = state[k]
            if decoupled_weight_decay and k not in undecayed:
                w[k] = w[k] - rate * weight_decay * w[k]
            if kind == "sgd":
                u = g
            elif kind == "adagrad":
                memory["a"] = memory["a"] + g * g
                u = (g / np.sqrt(memory["a"] + epsilon) if epsilon_placement in (None, "inside")
                     else g / (np.sqrt(memory["a"]) + epsilon))
            elif kind == "rmsprop":
                memory["s"] = rho * memory["s"] + (1 - rho) * g * g
                u = (g / np.sqrt(memory["s"] + epsilon) if epsilon_placement in (None, "inside")
                     else g / (np.sqrt(memory["s"]) + epsilon))
            else:
                memory["m"] = beta_1 * memory["m"] + (1 - beta_1) * g
                memory["s"] = beta_2 * memory["s"] + (1 - beta_2) * g * g
                c1, c2 = (1 - beta_1 ** t, 1 - beta_2 ** t) if bias_correction else (1.0, 1.0)
                if kind == "adam" and epsilon_placement in (None, "uncorrected"):
                    u = np.sqrt(c2) / c1 * memory["m"] / (np.sqrt(memory["s"]) + epsilon)
                else:
                    u = (memory["m"] / c1) / (np.sqrt(memory["s"] / c2) + epsilon)
            if k not in undecayed and not decoupled_weight_decay:
                u = u + weight_decay * w[k]
            r = 1.0
            if (layerwise or kind == "lamb") and k not in unadapted:
                size = length(w[k])
                if weight_norm_bounds is not None and size > 0:
                    size = min(max(size, weight_norm_bounds[0]), weight_norm_bounds[1])
                r = quotient(size, length(u))
                r = trust_coefficient * r if length(w[k]) > 0 and length(u) > 0 else 1.0
                r = min(max(r, low), high)
            ratios[k] = r
            if kind == "sgd" and layerwise:
                memory["v"] = momentum * memory["v"] + r * u
                move = rate * (momentum * memory["v"] + r * u if nesterov else memory["v"])
            elif kind in ("sgd", "rmsprop"):
                memory["v"] = momentum * memory["v"] + rate * r * u
                move = momentum * memory["v"] + rate * r * u if nesterov else memory["v"]
            else:
                move = rate * r * u
            w[k] = w[k] - move
        history.append(({k: x.copy() for k, x in w.items()}, ratios))
    return history


def lars(weights, gradients, rates, *, undecayed=(), unadapted=(), momentum=0.9, weight_decay=0.0,
         trust_coefficient=0.001, epsilon=0.0, nesterov=False, denominator="sum",
         momentum_convention="unscaled", decay_in_update=True, trust_clip=None, trust_bounds=None,
         clip_global_norm=None):
    """LARS, from the formulas of OPTIMIZERS' table of choices. Returns what `family` returns."""
    w = {k: np.asarray(x, np.float64) for k, x in weights.items()}
    v = {k: np.zeros_like(x) for k, x in w.items()}
    history, rate_before = [], 0.0
    for raw, rate in zip(gradients, rates, strict=True):
        raw = clipped({k: np.asarray(g, np.float64) for k, g in raw.items()}, clip_global_norm)
        ratios = {}
        for k, g in raw.items():
            decay = 0.0 if k in undecayed else weight_decay
            d = g + decay * w[k] if decay_in_update else g
            if momentum_convention in ("scaled", "update_norm"):
                v[k] = momentum * v[k] + d
                move = momentum * v[k] + d if nesterov else v[k]
            if momentum_convention == "update_norm":
                bottom, alive = length(move) + epsilon, length(move) > 0
            elif denominator == "joint":
                bottom, alive = length(g + decay * w[k]) + epsilon, length(g + decay * w[k]) > 0
            else:
                bottom, alive = length(g) + decay * length(w[k]) + epsilon, length(g) > 0
            r = trust_coefficient * length(w[k]) / bottom if alive and length(w[k]) > 0 else 1.0
            if trust_clip:
                r = min(r / rate, 1.0) if rate > 0 else 1.0
            if trust_bounds is not None:
                r = min(max(r, trust_bounds[0]), trust_bounds[1])
            if k in unadapted:
                r = 1.0
            ratios[k] = r
            if momentum_convention in ("scaled", "update_norm"):
                move = rate * r * move
            elif momentum_convention == "after":
                v[k] = momentum * v[k] + r * d
                move = rate * (momentum * v[k] + r * d if nesterov else v[k])
            else:
                change = rate / rate_before if momentum_convention == "corrected" and rate_before > 0 else 1.0
                v[k] = momentum * change * v[k] + rate * r * d
                move = momentum * v[k] + rate * r * d if nesterov else v[k]
            w[k] = w[k] - move
        rate_before = rate
        history.append(({k: x.copy() for k, x in w.items()}, ratios))
    return history


def adam_moved(memory, g, t, rule):
    """Adam's direction after this gradient, Nesterov's or not; moves the moments."""
    b1, b2 = rule["beta_1"], rule["beta_2"]
    memory["m"] = b1 * memory["m"] + (1 - b1) * g
    memory["s"] = b2 * memory["s"] + (1 - b2) * g * g
    m_hat, c2 = memory["m"] / (1 - b1 ** t), 1 - b2 ** t
    if rule["adam_nesterov"]:
        m_hat = b1 * memory["m"] / (1 - b1 ** (t + 1)) + (1 - b1) * g / (1 - b1 ** t)
    if rule["epsilon_placement"] == "uncorrected":
        return np.sqrt(c2) * m_hat / (np.sqrt(memory["s"]) + rule["epsilon"])
    return m_hat / (np.sqrt(memory["s"] / c2) + rule["epsilon"])


def orthogonal(h, steps, coefficients, epsilon=0.0):
    """Newton-Schulz as what it does to singular values: the polynomial, `steps` times, of s / (||s|| + epsilon)."""
    a, b, c = coefficients
    left, s, right = np.linalg.svd(h, full_matrices=False)
    s = s / (length(s) + epsilon) if length(s) > 0 else s
    for _ in range(steps):
        s = a * s + b * s ** 3 + c * s ** 5
    return left @ np.diag(s) @ right


def muon(weights, gradients, rates, *, by_adam=(), undecayed=(), unadapted=(), momentum=0.9, nesterov=True,
         bias_correction=False, newton_schulz_steps=5, newton_schulz_coefficients=(3.4445, -4.775, 2.0315),
         newton_schulz_epsilon=0.0, update_scale="width", adam_rate_ratio=0.1, adam_nesterov=False, beta_1=0.9, beta_2=0.999, epsilon=1e-7,
         epsilon_placement="uncorrected", weight_decay=0.0, decoupled_weight_decay=False, layerwise=False,
         trust_coefficient=1.0, trust_bounds=None, trust_bounds_schedule="fixed", trust_bounds_rate=1e-3,
         clip_global_norm=None):
    """Muon, by singular values. by_adam: names of the variables that Adam moves. Returns what `family` returns."""
    adam = {"beta_1": beta_1, "beta_2": beta_2, "adam_nesterov": adam_nesterov, "epsilon": epsilon,
            "epsilon_placement": epsilon_placement}
    w = {k: np.asarray(x, np.float64) for k, x in weights.items()}
    state = {k: {"v": np.zeros_like(x), "m": np.zeros_like(x), "s": np.zeros_like(x)} for k, x in w.items()}
    history = []
    for t, (raw, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        raw = clipped({k: np.asarray(g, np.float64) for k, g in raw.items()}, clip_global_norm)
        low, high = limits(trust_bounds, trust_bounds_schedule, trust_bounds_rate, t)
        ratios = {}
        for k, g in raw.items():
            if decoupled_weight_decay and k not in undecayed:
                w[k] = w[k] - rate * weight_decay * w[k]
            if k in by_adam:
                u, own_rate = adam_moved(state[k], g, t, adam), adam_rate_ratio * rate
            else:
                # A moving average, as optax has it; its length is lost in the division by the norm.
                state[k]["v"] = v = momentum * state[k]["v"] + (1 - momentum) * g
                epsilon_of_average = (1 - momentum) * newton_schulz_epsilon
                now, then = (1 - momentum ** t, 1 - momentum ** (t + 1)) if bias_correction else (1.0, 1.0)
                h = (momentum * v / then + (1 - momentum) * g / now if nesterov else v).reshape(-1, w[k].shape[-1])
                fan_in, fan_out = h.shape
                scale = {"width": np.sqrt(max(1, fan_out / fan_in)), "none": 1.0,
                         "rms": 0.2 * np.sqrt(max(fan_in, fan_out))}[update_scale]
                u = scale * orthogonal(h, newton_schulz_steps, newton_schulz_coefficients, epsilon_of_average).reshape(w[k].shape)
                own_rate = rate
            if k not in undecayed and not decoupled_weight_decay:
                u = u + weight_decay * w[k]
            r = 1.0
            if layerwise and k not in unadapted:
                r = 1.0 if min(length(w[k]), length(u)) == 0 else trust_coefficient * length(w[k]) / length(u)
                r = min(max(r, low), high)
            ratios[k] = r
            w[k] = w[k] - own_rate * r * u
        history.append(({k: x.copy() for k, x in w.items()}, ratios))
    return history


def shampoo(weights, gradients, rates, *, undecayed=(), unadapted=(), momentum=0.9, nesterov=False, epsilon=1e-6,
            statistics_decay=1.0, block_size=512, inverse_interval=1, grafting="sgd", weight_decay=0.0,
            decoupled_weight_decay=False, trust_coefficient=1.0, clip_global_norm=None):
    """Shampoo block by block, as algorithm 1 of Gupta et al. and grafting of Anil et al.; arrays of rank 1 are not turned.

    Returns what `family` returns.
    """
    w = {k: np.asarray(x, np.float64) for k, x in weights.items()}
    v = {k: np.zeros_like(x) for k, x in w.items()}
    memory, history = {}, []

    def sides(length):
        parts = int(np.ceil(length / block_size))
        each = int(np.ceil(length / parts))
        return [slice(start, min(start + each, length)) for start in range(0, length, each)]

    def inverse_fourth_root(matrix):
        # The singular values of a symmetric positive semi-definite matrix are its eigenvalues.
        vectors, values, _ = np.linalg.svd(matrix)
        if values[0] == 0:
            return np.eye(len(matrix))
        return vectors @ np.diag(np.maximum(values, epsilon * values[0]) ** -0.25) @ vectors.T

    for t, (raw, rate) in enumerate(zip(gradients, rates, strict=True)):
        raw = clipped({k: np.asarray(g, np.float64) for k, g in raw.items()}, clip_global_norm)
        ratios = {}
        for k, g in raw.items():
            turned = g
            if g.ndim > 1:
                matrix = g.reshape(-1, g.shape[-1])
                turned = np.zeros_like(matrix)
                for rows in sides(matrix.shape[0]):
                    for columns in sides(matrix.shape[1]):
                        block = matrix[rows, columns]
                        left, right, roots = memory.get((k, rows.start, columns.start), (0.0, 0.0, None))
                        keep, share = (1.0, 1.0) if statistics_decay == 1 else (statistics_decay, 1 - statistics_decay)
                        left = keep * left + share * block @ block.T
                        right = keep * right + share * block.T @ block
                        if t % inverse_interval == 0:
                            roots = inverse_fourth_root(left), inverse_fourth_root(right)
                        memory[k, rows.start, columns.start] = left, right, roots
                        turned[rows, columns] = roots[0] @ block @ roots[1]
                size = length(turned)
                turned = (turned * (length(g) / size) if size > 0 else turned).reshape(g.shape)
            decay = 0.0 if k in undecayed else weight_decay
            if decoupled_weight_decay:
                w[k], decay = w[k] - rate * decay * w[k], 0.0
            d = turned + decay * w[k]
            r = 1.0
            if grafting == "lars" and k not in unadapted and length(w[k]) > 0 and length(g) > 0:
                r = trust_coefficient * length(w[k]) / (length(g) + decay * length(w[k]))
            ratios[k] = r
            v[k] = momentum * v[k] + rate * r * d
            w[k] = w[k] - (momentum * v[k] + rate * r * d if nesterov else v[k])
        history.append(({k: x.copy() for k, x in w.items()}, ratios))
    return history


def kfac(weights, gradients, rates, factors, *, undecayed=(), momentum=0.9, nesterov=False, damping=1e-3, statistics_decay=0.95,
         inverse_interval=1, kl_clip=1e-3, weight_decay=0.0, decoupled_weight_decay=False, clip_global_norm=None):
    """K-FAC by solving the damped Kronecker system as one matrix. factors: one {path of a kernel: (A, G)} an update; a kernel
    whose A has a row more than its fan_in shares it with the bias beside it.

    Returns what `family` returns.
    """
    w = {k: np.asarray(x, np.float64) for k, x in weights.items()}
    v = {k: np.zeros_like(x) for k, x in w.items()}
    averages, systems, history = {}, {}, []
    for t, (raw, rate, now) in enumerate(zip(gradients, rates, factors, strict=True), start=1):
        raw = clipped({k: np.asarray(g, np.float64) for k, g in raw.items()}, clip_global_norm)
        step, product = dict(raw), 0.0
        for k, pair in now.items():
            keep = min(1 - 1 / t, statistics_decay)
            old = averages.get(k, (0.0, 0.0))
            a, g = averages[k] = [keep * before + (1 - keep) * np.asarray(new, np.float64) for before, new in zip(old, pair)]
            if (t - 1) % inverse_interval == 0:
                pi = np.sqrt(np.trace(a) / len(a) / (np.trace(g) / len(g)))
                systems[k] = np.kron(a + pi * np.sqrt(damping) * np.eye(len(a)), g + np.sqrt(damping) / pi * np.eye(len(g)))
            matrix = raw[k].reshape(-1, len(g))
            bias = k.rpartition("/")[0] + "/bias" if len(a) > len(matrix) else None
            if bias:
                matrix = np.vstack([matrix, raw[bias]])
            natural = np.linalg.solve(systems[k], matrix.ravel()).reshape(matrix.shape)
            product += np.sum(natural * matrix)
            step[k] = natural[:-1].reshape(raw[k].shape) if bias else natural.reshape(raw[k].shape)
            if bias:
                step[bias] = natural[-1]
        preconditioned = set(now) | {k.rpartition("/")[0] + "/bias" for k, (a, g) in now.items() if len(a) * len(g) > raw[k].size}
        size = rate ** 2 * product
        scale = min(1.0, np.sqrt(kl_clip / size)) if kl_clip is not None and size > 0 else 1.0
        for k in w:
            d = scale * step[k] if k in preconditioned else step[k]
            decay = 0.0 if k in undecayed else weight_decay
            if decoupled_weight_decay:
                w[k], decay = w[k] - rate * decay * w[k], 0.0
            d = d + decay * w[k]
            v[k] = momentum * v[k] + rate * d
            w[k] = w[k] - (momentum * v[k] + rate * d if nesterov else v[k])
        history.append(({k: x.copy() for k, x in w.items()}, {k: 1.0 for k in w}))
    return history
