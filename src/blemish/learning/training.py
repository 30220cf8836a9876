"""The training loop of all methods and stages.

It sums the losses of a method, takes optimizer steps, logs, and saves a checkpoint to resume from. It is independent
of thresholds, detectors and image files. The accelerate library handles devices, mixed precision and several GPUs
(``accelerate launch``).
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast, gather_object
from torch import Generator, Tensor, nn

from blemish.data.streaming import PhotographStream
from blemish.data.unreadable import UnreadablePhotographs
from blemish.devices import Device, Precision, keep_freed_memory, resolve_device, resolve_precision, with_index
from blemish.errors import BlemishError
from blemish.files import replace_file
from blemish.learning.averaging import Average, Best
from blemish.learning.batches import random_batch
from blemish.learning.checkpoints import CHECKPOINT_FORMAT, as_here, read_checkpoint
from blemish.learning.graphed import GraphedStep
from blemish.learning.interrupts import TrainingInterrupted, stop_on_interrupt
from blemish.learning.record import Reporter, TrainingRecord, keep_rows
from blemish.methods.base import Ingredients, Learner, Stage
from blemish.synthesis.draw import drawn

CHECKPOINT_EVERY_S = 60.0
LOG_EVERY = 20


def _fits(images: Tensor, device: torch.device) -> bool:
    """Whether the images need less than half of the free GPU memory; always true on a CPU."""
    return device.type != "cuda" or images.nbytes < torch.cuda.mem_get_info(device)[0] / 2


class _Objective(nn.Module):
    """``Learner.loss`` as a module's ``forward``, which autocast and DDP wrap."""

    def __init__(self, method: Learner, ingredients: Ingredients) -> None:
        super().__init__()
        self.method, self.ingredients = method, ingredients

    def forward(self, stage: Stage, images: Tensor, generator: Generator) -> dict[str, Tensor]:
        return self.method.loss(stage, images, self.ingredients, generator)


