"""Training that shows how far it is, stops when asked, and goes on where it stopped."""

from collections.abc import Iterator
from contextlib import contextmanager

from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.interrupt import Interrupt
from jaxsci.core.progress import progress
from jaxsci.core.rundir import Run
from jaxsci.workflows.learning import AfterEpoch


@contextmanager
def training(run: Run, epochs: int, label: str, *, log: bool = True) -> Iterator[tuple[AfterEpoch, Checkpoints]]:
    """What `learning.train` wants: what to do after an epoch, and checkpoints of this training in the run directory.

    Raises `KeyboardInterrupt` at the end of the block when a signal ended the training.
    """
    done = 0
    folder = run.checkpoint_directory / label.replace(" ", "_")
    with Interrupt() as interrupt, progress(epochs, label) as bar, Checkpoints(folder, keep=1) as checkpoints:

        def after_epoch(epoch, losses):
            nonlocal done
            loss = float(losses.mean())
            bar.update(epoch + 1 - done, loss=loss)
            done = epoch + 1
            if log:
                run.log({"loss": loss}, epoch)
            return interrupt.requested()

        yield after_epoch, checkpoints
        if interrupt.requested():
            raise KeyboardInterrupt(f"interrupted; continue with resume={run.directory}")
