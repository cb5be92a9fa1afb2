"""Networks for series of POD coefficients: one step at a time, or the whole series in one call."""

from jaxsci.emulators.sequence.autoregressive import AutoregressiveLstm as AutoregressiveLstm
from jaxsci.emulators.sequence.convolution import NaTcn as NaTcn
from jaxsci.emulators.sequence.direct import DirectRecurrent as DirectRecurrent
from jaxsci.emulators.sequence.direct import EmulatorMean as EmulatorMean
from jaxsci.emulators.sequence.fourier import NaMlp as NaMlp
from jaxsci.emulators.sequence.modewise import NaLstm as NaLstm
