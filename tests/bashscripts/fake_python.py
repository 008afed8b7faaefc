"""Stand in for Python in the tests of the bash scripts: record the arguments and write what the real scripts would.

Fails where the arguments hold $FAKE_FAIL; waits in the script $FAKE_WAIT; $FAKE_LAZY writes nothing; torch sees
$FAKE_GPUS GPUs; train.py leaves a snapshot at once where $FAKE_SNAPSHOT is set.
"""
import itertools
import json
import os
import pathlib
import sys
import time


def write(path, text='x'):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_outputs(script, option):
    if script in ('train.py', 'train_classifier.py'):
        for name in ('model-9.pth', 'model-10.pth', 'model-10.state.pth'):
            write(f'{option["--snapshot_dir"]}/{name}')
    elif script == 'prototype.py':
        write(f'{option["--save_dir"]}/semantic_prototype/a.npz')
    elif script in ('inference.py', 'pseudo_label.py'):
        write(f'{option["--save_dir"]}/semantic_gray/a.png')
        if '--list_out' in option:
            write(option['--list_out'])
    elif script.startswith('benchmark_by_'):
        write(option['--json'], json.dumps({'mean_iou': 0.25}))
    elif script == 'contact_sheet.py':
        write(option['--out'])
    elif script == 'make_synthetic.py':
        for name in ('train_scribble', 'train_point', 'train_box', 'train_tag', 'train_full', 'val'):
            write(f'{option["--out"]}/lists/{name}.txt')


def main(args):
    if args[0] == '-c':
        print(os.environ.get('FAKE_GPUS', '0'))
        return 0
    with open(os.environ['FAKE_CALLS'], 'a') as out:
        out.write(json.dumps({'args': args, 'visible': os.environ.get('CUDA_VISIBLE_DEVICES')}) + '\n')
    script = next(a for a in args if a.endswith('.py')).rsplit('/', 1)[-1]
    option = {name: value for name, value in itertools.pairwise(args) if name.startswith('--')}
    if 'FAKE_SNAPSHOT' in os.environ and script == 'train.py':
        write(f'{option["--snapshot_dir"]}/model-4.pth')
        write(f'{option["--snapshot_dir"]}/model-4.state.pth')
    if os.environ.get('FAKE_FAIL') and os.environ['FAKE_FAIL'] in ' '.join(args):
        print('sorry, no luck')
        return 3
    if script == os.environ.get('FAKE_WAIT'):
        print('waiting', flush=True)
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            return 130
    if script != os.environ.get('FAKE_LAZY'):
        write_outputs(script, option)
    print('stage output', script)
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
