"""Reduced-order models of fields: read, reduce, forecast, verify."""

from jaxsci.emulators.delay import DirectEmulator as DirectEmulator
from jaxsci.emulators.fields import Field as Field
from jaxsci.emulators.fields import load_field as load_field
from jaxsci.emulators.fields import split_by_time as split_by_time
from jaxsci.emulators.linear import LinearEmulator as LinearEmulator
from jaxsci.emulators.linear import fit_linear as fit_linear
from jaxsci.emulators.pod import Pod as Pod
from jaxsci.emulators.reduced import ReducedField as ReducedField
from jaxsci.emulators.reduced import reduce_field as reduce_field
from jaxsci.emulators.sequence import DirectRecurrent as DirectRecurrent
