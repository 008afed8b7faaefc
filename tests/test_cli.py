import argparse
import errno
import os
import pathlib
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from spml.cli import arguments
from spml.errors import CheckpointError, ConfigError, DataError, SpmlError
from spml.program import check_name, execute
from spml.training.loop import InterruptedTrainingError

ROOT = pathlib.Path(__file__).parents[1]


def status_of(main):
    with pytest.raises(SystemExit) as caught:
        execute(main)
    return caught.value.code


def failing(error):
    def main():
        raise error
    return main


REFUSALS = [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EFBIG, errno.EDQUOT,
            errno.ESTALE, errno.ENAMETOOLONG]


@pytest.mark.parametrize(('main', 'line'), [
    *((failing(kind('list.txt:3: no such\n  file')), 'list.txt:3: no such file\n')
      for kind in (SpmlError, ConfigError, DataError, CheckpointError)),
    # What a message quotes cannot write to the terminal.
    (failing(SpmlError('a\x1b[2Jb\x85c\x00\u2028d grün')), 'a?[2Jb c? d grün\n'),
    (pathlib.Path('/absent.txt').read_text, '/absent.txt: '),
    *((failing(OSError(number, 'refused', '/some/file')), '/some/file: refused; ') for number in REFUSALS),
    *((exhaust, 'out of memory (') for exhaust in (
        lambda: np.empty(2 ** 55, np.uint8), lambda: bytearray(2 ** 62),
        lambda: cv2.copyMakeBorder(np.zeros((1, 1, 3)), 2 ** 30, 0, 2 ** 30, 0, 0)))])
def test_a_users_mistake_and_what_the_machine_refuses_is_one_line_and_status_2(capsys, main, line):
    assert status_of(main) == 2
    out, err = capsys.readouterr()
    assert out == ''
    assert err.startswith(f'error: {line}')
    assert err.count('\n') == 1


def test_success_is_status_0(capsys):
    assert [status_of(lambda: None), status_of(lambda: 0), status_of(lambda: 3)] == [0, 0, 3]
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize(('error', 'words'), [
    (KeyboardInterrupt(), 'continue'),
    (InterruptedTrainingError('stopped after iteration 7; continue with --resume'), 'continue with --resume')])
def test_an_interrupt_is_status_130_and_says_how_to_go_on(capsys, error, words):
    assert status_of(failing(error)) == 130
    err = capsys.readouterr().err
    assert words in err
    assert 'Traceback' not in err


def test_sigterm_ends_a_script_as_an_interrupt_does(capsys):
    before, cleaned = signal.getsignal(signal.SIGTERM), []

    def main():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleaned.append(True)

    assert status_of(main) == 130
    assert cleaned
    assert 'run the same command again to continue' in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


SCRIPTS = [['pyscripts/train/train.py'], ['pyscripts/inference/segment.py'], ['pyscripts/data/make_synthetic.py'],
           ['-m', 'spml.pipeline'], ['-m', 'spml.config']]


def interrupted_import(folder, words, stderr=subprocess.PIPE, **variables):
    """Start a script whose import of yaml gets a Ctrl-C, and swallows the exception if there is one."""
    (folder / 'yaml.py').write_text('import os, signal, time\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\n'
                                    '    time.sleep(60)\nexcept KeyboardInterrupt:\n    raise ImportError("lost")\n')
    environment = {**os.environ, 'PYTHONPATH': f'{folder}{os.pathsep}{ROOT}', **variables}
    return subprocess.run([sys.executable, *words], env=environment, cwd=ROOT, stdout=subprocess.PIPE,
                          stderr=stderr, text=True, check=False, timeout=60)


@pytest.mark.parametrize('words', SCRIPTS)
def test_an_interrupt_while_a_script_imports_is_one_line(tmp_path, words):
    ended = interrupted_import(tmp_path, words)
    assert (ended.returncode, ended.stdout) == (130, '')
    assert ended.stderr == '\ninterrupted; what was complete is kept, run the same command again to continue\n'


@pytest.mark.parametrize('variables', [{'SPML_STAGE': 'train_embedding'}, {'RANK': '1'}])
def test_an_interrupt_while_importing_is_reported_by_one(tmp_path, variables):
    ended = interrupted_import(tmp_path, SCRIPTS[0], **variables)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, '', '')


