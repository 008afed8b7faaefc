"""The chain of stages: what is done already is skipped, the rest runs in order, the first failure ends it.

Every stage is judged by its recipe twice. Before the first one runs, so that a changed setting is refused before
anything is spent, and again when its turn comes, once what earlier stages make is there. A training is made again only
if the user says so (OVERWRITE=1, FORCE) or if what it learns from was made again by an earlier stage; all else is made
again as soon as what it reads differs.
"""
import contextlib
import fcntl
import functools
import importlib.metadata
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import textwrap

from spml.errors import SpmlError
from spml.names import __version__
from spml.pipeline import checks
from spml.pipeline.checks import count_processes
from spml.pipeline.child import run_process, stop_requests
from spml.pipeline.recipes import States, recipe_of
from spml.pipeline.record import Recorder
from spml.recipe import Answer, FileDigests, Recipe, judge
from spml.utils import interrupt
from spml.utils.files import PROJECT

_ON_SEVERAL = ('train.py', 'train_cam.py', 'prototype.py', 'inference.py', 'pseudo_label.py', 'cam.py')
_WITH_WORKERS = ('inference.py', 'pseudo_label.py', 'prepare_cam.py')
_LISTS = ('TRAIN_LIST', 'FULL_LIST', 'VAL_LIST')


class StageFailedError(SpmlError):
    """A stage ended with a status other than 0, which has been reported."""

    def __init__(self, message, status):
        super().__init__(message)
        self.exit_status = status


