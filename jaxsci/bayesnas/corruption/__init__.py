"""Corruptions of images by type and severity, seeded, on the device, for robustness without a download."""

from jaxsci.bayesnas.corruption.catalogue import CIFAR10 as CIFAR10
from jaxsci.bayesnas.corruption.catalogue import CIFAR10_EXTRA as CIFAR10_EXTRA
from jaxsci.bayesnas.corruption.catalogue import DIGITS as DIGITS
from jaxsci.bayesnas.corruption.catalogue import corrupt as corrupt
from jaxsci.bayesnas.corruption.catalogue import corrupt_bytes as corrupt_bytes