def test_an_interrupt_while_importing_ends_a_script_that_nobody_reads(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    ended = interrupted_import(tmp_path, SCRIPTS[0], stderr=writer)
    os.close(writer)
    assert (ended.returncode, ended.stdout) == (130, '')


def test_programs_that_import_spml_keep_their_interrupts(tmp_path):
    program = tmp_path / 'train.py'
    program.write_text('import signal, spml\nassert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n')
    subprocess.run([sys.executable, str(program)], check=True, env={**os.environ, 'PYTHONPATH': str(ROOT)})


def test_within_execute_an_interrupt_is_an_exception_again():
    program = ('import signal\nfrom spml.program import execute\nfrom spml.utils import interrupt\n'
               'signal.signal(signal.SIGINT, interrupt.leave)\n'
               'def main():\n    try:\n        signal.raise_signal(signal.SIGINT)\n'
               '    except KeyboardInterrupt:\n        print("cleaned")\n        raise\n'
               'execute(main)\n')
    ended = subprocess.run([sys.executable, '-c', program], env={**os.environ, 'PYTHONPATH': str(ROOT)}, text=True,
                           capture_output=True, check=False)
    assert (ended.returncode, ended.stdout) == (130, 'cleaned\n')


def test_of_several_processes_one_says_that_they_were_interrupted(capsys, monkeypatch):
    for rank, words in (('0', 'continue'), ('1', '')):
        monkeypatch.setenv('RANK', rank)
        assert status_of(failing(KeyboardInterrupt())) == 130
        assert words in capsys.readouterr().err
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize('error', [ValueError('a bug'), OSError(errno.ENOTSUP, 'odd'), AssertionError()])
def test_a_fault_of_the_program_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        execute(failing(error))


def test_a_reader_that_went_away_is_no_success(monkeypatch, capsys):
    assert status_of(failing(BrokenPipeError())) == 141
    # Found when the last words are flushed; another status is kept.
    for main, expected in ((lambda: print('some'), 141), (lambda: print('some') or 3, 3)):
        reading, writing = os.pipe()
        os.close(reading)
        with open(writing, 'w') as out:
            monkeypatch.setattr(sys, 'stdout', out)
            assert status_of(main) == expected
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize(('parse', 'accepted', 'refused'), [
    (arguments.share, {'1': 1, '0.25': 0.25, '1e-3': 0.001}, ['0', '-0.5', '1.01', 'nan', 'inf', 'much', '']),
    (arguments.positive, {'1': 1, '2.5e3': 2500}, ['0', '-1', 'nan', 'inf', 'much', '']),
    (arguments.at_least_one, {'1': 1, '20': 20}, ['0', '-1', '1.5', 'nan', 'x', '']),
    (arguments.count, {'0': 0, '20': 20}, ['-1', '1.5', 'nan', 'x', ''])])
def test_numbers(parse, accepted, refused):
    for text, value in accepted.items():
        assert parse(text) == value
    for text in refused:
        with pytest.raises(argparse.ArgumentTypeError, match=f"^'{text}' must be a "):
            parse(text)


def test_common_options(tmp_path):
    parser = arguments.build_parser('what it does', cfg_default='none')
    args, config = arguments.parse(parser, ['--device', 'cpu'])
    assert (args.cfg_path, args.overrides, args.device, config) == (None, [], 'cpu', None)
    path = tmp_path / 'x.yaml'
    path.write_text('dataset: {num_classes: 3}\ntrain: {max_iteration: 5}\n')
    args, config = arguments.parse(parser, [
        '--cfg_path', str(path), '--set', 'network.embedding_dim=4', 'network.backbone_types=panoptic_deeplab_14',
        '--set', 'seed=3'])
    assert args.cfg_path == path
    assert (config.dataset.num_classes, config.network.embedding_dim, config.seed) == (3, 4, 3)
    with pytest.raises(SystemExit):
        arguments.parse(arguments.build_parser('what it does'), [])


def test_help_is_made_of_the_docstring_and_shows_defaults(capsys, monkeypatch):
    parser = arguments.script_parser('Do it.\n\n    python do.py --a 1 \\\n        --b 2\n\nMore words.\n')
    parser.add_argument('source')
    parser.add_argument('--needed', type=pathlib.Path, required=True, help='a folder')
    parser.add_argument('--number', type=int, default=3, help='how many')
    parser.add_argument('--grid', default=(2, 5), help='a grid')
    parser.add_argument('--share', default='50%', help='a share')
    parser.add_argument('--names', default=[], help='some names')
    parser.add_argument('--flag', action='store_true', help='a switch')
    parser.add_argument('--told', help='a word (default: the name)')
    monkeypatch.setenv('COLUMNS', '300')
    with pytest.raises(SystemExit):
        parser.parse_args(['--help'])
    text = capsys.readouterr().out
    purpose, options = text.split('options:')
    assert purpose.index('Do it.') < purpose.index('More words.')
    assert 'python do.py' not in purpose
    assert text.endswith('example:\n  python do.py --a 1 \\\n      --b 2\n')
    entries = [' '.join(line.split()) for line in options.splitlines()]
    for entry in ('--needed DIR a folder (required)', '--number N how many (default: 3)',
                  '--grid GRID a grid (default: 2,5)', '--share SHARE a share (default: 50%)',
                  '--names NAMES some names (default: none)', '--flag a switch (default: off)',
                  '--told TOLD a word (default: the name)', '-h, --help show this help message and exit'):
        assert entry in entries


def test_required_options_are_named_together():
    args = argparse.Namespace(a=None, b=1, c=None)
    with pytest.raises(SpmlError, match=r'^--source x needs --a and --c$'):
        arguments.require(args, '--source x', 'a', 'b', 'c')
    arguments.require(args, '--source x', 'b')


# File names that are not UTF-8

ODD = 'caf\udce9'  # Latin-1, as Python reads it from a folder


def test_words_of_a_command_line_that_are_not_utf_8_are_refused_before_anything_is_done(capsys, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['script', '--data_dir', f'/photos/{ODD}'])
    assert status_of(lambda: pytest.fail('this must not run')) == 2
    assert capsys.readouterr().err == ('error: /photos/caf\\xe9: a file name that is not UTF-8; rename it '
                                       '(convmv and detox do so for whole folders)\n')


@pytest.mark.parametrize('main', [
    lambda: f'a b\nx {ODD}.jpg z\n'.encode(), lambda: check_name(pathlib.Path(f'{ODD}.jpg')),
    failing(DataError(f'{ODD}.jpg: damaged'))])
def test_a_name_that_is_not_utf_8_is_escaped_in_one_line(capsys, main):
    assert status_of(main) == 2
    err = capsys.readouterr().err
    assert err.startswith('error: caf\\xe9.jpg: ')
    assert err.count('\n') == 1


def test_other_text_that_cannot_be_written_is_a_fault_of_the_program():
    with pytest.raises(UnicodeEncodeError):
        execute(lambda: 'ä'.encode('ascii'))


@pytest.mark.parametrize('script', sorted(path.stem for path in pathlib.Path('pyscripts').glob('*/[a-z]*.py')))
def test_every_script_refuses_such_a_name(call_script, tmp_path, script):
    status, _, err = call_script(script, '--data_dir', f'{tmp_path}/{ODD}')
    assert (status, err.count('\n')) == (2, 1)
    assert f'error: {tmp_path}/caf\\xe9: a file name that is not UTF-8' in err


def test_such_names_in_folders_are_named(fails, tmp_path):
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / f'{ODD}.png').write_bytes(cv2.imencode('.png', np.zeros((4, 4, 3)))[1].tobytes())
    (tmp_path / 'classes.txt').write_text('background\ncat\n')
    fails('prepare_custom', '--images', tmp_path / 'photos', '--masks', tmp_path / 'photos', '--classes',
          tmp_path / 'classes.txt', '--out', tmp_path / 'out', naming=['photos/caf\\xe9.png', 'not UTF-8'])
    fails('segment', tmp_path / 'photos', '--run', tmp_path, naming=['photos/caf\\xe9.png', 'not UTF-8'])
    fails('benchmark_by_mIoU', '--pred_dir', tmp_path / 'photos', '--gt_dir', tmp_path, '--num_classes', 3,
          naming=['photos/caf\\xe9.png', 'not UTF-8'])


def test_of_a_very_long_message_both_ends_are_shown(capsys):
    assert status_of(failing(DataError('a.json: ' + '[' * 9000 + ' is no size; export it again'))) == 2
    err = capsys.readouterr().err
    assert len(err) < 2000
    assert err.startswith('error: a.json: [[')
    assert err.endswith('[[ is no size; export it again\n')
