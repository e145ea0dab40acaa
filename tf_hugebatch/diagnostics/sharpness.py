"""The largest eigenvalue of the Hessian by Lanczos iterations (Lanczos 1950; Keskar et al. 2016, arXiv 1609.04836, on why).

Memory: a float64 vector of all parameters a product, all of them kept, on the host: at most MOST_PRODUCTS, with ResNet-50's
25.6 million 8.2 GB.
"""

import numpy as np

#: Products with the Hessian at most and at least, and the relative residual at which no more are needed.
MOST_PRODUCTS, LEAST_PRODUCTS, ENOUGH = 40, 10, 1e-3


def measure(product, size, seed=0, most=MOST_PRODUCTS, enough=ENOUGH):
    """The algebraically largest eigenvalue of a symmetric matrix that is known by its products with vectors.

    Lanczos with full reorthogonalisation from a random vector: in the basis Q of the Krylov space the matrix is tridiagonal,
    T = Q' A Q, whose largest eigenvalue theta is never above A's; the residual |A y - theta y| = beta_k |s_k| of its Ritz
    vector y bounds the distance to an eigenvalue of A.

    Args:
        product: float64 vector [size] -> A times it.
        size: of the matrix.
        seed: of the vector that it starts from.
        most: products at most.
        enough: stops where the residual is at most this share of |theta|, after LEAST_PRODUCTS: the residual bounds the
            distance to *an* eigenvalue, and a random start lies almost in the space of one that is there many times.

    Returns:
        dict: eigenvalue, residual, products. The first two are not numbers where a product is none.
    """
    vector = np.random.default_rng(seed).normal(size=size)
    basis = [vector / np.linalg.norm(vector)]
    diagonal, beside = [], []
    while True:
        image = np.asarray(product(basis[-1]), np.float64)
        if not np.isfinite(image).all():
            return {"eigenvalue": np.nan, "residual": np.nan, "products": len(basis)}
        diagonal.append(float(image @ basis[-1]))
        for _ in range(2):  # once leaves what rounding brings back
            image = image - sum((image @ other) * other for other in basis)
        length = float(np.linalg.norm(image))
        tridiagonal = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
        values, vectors = np.linalg.eigh(tridiagonal)
        theta, residual = float(values[-1]), length * abs(float(vectors[-1, -1]))
        # The rest of the space has nothing that the start vector could show, or all of it was seen.
        exhausted = length <= 1e-10 * max(abs(values).max(), np.finfo(float).tiny) or len(basis) == size
        settled = residual <= enough * abs(theta) and len(basis) >= LEAST_PRODUCTS
        if settled or exhausted or len(basis) == most:
            return {"eigenvalue": theta, "residual": residual, "products": len(basis)}
        beside.append(length)
        basis.append(image / length)
