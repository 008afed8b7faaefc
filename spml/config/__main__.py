"""Print every configuration key with its values, default and meaning: `python -m spml.config`."""
from spml import cli
from spml.config import describe


def main():
    """Print the table."""
    print(describe())


if __name__ == '__main__':
    cli.run(main)