class Chain:
    """A pipeline, a plan.Plan, running in the folder of its run; `script` is its bash script's path, for the record."""

    def __init__(self, run_dir, script, plan):
        self.run_dir, self.script, self.plan = pathlib.Path(run_dir), script, plan
        self.overwrite = bool(plan.settings.get('OVERWRITE'))
        self.digests = FileDigests(self.run_dir / '.digests.json')
        self.states, self.recorder = States(self.run_dir), Recorder(self.run_dir)

    def run(self):
        """Check, judge, announce, run; SpmlError: something is wrong, or a stage failed or was interrupted."""
        self.configs = checks.check_plan(self.plan)
        forced = self.plan.forced
        for line in checks.overruled(self.plan):
            print(line)
        with self._locked() as lock:
            # Judged before anything is written or forgotten: a refusal leaves the folder as it was.
            try:
                standing = self._judge_all({stage.name for stage in forced})
            finally:
                self.digests.save()
            settings = self.plan.settings
            if len(standing) < len(self.plan.stages):
                _ = self.processes  # GPUs that are not there are found before anything is written
            for stage in forced:
                self.states.forget(stage)
                if stage.trains:  # weights that nothing vouches for would be taken over
                    self.states.clear(stage, keep=False)
            print(self._announcement(standing), flush=True)
            for folder in ('logs', 'lists'):
                (self.run_dir / folder).mkdir(exist_ok=True)
            self.recorder.write('run', script=self.script, run_dir=str(self.run_dir), version=_version(),
                                torch=importlib.metadata.version('torch'), settings=settings)
            with stop_requests() as stop:
                for number, stage in enumerate(self.plan.stages, start=1):
                    self._take(stage, f'[{number}/{len(self.plan.stages)}] {stage.name}', stop, lock)
                    self._keep_lists()  # the first stage may have made them
            self.digests.save()

    @functools.cached_property
    def processes(self):
        """How many processes run the network."""
        return count_processes(self.plan.settings, self.configs)

    def _recipe(self, stage):
        """Return the Recipe of a stage; what a step takes of each process is as much as there are processes."""
        by_process = (stage.trains and pathlib.PurePath(stage.script).name in _ON_SEVERAL
                      and not self.configs[stage.name].train.total_batch_size)
        return recipe_of(stage, self.digests, self.run_dir, self.processes if by_process else None)

    def _judge_all(self, forced):
        """Return the names of the stages whose results are kept; take over those of an earlier version.

        SpmlError: a training was made with other settings or data.
        """
        standing, pending = [], []
        for stage in self.plan.stages:
            depends = stage.reads_from(pending)
            recipe = self._recipe(stage)
            if stage.name not in forced:
                # What it reads may be about to be made: then its turn decides.
                difference = self.states.adopt(stage, recipe, write=not depends)
                if difference and stage.trains:
                    self._refuse(stage, difference)
            before = self.states.read(stage, recipe)
            # What earlier stages are about to make cannot be compared yet.
            if before and depends:
                before = type(before)(Recipe(before.recipe.values), False)
                recipe = Recipe(recipe.values)
            answer, difference = judge(recipe, before and before.recipe, before and before.complete,
                                       self.overwrite or stage.name in forced, stage.is_costly)
            if answer is Answer.REFUSE:
                self._refuse(stage, difference)
            if answer is Answer.STANDS and not depends and stage.name not in forced:
                standing.append(stage.name)
            else:
                pending += stage.outputs
        return standing

    def _refuse(self, stage, difference):
        if self.overwrite:
            return
        raise SpmlError(f'{self.run_dir}: {stage.name} was made differently ({difference}); set RUN_NAME to begin '
                        'another run, or OVERWRITE=1 to make it again (weights are kept under another name)')

    def _announcement(self, standing):
        """Return in a few lines what will be run."""
        names = []
        for stage in [stage for stage in self.plan.stages if stage.name not in standing]:
            notes = [f'{self.configs[stage.name].train.max_iteration} steps'] if stage.trains else []
            notes += ['again'] * self.states.was_finished(stage)
            names.append(stage.name + (f' ({", ".join(notes)})' if notes else ''))
        done = f'{len(standing)} of {len(self.plan.stages)} stages are done; ' if standing else ''
        lines = textwrap.wrap(f'{done}to run: {", ".join(names) or "nothing"}', 110, break_on_hyphens=False)
        return '\n  '.join([f'{self.run_dir}:', *lines])

    def _take(self, stage, label, stop, lock):
        """Skip a stage or run it."""
        recipe = self._recipe(stage)
        self.states.adopt(stage, recipe)
        before = self.states.read(stage, recipe)
        answer, reason = judge(recipe, before and before.recipe, before and before.complete)
        about = {'stage': stage.name, 'title': stage.title, 'script': stage.script, 'arguments': stage.arguments,
                 'output': os.path.relpath(stage.output, self.run_dir)}
        if answer is Answer.STANDS:
            print(f'{label}: done before, skipped', flush=True)
            self.recorder.write('stage', **about, status='stands')
            return
        resumed = answer is Answer.GOES_ON
        if stage.name == self.plan.settings.get('FORCE'):
            reason = 'forced'
        if resumed:
            reason = 'continues where it stopped'
        else:
            same_list = before is not None and 'lines of --data_list' in recipe.files and (
                before.recipe.files.get('lines of --data_list') == recipe.files['lines of --data_list'])
            self.states.clear(stage, keep=same_list)
        print(f'{label} ...' + (f' ({reason})' if reason else ''), flush=True)
        self.states.write(stage, recipe, complete=False)
        about['resumed'] = resumed
        self.recorder.write('stage', **about, status='begun')
        command = [sys.executable, str(PROJECT / stage.script), *stage.arguments, *self._launch_options(stage, resumed)]
        log = self.run_dir / 'logs' / f'{stage.name}.log'
        ended = run_process(command, log, self._environment(stage), stop, (lock,), resumed)
        self._close(stage, label, recipe, about, ended, stop, command, log)

    def _close(self, stage, label, recipe, about, ended, stop, command, log):
        """Record how a stage ended; raise unless it is done and the chain continues."""
        status = ended.status
        if status == 0 and not stage.output.exists():
            print(f'{stage.output} is missing although the stage reported success')
            status = 1
        interrupted = status != 0 and (stop.requested or status == interrupt.STATUS)
        word = 'done' if status == 0 else 'interrupted' if interrupted else 'failed'
        self.recorder.write('stage', **about, status=word, exit_status=status, seconds=round(ended.seconds, 2),
                            memory=ended.memory, gpu_memory=ended.gpu_memory)
        if status == 0:
            self.states.write(stage, recipe, complete=True)
            if not ended.reader_gone:
                print(f'{label} done in {round(ended.seconds)} s', flush=True)
        if interrupted or stop.requested:
            again = 'again without FORCE' if self.plan.settings.get('FORCE') else 'again'
            raise StageFailedError(f'{label} interrupted; run the same script {again} to continue, finished stages are '
                                   'skipped', 141 if ended.reader_gone else interrupt.STATUS)
        if status:
            hint = ' (killed, perhaps out of memory)' if status == 137 else ''
            raise StageFailedError(
                f'{label} FAILED with status {status}{hint}\n  command: {shlex.join(command)}\n  log:     {log}\n'
                '  to continue: fix the cause and run the same script again; finished stages are skipped', status)

    def _launch_options(self, stage, resumed):
        name, options = pathlib.PurePath(stage.script).name, []
        if name in _ON_SEVERAL:
            options += ['--num_processes', str(self.processes)]
        if name in _WITH_WORKERS and self.plan.settings.get('NUM_WORKERS'):
            options += ['--num_workers', self.plan.settings['NUM_WORKERS']]
        if resumed and stage.trains:
            # The recipe is the same; what may have changed is the number of processes.
            options += ['--resume', *(['--accept_changes'] if self.overwrite else [])]
        if name == 'make_synthetic.py' and self.overwrite:
            options.append('--overwrite')
        return options

    def _environment(self, stage):
        gpus = self.plan.settings.get('GPUS')
        return {'SPML_STAGE': stage.name, **({'CUDA_VISIBLE_DEVICES': gpus} if gpus else {})}

    def _keep_lists(self):
        """Copy the lists of this run to `lists/`, next to those of the pseudo labels."""
        for name in _LISTS:
            path = pathlib.Path(self.plan.settings.get(name) or '/')
            if path.is_file():
                shutil.copyfile(path, self.run_dir / 'lists' / f'input_{path.name}')

    @contextlib.contextmanager
    def _locked(self):
        """Hold the folder of the run alone; yield the lock's file descriptor.

        SpmlError: another pipeline is running there, or the folder cannot be written.
        """
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.run_dir / '.lock', os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise SpmlError(f'{self.run_dir}: cannot be written ({error.strerror}); set SNAPSHOT_ROOT to a folder that '
                            'can') from None
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SpmlError(f'{self.run_dir}: another pipeline runs there; wait for it or set RUN_NAME') from None
            except OSError:  # without locks on the disk, the user has to start one at a time
                pass
            yield handle
        finally:
            os.close(handle)


def _version():
    """Return the code's commit, or its version where there is no git."""
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ['git', '-C', str(PROJECT), 'describe', '--always', '--dirty', '--abbrev=12']
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603
    return __version__
