"""Every installed plugin keeps the laws."""

from tenfold import factorizations, implementations
from tenfold.testing import conformance

for _name in factorizations.names():
    globals()[f"TestFactorization_{_name}"] = conformance(factorization=_name)(
        type(f"TestFactorization_{_name}", (), {})
    )
for _name in implementations.names():
    globals()[f"TestImplementation_{_name}"] = conformance(implementation=_name)(
        type(f"TestImplementation_{_name}", (), {})
    )
