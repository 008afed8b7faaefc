"""What a pipeline prints at its end: its scores, and where results and pictures are."""
from spml.evaluation.scores import format_summary
from spml.pipeline.record import NO_TRUTH, lacks_truth


def closing(run_dir, plan):
    """Return the closing text of a run.

    Raises:
        DataError: a score is missing or damaged.
    """
    scores = [(stage.title, stage.output) for stage in plan.stages if stage.title]
    pictures = [stage.output for stage in plan.stages if stage.output.suffix == '.png']
    lines = ['', format_summary(scores), ''] if scores else ['']
    if not scores and lacks_truth(plan.settings):
        lines.append(f'scores:   none; {NO_TRUTH}')
    lines.append(f'results:  {run_dir}')
    lines += [f'pictures: {path} (overview)' for path in pictures]
    lines.append(f'          {run_dir}/*/semantic_color (each prediction, in colour)')
    return '\n'.join(lines)