class Trainer:
    """Trains a method on images in memory, in a memory-mapped file, or in files that are read when needed.

    Parameters
    ----------
    method : is trained in place.
    images : (N, 3, H, W) uint8 good images, of the method's size; or photographs, of which crops are streamed.
    ingredients : textures and real defects for simulated damage.
    validation : other good images of the same format, for stages that validate.
    seed : seed of the order of images and of the damage. Same seed, same machine, on a CPU: same weights.
    folder : folder for ``checkpoint.pt`` and ``metrics.jsonl``; None writes no files.
    fingerprint : text that must be equal to resume from a checkpoint (settings, data).
    resume : continue from the checkpoint in ``folder``, if it exists.

    Raises
    ------
    BlemishError
        If the device is not available, or the checkpoint is damaged or belongs to another run.
    """

    def __init__(
        self,
        method: Learner,
        images: Tensor | PhotographStream,
        ingredients: Ingredients = Ingredients(),  # noqa: B008  (frozen)
        *,
        validation: Tensor | None = None,
        n_good: int | None = None,
        seed: int = 0,
        device: Device | torch.device = "auto",
        precision: Precision = "auto",
        folder: Path | None = None,
        fingerprint: str = "",
        tensorboard: bool = False,
        reporter: Reporter | None = None,
        checkpoint_every_s: float = CHECKPOINT_EVERY_S,
        resume: bool = False,
    ) -> None:
        requested = resolve_device(device)
        self.precision = resolve_precision(precision, requested)
        keep_freed_memory()
        if requested.type == "cuda":  # accelerate takes the current device, unless it starts several processes
            torch.cuda.set_device(requested)
        AcceleratorState._reset_state(reset_partial_state=True)  # a process may train twice, in different precisions
        self.accelerator = Accelerator(
            cpu=requested.type != "cuda",
            mixed_precision="bf16" if self.precision == "bf16" else "no",
            log_with="tensorboard" if tensorboard else None,
            project_dir=str(folder) if tensorboard else None,
        )
        if tensorboard:
            if importlib.util.find_spec("tensorboard") is None:
                raise BlemishError('--tensorboard: tensorboard is not installed; pip install "blemish[tracking]"')
            self.accelerator.init_trackers("tensorboard")
        self.device = with_index(self.accelerator.device) if requested.type == "cuda" else requested
        self.method, self.ingredients = method.to(self.device), ingredients
        self.method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.images = images.to(self.device) if isinstance(images, Tensor) and _fits(images, self.device) else images
        self.n_good = len(images) if n_good is None else n_good
        self.validation = None if validation is None else validation.to(self.device).float() / 255.0
        self.generator = torch.Generator().manual_seed(seed + self.accelerator.process_index)
        n_processes = self.accelerator.num_processes
        self.fingerprint = f"{CHECKPOINT_FORMAT}/{fingerprint}/{n_processes}"
        self.folder, self.reporter, self.checkpoint_every_s = folder, reporter, checkpoint_every_s
        self.elapsed_s, self.n_steps_done, self.n_images_seen = 0.0, 0, 0
        self.checkpoint = self._load_checkpoint() if resume else None
        self.uses_graphs = self.device.type == "cuda" and method.settings.cuda_graphs and n_processes == 1

    # --- the loop ---------------------------------------------------------------------------------------------

    def run(self) -> TrainingRecord:
        """Train all stages, or those that remain after the checkpoint.

        Raises
        ------
        BlemishError
            If a loss or a weight is not finite; the last good checkpoint is kept.
        TrainingInterrupted
            After Ctrl-C, once the checkpoint is written.
        """
        checkpoint = self.checkpoint
        first_stage = checkpoint["stage"] if checkpoint else 0
        self._start_log(self.n_steps_done)
        with stop_on_interrupt() as interrupted:
            for number, stage in enumerate(self.method.stages()):
                if number >= first_stage:
                    self._run_stage(number, stage, checkpoint if number == first_stage else None, interrupted)
        self.accelerator.end_training()
        self.method.eval()
        return TrainingRecord(self.n_steps_done, self.n_images_seen, self.elapsed_s, str(self.device), self.precision)

    def _run_stage(
        self, number: int, stage: Stage, checkpoint: dict[str, Any] | None, interrupted: Callable[[], bool]
    ) -> None:
        objective, optimizer = self._begin(stage)
        average = Average(self.method, stage.ema_decay)
        best = Best(self.method, stage)
        start, n_steps = 0, stage.n_iterations(self.n_good)
        if checkpoint and checkpoint["step"]:
            start = checkpoint["step"]
            optimizer.load_state_dict(as_here(checkpoint["optimizer"], optimizer))
            average.load(checkpoint["average"])
            best.load(checkpoint["best"])
        batch_size, save = self._batch_size(stage), partial(self._save_checkpoint, number, optimizer, average, best)
        first_bad_step = torch.tensor(-1, device=self.device)  # the first step with a loss that is not finite, or -1
        began_s, saved_s, elapsed_before_s = time.perf_counter(), time.perf_counter(), self.elapsed_s

        side_px, take_step = None, self.step(stage, objective, optimizer, batch_size, None)
        for step in range(start, n_steps):
            if side_px != self._side_px(stage, step / n_steps):
                side_px = self._side_px(stage, step / n_steps)
                take_step = self.step(stage, objective, optimizer, batch_size, side_px)
            rate = stage.learning_rate * stage.schedule(step / n_steps)
            _set_rate(optimizer, rate)
            losses, total = self._take(take_step, partial(save, step, False))
            average.update(step)
            first_bad_step = torch.where((first_bad_step < 0) & ~total.isfinite(), step, first_bad_step)
            self.n_images_seen += batch_size * self.accelerator.num_processes

            done = step + 1
            validated: dict[str, float] = {}
            if best.is_due(done, n_steps):
                self._stop_if_bad(stage, int(first_bad_step.cpu()))
                with average.applied():
                    value = self._validate(stage)
                    best.offer(done, value, is_counted=side_px is None)
                validated = {"validation": value}
            finished = done == n_steps or best.is_final
            is_single = self.accelerator.num_processes == 1
            if done % LOG_EVERY and not finished and not validated and not (is_single and interrupted()):
                continue
            self._stop_if_bad(stage, int(first_bad_step.cpu()))
            now_s = time.perf_counter()
            self.elapsed_s = elapsed_before_s + now_s - began_s
            left_s = (now_s - began_s) / (done - start) * (n_steps - done)
            logged = _numbers(losses | self.method.observe()) | validated
            self._log(stage, done, n_steps, logged, rate, left_s)
            stop, is_due = self._agree(interrupted(), now_s - saved_s > self.checkpoint_every_s)
            if stop or is_due or finished:
                if finished:
                    average.apply()
                    best.apply()
                self._stop_if_bad(stage, -1 if self._weights_are_finite() else step)
                save(done, finished)
                saved_s = now_s
            if finished:
                break
            if stop:
                raise TrainingInterrupted(f"stopped after step {done} of {n_steps}")
        self.accelerator.free_memory(objective, optimizer)

    def _batch_size(self, stage: Stage) -> int:
        """Return the number of images per step of this process."""
        batch_size, left_over = divmod(stage.batch_size, self.accelerator.num_processes)
        if left_over:
            raise BlemishError(
                f"batch_size {stage.batch_size} cannot be shared by {self.accelerator.num_processes} processes"
            )
        return int(batch_size)

    def _begin(self, stage: Stage) -> tuple[Any, Any]:
        """Return the objective of a stage and the optimizer of its parameters."""
        groups = stage.groups()
        trained_ids = {id(parameter) for group in groups for parameter in group["params"]}
        for parameter in self.method.parameters():
            parameter.requires_grad_(id(parameter) in trained_ids)
        self.method.train()
        options = {"fused": True} if self.device.type == "cuda" else {}
        if self.uses_graphs:
            options = {"fused": True, "capturable": True}
        optimizer = stage.optimizer(groups, lr=stage.learning_rate, **options)
        if self.uses_graphs:  # a tensor, which a graph reads at each step
            for group in optimizer.param_groups:
                group["lr"] = torch.tensor(stage.learning_rate, device=self.device)
        prepared: tuple[Any, Any] = self.accelerator.prepare(
            _Objective(self.method, self.ingredients), optimizer, device_placement=[False, False]
        )
        return prepared

    def step(
        self, stage: Stage, objective: Any, optimizer: Any, batch_size: int, side_px: int | None
    ) -> Callable[[], tuple[dict[str, Tensor], Tensor]]:
        """Return a function that takes a training step and returns the losses and their sum.

        It trains on whole images if ``side_px`` is None, else on square crops of ``side_px``.
        """

        def take() -> tuple[dict[str, Tensor], Tensor]:
            optimizer.zero_grad(set_to_none=True)  # a failed capture may have left gradients
            losses = objective(stage, self._draw(batch_size, side_px), self.generator)
            total = torch.stack(list(losses.values())).sum()
            self.accelerator.backward(total)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            return {name: loss.detach() for name, loss in losses.items()}, total.detach()

        return GraphedStep(take, self.generator, self.device) if self.uses_graphs else take

    def _take(
        self, take_step: Callable[[], tuple[dict[str, Tensor], Tensor]], save: Callable[[], None]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Take a step; before one for which photographs cannot be read any more, save what is trained."""
        try:
            losses, total = take_step()
        except UnreadablePhotographs as error:  # the batch is drawn first: nothing of the step has begun
            if error.is_shared and self._weights_are_finite():
                save()
            raise
        self.n_steps_done += 1
        return losses, total

    def _draw(self, batch_size: int, side_px: int | None) -> Tensor:
        """Return this process's part of a batch: images, or crops of ``side_px``, (B, 3, H, W) float in [0, 1]."""
        stream = self.images
        if isinstance(stream, PhotographStream):
            share = self.accelerator.process_index, self.accelerator.num_processes
            batch = drawn(
                lambda generator: stream.batch(self.n_steps_done, batch_size, side_px, *share),
                self.generator,
                self.device,
            )
        else:
            batch = random_batch(stream, batch_size, side_px, self.generator, self.device)
        return (batch.float() / 255.0).contiguous(memory_format=torch.channels_last)

    def _side_px(self, stage: Stage, progress: float) -> int | None:
        """Return the side of the crops at this progress in [0, 1), px; None for whole images."""
        side_px = stage.crop_px(progress) if stage.crop_px is not None else None
        return None if side_px is None or side_px >= max(self.images.shape[-2:]) else side_px

    @torch.no_grad()
    def _validate(self, stage: Stage) -> float:
        """Return the validation of the first process, since batch-norm statistics may differ between processes."""
        if self.validation is None or not len(self.validation):
            raise BlemishError(f"stage {stage.name} validates, and there are no validation images")
        self.method.eval()
        value = self.method.validate(stage, self.validation)
        self.method.train()
        if self.accelerator.num_processes == 1:
            return value
        return float(broadcast(torch.tensor(value, dtype=torch.float64, device=self.device)))

    def _agree(self, *decisions: bool) -> list[bool]:
        """Return the decisions of the first process: all processes must save, or stop, after the same step.

        They also learn here which photographs others could not read, so that they stop at the same step.
        """
        if self.accelerator.num_processes == 1:
            return list(decisions)
        if isinstance(self.images, PhotographStream):
            self.images.settle(gather_object)
        flags = torch.tensor(decisions, dtype=torch.uint8, device=self.device)
        return [bool(flag) for flag in broadcast(flags).tolist()]

    def _weights_are_finite(self) -> bool:
        tensors = [tensor for tensor in self.method.state_dict().values() if tensor.is_floating_point()]
        return bool(torch.stack([tensor.isfinite().all() for tensor in tensors]).all().cpu())

    def _stop_if_bad(self, stage: Stage, first_bad_step: int) -> None:
        if first_bad_step >= 0:
            has_checkpoint = self.folder is not None and (self.folder / "checkpoint.pt").exists()
            raise BlemishError(
                f"training: a loss or weight of stage {stage.name} was not finite at step {first_bad_step + 1}; "
                f"lower learning_rate or use --precision float32"
                + (f" (the checkpoint before it is kept in {self.folder})" if has_checkpoint else "")
            )

    # --- the record -------------------------------------------------------------------------------------------

    def _start_log(self, n_steps_done: int) -> None:
        """Remove the rows after the checkpoint from which training continues."""
        if self.folder is None or not self.accelerator.is_main_process:
            return
        keep_rows(self.folder / "metrics.jsonl", n_steps_done)

    def _log(
        self, stage: Stage, step: int, n_steps: int, values: dict[str, float], rate: float, left_s: float
    ) -> None:
        if not self.accelerator.is_main_process:
            return
        self.accelerator.log(
            {f"{stage.name}/{name}": value for name, value in values.items()}, step=self.n_steps_done
        )
        if self.reporter is not None:
            self.reporter.step(stage.name, step, n_steps, values, left_s)
        if self.folder is not None:
            row = {"stage": stage.name, "step": step, "total_step": self.n_steps_done, **values}
            row |= {"learning_rate": rate, "elapsed_s": round(self.elapsed_s, 2)}
            row |= {"images_per_s": round(self.n_images_seen / self.elapsed_s, 2)}
            with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")

    def _save_checkpoint(
        self, number: int, optimizer: Any, average: Average, best: Best, step: int, finished: bool
    ) -> None:
        if self.folder is None:
            return
        generators = self.accelerator.gather(self.generator.get_state().to(self.device)[None]).cpu()
        state = {
            "fingerprint": self.fingerprint,
            "stage": number + 1 if finished else number,
            "step": 0 if finished else step,
            "method": self.method.state_dict(),
            "optimizer": optimizer.state_dict(),
            "average": average.shadow,
            "best": best.state(),
            "generators": generators,
            "elapsed_s": self.elapsed_s,
            "n_steps_done": self.n_steps_done,
            "n_images_seen": self.n_images_seen,
            "unreadable": self.images.unreadable.reasons if isinstance(self.images, PhotographStream) else {},
        }
        if self.accelerator.is_main_process:
            with replace_file(self.folder / "checkpoint.pt") as file:
                torch.save(state, file)

    def _load_checkpoint(self) -> dict[str, Any] | None:
        path = None if self.folder is None else self.folder / "checkpoint.pt"
        if path is None or not path.exists():
            return None  # killed before the first checkpoint: start again
        checkpoint = read_checkpoint(path, self.fingerprint)
        self.method.load_state_dict(checkpoint["method"])
        self.generator.set_state(checkpoint["generators"][self.accelerator.process_index])
        self.elapsed_s, self.n_steps_done = checkpoint["elapsed_s"], checkpoint["n_steps_done"]
        self.n_images_seen = checkpoint["n_images_seen"]
        if isinstance(self.images, PhotographStream):
            self.images.restore(checkpoint["unreadable"])
        return checkpoint


def _numbers(scalars: dict[str, Tensor]) -> dict[str, float]:
    """Convert scalars on the device to numbers, with one synchronization for all."""
    stacked = torch.stack([scalar.detach().double() for scalar in scalars.values()])
    return dict(zip(scalars, stacked.cpu().tolist(), strict=True))


def _set_rate(optimizer: Any, rate: float) -> None:
    for group in optimizer.param_groups:
        group_rate = rate * group["rate_factor"]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(group_rate)
        else:
            group["lr"] = group_rate
