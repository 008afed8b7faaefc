"""Stands in for the scripts of a pipeline: notes what it is told and writes what the real one would.

Copied under the names of scripts. `behaviour.json` next to it says by stage what it does otherwise: `fail` (a status),
`wait` (seconds, during which SIGINT and SIGTERM are counted and end it with status 130 after writing `saved`),
`lazy` (writes nothing).
"""
import json
import os
import pathlib
import signal
import sys
import time

HERE = pathlib.Path(__file__).parent


def write(path, text='x'):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def wait(seconds):
    if not seconds:
        return

    def stop(number, frame):
        write(HERE / 'saved', signal.Signals(number).name)
        sys.exit(130)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    write(HERE / 'waiting')
    for _ in range(10 * seconds):
        print('waiting', flush=True)
        time.sleep(0.1)


def main(script, words):
    stage = os.environ['SPML_STAGE']
    option = {name: value for name, value in zip(words, [*words[1:], ''], strict=True) if name.startswith('--')}
    with open(HERE / 'calls.jsonl', 'a') as out:
        out.write(json.dumps({'stage': stage, 'words': words, 'gpus': os.environ.get('CUDA_VISIBLE_DEVICES')}) + '\n')
    behaviour = json.loads((HERE / 'behaviour.json').read_text()).get(stage, {})
    print('output of', stage)
    if script.startswith('train') and 'fail' in behaviour:
        write(f'{option["--snapshot_dir"]}/model-4.pth')
    wait(behaviour.get('wait', 0))
    if behaviour.get('fail') or behaviour.get('lazy'):
        return behaviour.get('fail', 0)
    if script.startswith('train'):
        for name in ('model-9.pth', 'model-10.pth'):
            write(f'{option["--snapshot_dir"]}/{name}', (HERE / 'weights').read_text())
    elif script in ('inference.py', 'pseudo_label.py'):
        write(f'{option["--save_dir"]}/semantic_gray/a.png', script)
        if '--list_out' in option:
            write(option['--list_out'], f'a.jpg {option["--save_dir"]}/semantic_gray/a.png\n')
    elif '--json' in option:
        write(option['--json'], json.dumps({'mean_iou': 0.25, 'iou': {'cat': 0.5, 'dog': 0},
                                            'absent_classes': ['dog']}))
    return 0


if __name__ == '__main__':
    sys.exit(main(pathlib.Path(__file__).name, sys.argv[1:]))
