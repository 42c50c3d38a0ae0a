"""The loop: a generator of events that knows Learners and Batches only.

It yields between steps, never inside a `with`, and saves before it says so: whoever stops asking for
events leaves a loop that can be resumed from its last checkpoint, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch

from pretune.errors import Interrupted, TrainingError
from pretune.models.learner import Learner
from pretune.training.checkpoint import Checkpoint, changing, load_by_name
from pretune.training.context import Evaluation, TrainingContext
from pretune.training.distribution import distribution_of, replaced
from pretune.training.ema import MovingAverage
from pretune.training.events import Evaluated, Event, Finished, Saved, Saving, Started, Stepped, Warned
from pretune.training.pace import Clock, Pace
from pretune.training.plan import Plan, Progress
from pretune.training.rows import RowUpdates, large_tables
from pretune.training.spikes import spike
from pretune.training.step import Stepper
from pretune.training.turn import LoopState
from pretune.types import Batch, ParamGroup, StepOutput

if TYPE_CHECKING:
    from pretune.data.loader import Loader

Figures = TypeVar("Figures")

MAX_FAILURES = 3


def fit(
    learner: Learner,
    loader: Loader,
    groups: Sequence[ParamGroup],
    plan: Plan,
    context: TrainingContext,
    evaluation: Evaluation | None = None,
    resume: Checkpoint | None = None,
) -> Generator[Event]:
    """Train one phase, yielding what happens.

    Args:
        learner: forward(batch) -> StepOutput; its trainable parameters are those of `groups`.
        loader: training batches, deterministic in (seed, epoch).
        groups: parameters by name, with their learning rate scales.
        plan: everything constant.
        context: device, checkpoints, decisions.
        evaluation: how splits are measured.
        resume: a checkpoint of this very phase.

    Closing it saves first where one process trains. Several close it by `throw(Interrupted(…))`, once all have agreed to stop.

    Raises:
        TrainingError: the loss stayed NaN or diverged after three restarts at lower rates.
    """
    with torch.inference_mode(False):  # whatever its consumer asks for the first event in
        loop = _Loop(learner, loader, groups, plan, context, evaluation)
    if resume is not None:
        loop.restore(resume)
    else:
        loop.save()
    try:
        with closing(loop.run()) as events:
            for event in events:
                loop.suspend()
                yield event
                loop.go_on()
    except GeneratorExit:
        if context.device.world == 1:
            loop.save()
        raise
    except Interrupted:
        loop.save()
        raise
    finally:
        loop.close()


class _Loop:
    """The state of one phase between two events."""

    def __init__(
        self,
        learner: Learner,
        loader: Loader,
        groups: Sequence[ParamGroup],
        plan: Plan,
        context: TrainingContext,
        evaluation: Evaluation | None,
    ) -> None:
        self.learner, self.loader, self.plan, self.context, self.evaluation = learner, loader, plan, context, evaluation
        sparse = context.device.world == 1 and plan.ema is None
        self.distribution = context.distribution or distribution_of(context.device)
        names = {id(p): name for name, p in learner.named_parameters()}
        module = self.distribution.parallelize(learner)
        groups = replaced(groups, names, learner)
        self.optimizer = plan.optim.build(groups, plan.lr, plan.weight_decay, large_tables(learner) if sparse else ())
        self.trainable = sum(p.numel() for group in groups for _, p in group)
        self.turn = LoopState(learner, plan.seed, context.device.device, plan.threads)
        self.average = MovingAverage(learner, plan.ema) if plan.ema is not None else None
        self.progress = Progress(steps=self._steps_of(plan.epochs), micro_batch=plan.precision.micro_batch)
        self.best: dict[str, torch.Tensor] = {}
        self.stepper = Stepper(learner, self.optimizer, plan, context.device.device, self.distribution, module)
        self.clock = context.clock or Clock()
        if plan.steps is not None:
            self.progress.steps = max(1, min(plan.steps, self.progress.steps))
        self.pace = Pace(self.clock, plan.budget, self.progress)
        self.saved_at = self.clock.seconds

    def suspend(self) -> None:
        """Let no time pass until `go_on`, where nobody else keeps the clock."""
        if self.context.clock is None:
            self.clock.stop()

    def go_on(self) -> None:
        """Let time pass again."""
        if self.context.clock is None:
            self.clock.go()

    def _steps_of(self, epochs: int) -> int:
        return max(1, sum(self.loader.steps(e) for e in range(epochs)) if epochs <= 3 else self.loader.steps(0) * epochs)

    # --- running -----------------------------------------------------------------------------

    def run(self) -> Generator[Event]:
        """Step through epochs until the plan is fulfilled."""
        reason = "completed"
        yield Started(phase=self.plan.phase, step=self.progress.step, steps=self.progress.steps, trainable=self.trainable)
        if self.evaluation is not None and self.evaluation.starts and self.progress.step == 0 and self.progress.best is None:
            yield from self._evaluate(last=False)
        while self.progress.step < self.progress.steps and reason == "completed":
            failed = yield from self._epoch()
            if failed:
                yield self._begin_again(failed)
                continue
            last = self.progress.step >= self.progress.steps
            if self.progress.batch == 0 or last:
                stop = yield from self._evaluate(last)
                reason = "early_stopped" if stop else reason
        self._settle()
        yield Saving(phase=self.plan.phase, step=self.progress.step)
        yield Saved(phase=self.plan.phase, step=self.progress.step, path=str(self.save(done=True)))
        yield Finished(phase=self.plan.phase, step=self.progress.step, reason=reason, seconds=self.progress.seconds)

    def _epoch(self) -> Generator[Event, None, str]:
        """Yield the steps of one epoch; return a sentence where training failed."""
        now = self.progress
        batches, ends = self.loader.iterate(now.epoch, start=now.batch), self.loader.steps(now.epoch)
        try:
            with self.turn.taken():
                self.learner.train()
            while now.step < now.steps and now.batch < ends:
                self._mark_stable()
                with self.turn.taken():  # once for several steps: swapping takes as long as half a step of a head
                    outs = self._steps(batches, ends)
                loss, size = self.context.device.mean(float(torch.stack([out.loss for out in outs]).mean()), sum(out.size for out in outs))
                stands_out = spike(now, loss, len(outs), self.plan.log_every) if self.plan.spikes else ""
                event, failed = self._report(loss, int(size), outs)
                if failed:
                    return failed
                yield event
                if stands_out:
                    yield Warned(phase=self.plan.phase, step=now.step, message=stands_out)
                if self.context.device.agree(self.clock.seconds - self.saved_at > self.plan.save_seconds):
                    yield Saving(phase=self.plan.phase, step=now.step)
                    self.saved_at = self.clock.seconds
                    path = self.save()
                    now.overhead += self.clock.seconds - self.saved_at
                    yield Saved(phase=self.plan.phase, step=now.step, path=path)
        finally:
            batches.close()
        if now.batch >= ends:
            now.epoch, now.batch = now.epoch + 1, 0
        return ""

    def _steps(self, batches: Iterator[Batch], ends: int) -> list[StepOutput]:
        """Take steps up to one that is reported, as the last of an epoch of `ends` batches is: the next may never come."""
        now, outs = self.progress, []
        while True:
            started = self.clock.seconds
            batch = next(batches)
            now.waited += self.clock.seconds - started
            self._set_lr()
            outs.append(self._take_step(batch))
            if self.average:
                self.average.update(now.step)
            now.step, now.batch, now.micro_batch = now.step + 1, now.batch + 1, self.stepper.micro_batch
            now.seconds += self.clock.seconds - started
            self._replan()
            stopped = self.context.device.world == 1 and self.context.stop()  # several processes agree on it at the next event
            if now.step % self.plan.log_every == 0 or now.step >= now.steps or now.batch >= ends or stopped:
                return outs

    def _report(self, loss: float, size: int, outs: list[StepOutput]) -> tuple[Stepped, str]:
        """Return the event of the steps since the last one, and why they failed if they did."""
        now, failed = self.progress, ""
        if not math.isfinite(loss):
            failed = "the loss is not a number"
        elif now.smooth is not None and now.lowest is not None and now.step > 20 and now.smooth > 10 * now.lowest + 5:
            failed = f"the loss diverges (running mean {now.smooth:.3g}, lowest {now.lowest:.3g})"
        else:
            weight = 0.1 * (len(outs) / self.plan.log_every)
            now.smooth = loss if now.smooth is None else (1 - weight) * now.smooth + weight * loss
            now.lowest = now.smooth if now.lowest is None else min(now.lowest, now.smooth)
        event = Stepped(
            phase=self.plan.phase,
            step=now.step,
            epoch=now.epoch,
            loss=loss,
            lr=self.optimizer.param_groups[-1]["lr"],
            size=size,
            steps=now.steps,
            seconds=now.seconds,
            waited=now.waited,
            logs=outs[-1].logs,
        )
        return event, failed

    def _set_lr(self) -> None:
        now = self.progress
        middle = 0.0 if self.plan.budget is None else 0.5  # a timed phase may have few steps: the rate is that of a step's middle
        factor = self.plan.schedule.factor((now.step + middle) / max(1, now.steps), now.plateaus) * 0.5**now.failures
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial"] * factor

    def _take_step(self, batch: Batch) -> StepOutput:
        """Step; where memory ran out at this step before the run was resumed, compute it in the same parts."""
        now, decisions = self.progress, self.context.decisions
        key = f"{self.plan.number}/{now.failures}/micro_batch/{now.step}"
        self.stepper.micro_batch = decisions.made(key) or self.stepper.micro_batch
        out = self.stepper(batch)
        if self.stepper.micro_batch != now.micro_batch and self.context.device.world == 1:  # several find out each for itself
            decisions.make(key, lambda: self.stepper.micro_batch)
        return out

    def _mark_stable(self) -> None:
        """Keep the last reported state before the rate falls, and never again in this phase."""
        now, schedule = self.progress, self.plan.schedule
        falls = (1 - schedule.decay) * now.steps
        if not self.plan.extensible or schedule.name != "wsd" or now.marked or now.step + self.plan.log_every <= falls:
            return
        now.marked = True
        checkpoint = self._checkpoint(done=False)
        if self.context.device.first:
            self.context.checkpoints.mark_stable(checkpoint)

    def _replan(self) -> None:
        """Fit the number of steps to the time there is; where it is up, this step was the last."""
        now, decisions = self.progress, self.context.decisions
        self.pace.tick(now)
        if self.plan.budget is None:
            return
        key = f"{self.plan.number}/{now.failures}/steps/{now.step}"
        if decisions.made(key) is None and not self.pace.is_due(now) and not self.context.device.agree(self.pace.is_up(now)):
            return
        now.steps = decisions.make(key, lambda: self.pace.steps(now, self._steps_of(self.plan.epochs)))

    # --- evaluating --------------------------------------------------------------------------

    def _evaluate(self, last: bool) -> Generator[Event, None, bool]:
        """Measure the held-out parts; return whether to stop early."""
        now, evaluation = self.progress, self.evaluation
        if evaluation is None:
            return False
        is_late = self.context.device.agree(self.pace.is_late(now))
        if not is_late:
            yield from self._curves(evaluation, last)
        if now.epoch % self.plan.evaluate_every and not last:
            return False
        if evaluation.selects is None and is_late:
            return False  # nothing depends on it, and whoever runs the phases measures at the end
        for split, measure in evaluation.splits.items():
            metrics = self._measured(measure)
            best = split == evaluation.selects and self._is_best(metrics.get(evaluation.primary))
            if best:
                self.best = {k: v.detach().clone() for k, v in self._weights().items()}
            yield Evaluated(phase=self.plan.phase, step=now.step, epoch=now.epoch, split=split, metrics=metrics, best=best)
        if now.stale and now.stale % self.plan.schedule.patience == 0:
            now.plateaus += 1
        return self.plan.patience is not None and now.stale >= self.plan.patience

    def _curves(self, evaluation: Evaluation, last: bool) -> Generator[Event]:
        """Measure what is only shown."""
        now = self.progress
        for split, curve in evaluation.curves.items():
            point = self._measured(partial(curve, now, last))
            if point is not None:
                common = {"phase": self.plan.phase, "step": now.step, "epoch": now.epoch, "split": split}
                yield Evaluated(**common, metrics=point.metrics, best=False, examples=point.examples)

    def _measured(self, measure: Callable[[], Figures]) -> Figures:
        started = self.clock.seconds
        with self.turn.taken():
            self.learner.eval()
            self._bring_up_to_date()
            with self.average.applied() if self.average else nullcontext():
                figures = measure()
        self.progress.overhead += self.clock.seconds - started
        return figures

    def _is_best(self, value: float | None) -> bool:
        """Return whether a value is the best so far, and count those that are not; None, of a metric that does not exist, is neither."""
        assert self.evaluation is not None
        now = self.progress
        if value is None:
            return False
        better = now.best is None or (value > now.best if self.evaluation.higher_is_better else value < now.best)
        now.best, now.stale = (value, 0) if better else (now.best, now.stale + 1)
        return better

    def _weights(self) -> dict[str, torch.Tensor]:
        """Return what evaluation sees: the average where there is one, with the buffers."""
        return {**changing(self.learner), **(self.average.average if self.average else {})}

    def _settle(self) -> None:
        """Leave the best weights (or the average, or the last) in the learner, in eval mode."""
        self._bring_up_to_date()
        if self.best:
            load_by_name(self.learner, self.best)
        elif self.average:
            self.average.settle()
        self.learner.eval()

    def _bring_up_to_date(self) -> None:
        if isinstance(self.optimizer, RowUpdates):
            self.optimizer.settle()

    def close(self) -> None:
        """Let go of the learner."""
        if isinstance(self.optimizer, RowUpdates):
            self.optimizer.release()

    # --- failing, saving, resuming -----------------------------------------------------------

    def _begin_again(self, failed: str) -> Warned:
        """Go back to the phase's beginning at half the rate: deterministic, so that a resume repeats it."""
        now = self.progress
        step, failures = now.step, now.failures + 1
        if failures > MAX_FAILURES:
            raise TrainingError(
                f"{self.plan.phase}: {failed} at step {step}, and again after {MAX_FAILURES} restarts at lower rates. "
                f"Lower lr (now {self.plan.lr:g}), or look for absurd inputs with: pretune audit DATA"
            )
        first = self.context.checkpoints.first(self.plan.number)
        if first is None:
            raise TrainingError(
                f"{self.plan.phase}: {failed} at step {step}, and the phase's first checkpoint is gone. Lower lr (now {self.plan.lr:g})."
            )
        self.pace.tick(now)
        self.restore(first)
        self.progress.failures = failures
        self.progress.spent = now.spent  # what failed took time as well
        self.pace.begin(self.progress)
        checkpoint = self._checkpoint(done=False)
        if self.context.device.first:  # a resume begins where this one does, not at steps that failed
            self.context.checkpoints.begin_again(self.plan.number, checkpoint)
        rate = self.plan.lr * 0.5**failures
        message = f"{failed} at step {step}; restarting the phase with lr {rate:.2g}"
        return Warned(phase=self.plan.phase, step=step, message=message, restart=True)

    def save(self, done: bool = False) -> str:
        """Write a checkpoint on rank 0 and return its path."""
        checkpoint = self._checkpoint(done)
        if not self.context.device.first:
            return ""
        return str(self.context.checkpoints.save(self.plan.number, self.progress.step, checkpoint))

    def _checkpoint(self, done: bool) -> Checkpoint:
        tensors = self.distribution.state(self.learner, self.optimizer)
        tensors |= {f"ema/{k}": v for k, v in (self.average.average if self.average else {}).items()}
        tensors |= {f"best/{k}": v for k, v in self.best.items()}
        state = {
            "phase": self.plan.number,
            "done": done,
            "progress": self.progress.to_json(),
            "streams": self.context.device.gather(self.turn.streams.state()),
        }
        return Checkpoint(tensors=tensors, state=state)

    @torch.inference_mode(False)
    def restore(self, checkpoint: Checkpoint) -> None:
        """Put everything back as it was when the checkpoint was saved."""
        self.distribution.load(self.learner, self.optimizer, checkpoint.tensors)
        if self.average:
            self.average.average = {k: v.clone() for k, v in checkpoint.tensors_below("ema").items()}
        self.best = checkpoint.tensors_below("best")
        self.progress = Progress.from_json(checkpoint.state["progress"])
        self.pace.begin(self.progress)
        self.stepper.micro_batch = self.progress.micro_batch
        self.turn.streams.load(checkpoint.state["streams"][self.context.device.rank])
